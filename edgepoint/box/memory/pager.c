/*
 * Memory of an instance that is about to be frozen, compressed better than the kernel does it.
 *
 *   edgepoint-box pager --cgroup FOLDER --instance PID --held FILE --socket PATH --most BYTES [--keep FILE]
 *
 * stops all of the instance (inject.c), takes what private anonymous memory its processes have into a store (take.c, store.c), but for
 * the ranges named in the file KEEP, and has them drop it; userfaultfd(2) then tells when they want it again. Where an earlier pager of
 * the instance listens at PATH, this one takes over what that holds, and adds to it (hand-over.c). On stdout, a line each:
 *
 *   refused WHY     it runs on, and nothing was taken
 *   stopped         nothing of it runs any more
 *   stored TAKEN    so many bytes of it have been dropped; it is stopped until stdin ends, by when the freezer should hold it
 *   held BYTES      what of them this program holds, compressed. It has let go of the processes and gives them what they ask for.
 *
 * When stdin ends earlier, no more is taken than has been by then. Afterwards it can be asked by its socket, a byte for each wish:
 *
 *   F   give everything back now      S   say how much is held and how much of it is missing still: "HELD MISSING\n"
 *
 * Two processes hold the memory, as those of a lazy restore do (pages-guard.c), and lock the file HELD as long as memory is missing,
 * under another name until the first of it is; in the end it says `done`, or why the memory is not there.
 */
#define _GNU_SOURCE
#include "pager.h"
#include "../box.h"
#include "inject.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEAST_BYTES (16u << 20) /* less is not worth two processes */
#define LEAST_MORE_BYTES (1u << 20)
#define REST_BYTES (4u << 20)   /* when no more is missing it is given unasked, and all of this ends */
#define MOST_CONNECTIONS 8
#define WORK_NICE 5             /* whoever waits for an answer comes first; at 19 a busy machine never came to it */
#define SERVER_NICE (-10)       /* who waits for a page waits for this process */
#define MOST_DESCRIPTORS 4096
#define LOOK_MS 2000            /* whether a process has gone, or executed another program: nothing tells */
/*
 * So much asked for within a second is no answer but work on the whole of it, a garbage collection mostly: then all is given in the background.
 * The first answer after a thaw asks for some 6 MB.
 */
#define BURST_MS 1000
#define BURST_BYTES (16u << 20)
#define BURST_SHARE 32 /* and at least this part of what is missing */
#define BURST_LOOK 64 /* messages between two looks */
#define MOST_MESSAGES 200000    /* some seconds of work for an instance, which nobody bills: then all is given back, and it is on its own */
#define END_MS 1000             /* for a pager that is about to end */

static struct order {
  const char *cgroup, *held, *socket, *keep;
  pid_t instance;
  uint64_t most;
} order = {.most = ~0ull};

/* Between the guard and the server. */
static struct shared {
  int holding; /* something is missing somewhere */
  int listener;
  int connections[MOST_CONNECTIONS];
  size_t connected;
} *shared;

static struct store *store;
static int held_file = -1;
static char held_aside[4096];

static void hold(void) { __atomic_store_n(&shared->holding, 1, __ATOMIC_SEQ_CST); }

/* From now on the end of both of our processes is the end of the instance. */
static void begin_holding(void) {
  if (!shared->holding && rename(held_aside, order.held)) fail("make %s", order.held);
  hold();
}

static int told_to_end(void) {
  struct pollfd polled = {.fd = STDIN_FILENO, .events = POLLIN};
  return poll(&polled, 1, 0) > 0;
}

static int go_on(void) { return !told_to_end(); }

/* An earlier pager that does not listen any more is ending, or the instance is because of it. */
static void wait_for_its_end(void) {
  uint64_t deadline = now_ns() + END_MS * 1000000ull;
  int file = open(order.held, O_RDONLY | O_CLOEXEC);
  while (file >= 0 && flock(file, LOCK_SH | LOCK_NB)) {
    if (now_ns() > deadline) fail("%s is held", order.held);
    poll(NULL, 0, 1);
  }
  if (file >= 0) close(file);
}

static int open_held(void) {
  unlink(held_aside);
  int file = open(held_aside, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0 || flock(file, LOCK_EX | LOCK_NB)) fail("lock %s", held_aside);
  return file;
}

static uint64_t missing_bytes(void) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < memory_count; i++)
    for (size_t e = 0; e < memories[i].missing.count; e++) bytes += memories[i].missing.list[e].end - memories[i].missing.list[e].start;
  return bytes;
}

/* Without the blocks of which all has been given back, when they are a quarter and more. */
static void tidy_store(void) {
  size_t *marks = calloc(block_count(store) + 1, sizeof *marks);
  if (!marks) fail("memory for a store");
  for (size_t i = 0; i < memory_count; i++)
    for (size_t e = 0; e < memories[i].missing.count; e++) {
      struct extent extent = memories[i].missing.list[e];
      for (uint64_t at = extent.offset / BLOCK_BYTES; at * BLOCK_BYTES < extent.offset + (extent.end - extent.start); at++) marks[at] = 1;
    }
  if (marked_bytes(store, marks) < store_bytes(store) / 4 * 3) {
    keep_blocks(store, marks); /* an extent's blocks are all kept, so they lie side by side as before */
    for (size_t i = 0; i < memory_count; i++)
      for (size_t e = 0; e < memories[i].missing.count; e++) {
        uint64_t *offset = &memories[i].missing.list[e].offset;
        *offset = marks[*offset / BLOCK_BYTES] * BLOCK_BYTES + *offset % BLOCK_BYTES;
      }
  }
  free(marks);
}

enum wish { NO_WISH, FILL, HAND_OVER, OVER };

static enum wish hear_wish(int connection) {
  char wish, text[64];
  ssize_t got = read(connection, &wish, 1);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return NO_WISH;
  if (got <= 0) return OVER;
  if (wish == 'F') return FILL;
  if (wish == 'T') return HAND_OVER;
  if (wish != 'S') return NO_WISH;
  int length = snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 "\n", store_bytes(store), missing_bytes());
  return send(connection, text, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT) == length ? NO_WISH : OVER;
}

/* One whose process has ended or executed another program tells nothing; this asks (ENOENT: nothing is mapped there). */
static int is_gone(int uffd) {
  struct uffdio_writeprotect nothing = {.range = {.start = 1u << 20, .len = PAGE_BYTES}};
  return ioctl(uffd, UFFDIO_WRITEPROTECT, &nothing) && errno == ESRCH;
}

static void drop_finished(int look) {
  for (size_t i = memory_count; i-- > 0;)
    if (memories[i].missing.count == 0 || (look && is_gone(memories[i].uffd))) drop_memory(i);
}

/* What was missing when the second began. */
struct window {
  uint64_t begun_ns, missing;
};

/* Whether what was given since the window began is a burst; a window ends after a second. */
static int is_burst(struct window *window, uint64_t now, uint64_t missing) {
  if (now - window->begun_ns > BURST_MS * 1000000ull) *window = (struct window){now, missing};
  uint64_t given = window->missing > missing ? window->missing - missing : 0;
  return given >= BURST_BYTES && given >= window->missing / BURST_SHARE;
}

/* Until nothing is missing: true; or another pager has it all. */
static int serve(void) {
  int *connections = shared->connections, filling = 0;
  uint64_t looked = now_ns(), counted = messages_heard();
  struct window window = {looked, missing_bytes()};
  for (;;) {
    int look = now_ns() - looked > LOOK_MS * 1000000ull;
    if (look) looked = now_ns();
    drop_finished(look);
    if (memory_count == 0) return 1;
    if (!filling && messages_heard() - counted >= BURST_LOOK) {
      counted = messages_heard();
      filling = is_burst(&window, now_ns(), missing_bytes());
    }
    if ((look && missing_bytes() < REST_BYTES) || messages_heard() > MOST_MESSAGES) filling = 1;
    struct pollfd polled[1 + MOST_CONNECTIONS];
    size_t known = shared->connected;
    polled[0] = (struct pollfd){.fd = known < MOST_CONNECTIONS ? shared->listener : -1, .events = POLLIN};
    for (size_t i = 0; i < known; i++) polled[1 + i] = (struct pollfd){.fd = connections[i], .events = POLLIN};
    hear_memories(polled, 1 + known, filling ? 0 : faults_wait() ? 1 : LOOK_MS);
    for (size_t i = known; i-- > 0;) {
      enum wish wish = polled[1 + i].revents ? hear_wish(connections[i]) : NO_WISH;
      if (wish == FILL) filling = 1;
      if (wish == HAND_OVER && hand_over(connections[i], held_file, store)) {
        ask_again(); /* the other one */
        return 0;
      }
      if (wish != OVER && wish != HAND_OVER) continue;
      close(connections[i]);
      connections[i] = connections[--shared->connected];
    }
    if (polled[0].revents) {
      int connection = accept4(shared->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (connection >= 0) connections[shared->connected++] = connection;
    }
    if (filling) fill();
  }
}

/* When most of what was taken is back, the store and what it has learnt are of the past. */
static void begin_anew(void) {
  while (fill());
  close_store(store);
  store = NULL;
}

/* The bytes that were taken, or why none. */
static uint64_t take_all(const char **why) {
  drop_finished(1);
  uint64_t total = look_for_memory();
  if (store && missing_bytes() < total / 2) {
    begin_anew();
    total = look_for_memory();
  }
  *why = "it has too little memory of its own";
  if (total < (store ? LEAST_MORE_BYTES : LEAST_BYTES)) return 0;
  int fresh = store == NULL;
  if (fresh) store = open_store();
  else tidy_store();
  make_room(store, total, order.most);
  if (fresh) sample_memory(store, total);
  *why = "it was thawed before";
  uint64_t taken = take_memory(store, begin_holding, go_on, why);
  end_writing(store);
  return taken;
}

__attribute__((noreturn)) static void work(void) {
  setpriority(PRIO_PROCESS, 0, WORK_NICE);
  no_more_mappings();
  start_reader();
  store = take_over(order.socket, hold, &held_file);
  if (!store) {
    wait_for_its_end();
    held_file = open_held();
  }
  shared->listener = connect_or_listen(order.socket, 0);
  uint64_t taken = 0;
  const char *why = stop_processes(order.cgroup, serve_meanwhile);
  if (!why) {
    puts("stopped");
    taken = take_all(&why);
  }
  if (taken > 0) {
    printf("stored %" PRIu64 "\n", taken);
    while (go_on()) serve_meanwhile(STDIN_FILENO);
  }
  hear_no_removals(0);
  release_stopped();
  end_reader();
  if (!shared->holding) unlink(held_aside);
  if (taken > 0) printf("held %" PRIu64 "\n", store_bytes(store));
  else printf("refused %s\n", why);
  fflush(stdout);
  if (!shared->holding) _exit(0);
  release_rest();
  setpriority(PRIO_PROCESS, 0, SERVER_NICE);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, STDIN_FILENO);
  dup2(null, STDOUT_FILENO);
  if (dup2(held_file, STDERR_FILENO) < 0) fail("keep %s", order.held); /* so that fail() writes there */
  keep_pager_rights();
  if (serve() && write(STDERR_FILENO, "done\n", 5) != 5) _exit(1);
  _exit(0);
}

static void wait_for(int process) {
  struct pollfd polled = {.fd = process, .events = POLLIN};
  while (poll(&polled, 1, -1) < 0 && errno == EINTR);
}

/* Until the server has ended; when it should not have, the instance must not go on with zeros for its memory. */
static int guard(pid_t server, int server_process, int instance) {
  struct pollfd polled[2] = {{.fd = server_process, .events = POLLIN}, {.fd = instance, .events = POLLIN}};
  int status;
  keep_guard_rights();
  while (!polled[0].revents && !polled[1].revents)
    if (poll(polled, 2, -1) < 0 && errno != EINTR) fail("poll");
  if (polled[1].revents) syscall(SYS_pidfd_send_signal, server_process, SIGKILL, NULL, 0); /* nobody wants its memory any more */
  if (waitpid(server, &status, 0) != server) fail("wait for the pager");
  if (polled[1].revents || status == 0) return 0;
  if (!__atomic_load_n(&shared->holding, __ATOMIC_SEQ_CST)) return 1;
  close(shared->listener); /* whoever waits for us to end need not wait for the instance */
  for (size_t i = 0; i < shared->connected; i++) close(shared->connections[i]);
  if (syscall(SYS_pidfd_send_signal, instance, SIGKILL, NULL, 0) && errno != ESRCH) fail("end the instance");
  /* Who waits for our words would not thaw it before our end. */
  close(STDOUT_FILENO);
  close(STDERR_FILENO);
  wait_for(instance); /* while it is frozen it dies only when it is thawed */
  return 1;
}

static char *value(char ***option) {
  if (!(*option)[1]) fail("%s wants a value", **option);
  return *++*option;
}

int pager(char **options) {
  for (char **option = options; *option; option++) {
    if (!strcmp(*option, "--cgroup")) order.cgroup = value(&option);
    else if (!strcmp(*option, "--instance")) order.instance = (pid_t)atoi(value(&option));
    else if (!strcmp(*option, "--held")) order.held = value(&option);
    else if (!strcmp(*option, "--socket")) order.socket = value(&option);
    else if (!strcmp(*option, "--most")) order.most = strtoull(value(&option), NULL, 10);
    else if (!strcmp(*option, "--keep")) order.keep = value(&option);
    else fail("unknown option %s", *option);
  }
  errno = EINVAL;
  if (!order.cgroup || order.instance <= 0 || !order.held || !order.socket) fail("--cgroup, --instance, --held or --socket is missing");
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (setsid() < 0) fail("setsid"); /* pages-guard.c says why */
  signal(SIGPIPE, SIG_IGN); /* the instance goes on also when nobody hears of it any more */
  struct rlimit most = {MOST_DESCRIPTORS, MOST_DESCRIPTORS};
  setrlimit(RLIMIT_NOFILE, &most);
  if (order.keep) read_kept(order.keep);
  snprintf(held_aside, sizeof held_aside, "%s.new", order.held);
  int instance = (int)syscall(SYS_pidfd_open, order.instance, 0);
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (instance < 0 || shared == MAP_FAILED) fail("hold the instance");
  pid_t server = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
  if (server < 0) fail("start the pager");
  if (server == 0) work();
  int server_process = (int)syscall(SYS_pidfd_open, server, 0);
  if (server_process < 0) fail("hold the pager");
  printf("pages %d\n", server);
  return guard(server, server_process, instance);
}
