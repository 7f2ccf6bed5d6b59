/*
 * Memory of an instance that is about to be frozen, compressed better than the kernel does it.
 *
 *   edgepoint-box pager --cgroup FOLDER --instance PID --held FILE --socket PATH --most BYTES [--keep FILE]
 *
 * stops all of the instance (inject.c), takes what private anonymous memory its processes have into a store (store.c), but for the
 * ranges named in the file KEEP, and has them drop it; userfaultfd(2) then tells when they want it again. On stdout, a line each:
 *
 *   refused WHY     it runs on, and nothing has changed; that was all
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
#include "box.h"
#include "inject.h"
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
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
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEAST_BYTES (16u << 20)    /* less is not worth two processes */
#define BATCH_BYTES (1u << 20)     /* stored, then dropped, then asked whether to go on: some 4 ms of work */
#define READ_BYTES (256u << 10)
#define DICTIONARY_BYTES (1u << 20)
#define DICTIONARY_PART 64         /* of what is stored, at most */
#define MOST_PROCESSES_STORED 256
#define MOST_CONNECTIONS 8
#define WORK_NICE 19               /* whoever waits for an answer comes first */
#define SERVER_NICE (-10)          /* who waits for a page waits for this process */
#define MOST_DESCRIPTORS 4096
#define LOOK_MS 2000               /* whether a process has gone, or executed another program: nothing tells */
#define REST_BYTES (4u << 20)      /* when no more is missing it is given unasked, and all of this ends */
#define ENTRIES 512
/* pagemap (Documentation/admin-guide/mm/pagemap.rst) */
#define PAGE_PRESENT (1ull << 63)
#define PAGE_OF_FILE (1ull << 61)
#define PAGE_EXCLUSIVE (1ull << 56)

struct order {
  const char *cgroup, *held, *socket, *keep;
  pid_t instance;
  uint64_t most;
};

/* Between the guard and the server. */
struct shared {
  int holding; /* something is missing somewhere */
  int connections[MOST_CONNECTIONS];
  size_t connected;
};

struct run {
  uint64_t start, end;
};

/* What can be taken of a process, and the mappings it lies in, each from its first such page to its last. */
struct taking {
  pid_t process;
  struct run *runs, *mappings;
  size_t run_count, run_room, mapping_count, mapping_room;
};

static struct taking takings[MOST_PROCESSES_STORED];
static size_t taking_count;
static struct kept {
  uint64_t pid, start, end;
} *kept;
static size_t kept_count;
static struct store *store;
static struct shared *shared;
static int held_file = -1;
static char held_aside[4096];

static void add_run(struct run **list, size_t *count, size_t *room, uint64_t start, uint64_t end) {
  if (*count > 0 && (*list)[*count - 1].end == start) {
    (*list)[*count - 1].end = end;
    return;
  }
  if (*count == *room && !(*list = realloc(*list, (*room = *room ? 2 * *room : 64) * sizeof **list))) fail("memory for a list");
  (*list)[(*count)++] = (struct run){start, end};
}

static void read_kept(const char *path) {
  FILE *file = fopen(path, "re");
  if (!file) fail("open %s", path);
  struct kept range;
  size_t room = 0;
  while (fscanf(file, "%" SCNx64 " %" SCNx64 " %" SCNx64, &range.pid, &range.start, &range.end) == 3) {
    if (kept_count == room && !(kept = realloc(kept, (room = room ? 2 * room : 1024) * sizeof *kept))) fail("read %s", path);
    kept[kept_count++] = range;
  }
  fclose(file);
}

/* The first address behind `at` where keeping begins or ends, and whether what lies before it is kept; ranges lie in order. */
static int is_kept(pid_t process, uint64_t at, uint64_t *until) {
  static size_t hint;
  if (hint >= kept_count || kept[hint].pid != (uint64_t)process || kept[hint].start > at) hint = 0;
  for (; hint < kept_count; hint++) {
    if (kept[hint].pid != (uint64_t)process || kept[hint].end <= at) continue;
    *until = kept[hint].start > at ? kept[hint].start : kept[hint].end;
    return kept[hint].start <= at;
  }
  *until = ~0ull;
  return 0;
}

/* Pages that are there, anonymous, and nobody else's since a fork. */
static void take_pages(struct taking *taking, int pagemap, uint64_t start, uint64_t end) {
  uint64_t entries[ENTRIES], until = start, first = 0, last = 0;
  int keep = 0;
  for (uint64_t at = start; at < end;) {
    uint64_t pages = (end - at) / PAGE_BYTES;
    if (pages > ENTRIES) pages = ENTRIES;
    ssize_t got = pread(pagemap, entries, pages * sizeof *entries, (off_t)(at / PAGE_BYTES * sizeof *entries));
    if (got < (ssize_t)sizeof *entries) break;
    for (size_t i = 0; i < (size_t)got / sizeof *entries; i++, at += PAGE_BYTES) {
      if (at >= until) keep = is_kept(taking->process, at, &until);
      if (keep || (entries[i] & (PAGE_PRESENT | PAGE_OF_FILE | PAGE_EXCLUSIVE)) != (PAGE_PRESENT | PAGE_EXCLUSIVE)) continue;
      add_run(&taking->runs, &taking->run_count, &taking->run_room, at, at + PAGE_BYTES);
      if (!last) first = at;
      last = at + PAGE_BYTES;
    }
  }
  if (last) add_run(&taking->mappings, &taking->mapping_count, &taking->mapping_room, first, last);
}

/*
 * Flags of a mapping that do no harm (proc(5), VmFlags). Among the others are: locked, of a device, growing downwards, handled by
 * somebody's userfaultfd already, of huge pages, wiped at a fork. One that is left out at a fork (V8's) is not there in the child, and
 * what is never given there is never asked for.
 */
static int is_plain(char *flags) {
  static const char *const harmless[] = {"rd", "wr", "ex", "mr", "mw", "me", "ac", "nr", "sd", "hg", "nh", "mg", "dd", "dc"};
  for (char *flag = strtok(flags, " \n"); flag; flag = strtok(NULL, " \n")) {
    size_t at = 0;
    while (at < sizeof harmless / sizeof harmless[0] && strcmp(flag, harmless[at])) at++;
    if (at == sizeof harmless / sizeof harmless[0]) return 0;
  }
  return 1;
}

/* Asynchronous input (io_setup(2)) may still write to pages while all threads stand: such a process is left alone. */
static void look_at(pid_t process) {
  if (taking_count == MOST_PROCESSES_STORED) return;
  struct taking *taking = &takings[taking_count];
  *taking = (struct taking){.process = process};
  char path[64], line[8192], permissions[5];
  unsigned long inode = 1;
  uint64_t start = 0, end = 0, from, to;
  int anonymous = 0, name = 0, asynchronous = 0;
  snprintf(path, sizeof path, "/proc/%d/pagemap", process);
  int pagemap = open(path, O_RDONLY | O_CLOEXEC);
  snprintf(path, sizeof path, "/proc/%d/smaps", process);
  FILE *maps = fopen(path, "re");
  while (pagemap >= 0 && maps && fgets(line, sizeof line, maps)) {
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*s %lu %n", &from, &to, permissions, &inode, &name) == 4) {
      start = from, end = to;
      const char *called = line + name;
      anonymous = inode == 0 && !strncmp(permissions, "rw", 2) && permissions[3] == 'p' && (*called == 0 || !strncmp(called, "[heap]", 6) || !strncmp(called, "[anon:", 6));
      asynchronous |= strstr(called, "[aio]") != NULL;
    } else if (anonymous && !strncmp(line, "VmFlags:", 8) && is_plain(line + 8)) take_pages(taking, pagemap, start, end);
  }
  if (maps) fclose(maps);
  if (pagemap >= 0) close(pagemap);
  if (taking->run_count > 0 && !asynchronous) taking_count++;
}

/* One that shares its memory with another (vfork(2), CLONE_VM) would drop it for both, of which only one tells us. */
static void look_at_all(void) {
  static pid_t processes[MOST_PROCESSES_STORED * 4];
  size_t count = stopped_processes(processes, sizeof processes / sizeof processes[0]);
  for (size_t i = 0; i < count; i++) {
    int same = 0;
    for (size_t j = 0; j < count && !same; j++) same = i != j && syscall(SYS_kcmp, processes[i], processes[j], KCMP_VM, 0, 0) == 0;
    if (!same) look_at(processes[i]);
  }
}

static uint64_t bytes_of(const struct taking *taking) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < taking->run_count; i++) bytes += taking->runs[i].end - taking->runs[i].start;
  return bytes;
}

static int read_memory(pid_t process, uint64_t start, unsigned char *bytes, size_t length) {
  struct iovec here = {bytes, length}, there = {(void *)start, length};
  return process_vm_readv(process, &here, 1, &there, 1, 0) == (ssize_t)length;
}

static int is_zero(const unsigned char *page) { return page[0] == 0 && !memcmp(page, page + 1, PAGE_BYTES - 1); }

/* Pages from everywhere in what is stored, one by chance of each of as many equal parts. */
static void sample(uint64_t total) {
  size_t wanted = total / DICTIONARY_PART < DICTIONARY_BYTES ? total / DICTIONARY_PART / PAGE_BYTES : DICTIONARY_BYTES / PAGE_BYTES, found = 0, part = 0;
  unsigned char *pages = malloc(wanted * PAGE_BYTES);
  uint64_t part_pages = total / PAGE_BYTES / wanted, chance = 0x9e3779b97f4a7c15u, next = 0, passed = 0;
  if (!pages) fail("memory for a sample");
  for (size_t t = 0; t < taking_count; t++)
    for (size_t r = 0; r < takings[t].run_count; r++) {
      struct run run = takings[t].runs[r];
      uint64_t count = (run.end - run.start) / PAGE_BYTES;
      while (part < wanted && next < passed + count) {
        unsigned char *page = pages + found * PAGE_BYTES;
        if (read_memory(takings[t].process, run.start + (next - passed) * PAGE_BYTES, page, PAGE_BYTES) && !is_zero(page)) found++;
        chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
        next = ++part * part_pages + chance % part_pages;
      }
      passed += count;
    }
  set_dictionary(store, pages, found * PAGE_BYTES);
  free(pages);
}

/* While a stopped process is waited for: it may be waiting for memory, or for its dropping of memory to be heard. */
static void serve_meanwhile(int descriptor) {
  struct pollfd polled = {.fd = descriptor, .events = POLLIN};
  hear_memories(&polled, 1, faults_wait() ? 1 : 100);
}

static size_t memory_of(int uffd) {
  size_t at = 0;
  while (at < memory_count && memories[at].uffd != uffd) at++;
  return at;
}

/* Its memory's userfaultfd, ours alone; or -1, and `why` says why it has none. */
static int open_memory(pid_t process, const char **why) {
  long opened = call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0);
  *why = "userfaultfd is refused to it";
  if (opened < 0) return -1;
  int handle = (int)syscall(SYS_pidfd_open, process, 0);
  int uffd = handle < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, handle, (int)opened, 0);
  if (handle >= 0) close(handle);
  call(SYS_close, (uint64_t)opened, 0, 0);
  struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP};
  *why = "its userfaultfd cannot be had";
  if (uffd < 0) return -1;
  if (!ioctl(uffd, UFFDIO_API, &api)) return uffd;
  close(uffd);
  return -1;
}

/* From now on the end of both of our processes is the end of the instance. */
static void begin_holding(const struct order *order) {
  if (shared->holding) return;
  if (rename(held_aside, order->held)) fail("make %s", order->held);
  __atomic_store_n(&shared->holding, 1, __ATOMIC_SEQ_CST);
}

static int told_to_end(void) {
  struct pollfd polled = {.fd = STDIN_FILENO, .events = POLLIN};
  return poll(&polled, 1, 0) > 0;
}

/* What is stored but not dropped yet. */
struct batch {
  unsigned char block[BLOCK_BYTES];
  size_t in_block;
  struct extents extents;
  struct run *ranges;
  size_t range_count, range_room;
  uint64_t bytes;
};

static struct batch batch;

/* False when the store has no room for it. */
static int add_page(uint64_t address, const unsigned char *page) {
  if (is_zero(page)) return 1; /* what is missing and not in the store is zeros */
  put_extent(&batch.extents, (struct extent){address, address + PAGE_BYTES, (uint64_t)block_count(store) * BLOCK_BYTES + batch.in_block});
  memcpy(batch.block + batch.in_block, page, PAGE_BYTES);
  batch.in_block += PAGE_BYTES;
  if (batch.in_block < BLOCK_BYTES) return 1;
  batch.in_block = 0;
  return write_block(store, batch.block);
}

static int end_block(void) {
  if (batch.in_block == 0) return 1;
  memset(batch.block + batch.in_block, 0, BLOCK_BYTES - batch.in_block);
  batch.in_block = 0;
  return write_block(store, batch.block);
}

/* The bytes that were dropped; what was not is not missing. */
static uint64_t drop_batch(const struct order *order, int uffd) {
  uint64_t dropped = 0;
  size_t at = memory_of(uffd);
  begin_holding(order);
  for (size_t i = 0; at < memory_count && i < batch.extents.count; i++) put_extent(&memories[at].missing, batch.extents.list[i]);
  for (size_t i = 0; i < batch.range_count; i++) {
    struct run range = batch.ranges[i];
    if (call(SYS_madvise, range.start, range.end - range.start, MADV_DONTNEED) == 0) dropped += range.end - range.start;
    else if ((at = memory_of(uffd)) < memory_count) cut_extents(&memories[at].missing, range.start, range.end);
  }
  return dropped;
}

/* Until all is taken, the store is full or stdin has ended. The bytes that were dropped. */
static uint64_t take(const struct order *order, const struct taking *taking, int uffd, int *go_on) {
  static unsigned char bytes[READ_BYTES];
  uint64_t dropped = 0, at = taking->runs[0].start;
  for (size_t r = 0; r < taking->run_count && *go_on;) {
    batch.extents.count = batch.range_count = batch.in_block = batch.bytes = 0;
    int room = 1;
    while (r < taking->run_count && batch.bytes < BATCH_BYTES && room) {
      uint64_t length = taking->runs[r].end - at < READ_BYTES ? taking->runs[r].end - at : READ_BYTES;
      if (read_memory(taking->process, at, bytes, length)) {
        for (uint64_t page = 0; page < length && room; page += PAGE_BYTES) room = add_page(at + page, bytes + page);
        add_run(&batch.ranges, &batch.range_count, &batch.range_room, at, at + length);
        batch.bytes += length;
      }
      at += length;
      if (at == taking->runs[r].end && ++r < taking->run_count) at = taking->runs[r].start;
    }
    if (room && end_block()) dropped += drop_batch(order, uffd);
    else *go_on = 0;
    if (told_to_end()) *go_on = 0;
  }
  return dropped;
}

/* NULL, or why nothing of it was taken. */
static const char *take_process(const struct order *order, const struct taking *taking, uint64_t *dropped, int *go_on) {
  const char *why = begin_calls(taking->process);
  if (why) return why;
  int uffd = open_memory(taking->process, &why);
  if (uffd >= 0) {
    why = NULL;
    add_memory(uffd, NULL, store, &(struct extents){0});
    for (size_t m = 0; m < taking->mapping_count && !why; m++) {
      struct uffdio_register mapping = {.range = {taking->mappings[m].start, taking->mappings[m].end - taking->mappings[m].start}, .mode = UFFDIO_REGISTER_MODE_MISSING};
      if (ioctl(uffd, UFFDIO_REGISTER, &mapping)) why = "its memory cannot be watched";
    }
    if (!why) *dropped += take(order, taking, uffd, go_on);
    size_t at = memory_of(uffd);
    if (why && at < memory_count) drop_memory(at);
  }
  const char *stuck = end_calls();
  if (stuck) {
    errno = 0;
    fail("the instance cannot go on: %s", stuck);
  }
  return why;
}

static void refuse(const char *why) {
  unlink(held_aside);
  printf("refused %s\n", why);
  exit(0);
}

static int open_held(const struct order *order) {
  snprintf(held_aside, sizeof held_aside, "%s.new", order->held);
  unlink(held_aside);
  int file = open(held_aside, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0 || flock(file, LOCK_EX | LOCK_NB)) fail("lock %s", held_aside);
  return file;
}

/* By a path through its folder, because those of sockets are short. */
static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char folder[4096];
  snprintf(folder, sizeof folder, "%s", path);
  char *name = strrchr(folder, '/');
  errno = EINVAL;
  if (!name) fail("listen at %s", path);
  *name++ = 0;
  int in = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (in < 0 || snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", in, name) >= (int)sizeof address.sun_path) fail("listen at %s", path);
  unlinkat(in, name, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, MOST_CONNECTIONS)) fail("listen at %s", path);
  close(in);
  return listener;
}

static uint64_t missing_bytes(void) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < memory_count; i++)
    for (size_t e = 0; e < memories[i].missing.count; e++) bytes += memories[i].missing.list[e].end - memories[i].missing.list[e].start;
  return bytes;
}

/* False when the connection is over. */
static int answer_wish(int connection, int *filling) {
  char wish, text[64];
  ssize_t got = read(connection, &wish, 1);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
  if (got <= 0) return 0;
  if (wish == 'F') *filling = 1;
  if (wish != 'S') return 1;
  int length = snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 "\n", store_bytes(store), missing_bytes());
  return send(connection, text, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT) == length;
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

/* Until nothing is missing. */
static void serve(int listener) {
  int *connections = shared->connections, filling = 0;
  uint64_t looked = now_ns();
  for (;;) {
    int look = now_ns() - looked > LOOK_MS * 1000000ull;
    if (look) looked = now_ns();
    drop_finished(look);
    if (memory_count == 0) return;
    if (look && missing_bytes() < REST_BYTES) filling = 1;
    struct pollfd polled[1 + MOST_CONNECTIONS];
    polled[0] = (struct pollfd){.fd = shared->connected < MOST_CONNECTIONS ? listener : -1, .events = POLLIN};
    for (size_t i = 0; i < shared->connected; i++) polled[1 + i] = (struct pollfd){.fd = connections[i], .events = POLLIN};
    size_t known = shared->connected;
    int heard = hear_memories(polled, 1 + known, faults_wait() ? 1 : filling ? 0 : LOOK_MS);
    for (size_t i = known; i-- > 0;) {
      if (!polled[1 + i].revents || answer_wish(connections[i], &filling)) continue;
      close(connections[i]);
      connections[i] = connections[--shared->connected];
    }
    if (polled[0].revents) {
      int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (connection >= 0) connections[shared->connected++] = connection;
    }
    if (filling && !heard) fill();
  }
}

__attribute__((noreturn)) static void work(const struct order *order, int listener) {
  setpriority(PRIO_PROCESS, 0, WORK_NICE);
  no_more_mappings();
  const char *why = stop_processes(order->cgroup, serve_meanwhile);
  if (why) refuse(why);
  puts("stopped");
  look_at_all();
  uint64_t total = 0, dropped = 0;
  for (size_t i = 0; i < taking_count; i++) total += bytes_of(&takings[i]);
  if (total < LEAST_BYTES) {
    release_processes();
    refuse("it has too little memory of its own");
  }
  store = open_store(total, order->most);
  sample(total);
  hear_no_removals(1);
  int go_on = !told_to_end();
  for (size_t i = 0; i < taking_count && go_on; i++) {
    const char *not_taken = take_process(order, &takings[i], &dropped, &go_on);
    if (not_taken) why = not_taken;
    free(takings[i].runs);
    free(takings[i].mappings);
  }
  end_writing(store);
  drop_finished(0);
  printf("stored %" PRIu64 "\n", dropped);
  while (!told_to_end()) serve_meanwhile(STDIN_FILENO);
  hear_no_removals(0);
  release_processes();
  if (!shared->holding) refuse(why ? why : "it was thawed before");
  printf("held %" PRIu64 "\n", store_bytes(store));
  fflush(stdout);
  setpriority(PRIO_PROCESS, 0, SERVER_NICE);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, STDIN_FILENO);
  dup2(null, STDOUT_FILENO);
  if (dup2(held_file, STDERR_FILENO) < 0) fail("keep %s", order->held); /* so that fail() writes there */
  keep_pager_rights();
  serve(listener);
  _exit(write(STDERR_FILENO, "done\n", 5) == 5 ? 0 : 1);
}

static void wait_for(int process) {
  struct pollfd polled = {.fd = process, .events = POLLIN};
  while (poll(&polled, 1, -1) < 0 && errno == EINTR);
}

/* Until the server has ended; when it should not have, the instance must not go on with zeros for its memory. */
static int guard(pid_t server, int server_process, int instance, int listener) {
  struct pollfd polled[2] = {{.fd = server_process, .events = POLLIN}, {.fd = instance, .events = POLLIN}};
  int status;
  keep_guard_rights();
  while (!polled[0].revents && !polled[1].revents)
    if (poll(polled, 2, -1) < 0 && errno != EINTR) fail("poll");
  if (polled[1].revents) syscall(SYS_pidfd_send_signal, server_process, SIGKILL, NULL, 0); /* nobody wants its memory any more */
  if (waitpid(server, &status, 0) != server) fail("wait for the pager");
  if (polled[1].revents || status == 0) return 0;
  if (!__atomic_load_n(&shared->holding, __ATOMIC_SEQ_CST)) return 1;
  close(listener); /* whoever waits for us to end need not wait for the instance */
  for (size_t i = 0; i < shared->connected; i++) close(shared->connections[i]);
  if (syscall(SYS_pidfd_send_signal, instance, SIGKILL, NULL, 0) && errno != ESRCH) fail("end the instance");
  wait_for(instance); /* while it is frozen it dies only when it is thawed */
  return 1;
}

static char *value(char ***option) {
  if (!(*option)[1]) fail("%s wants a value", **option);
  return *++*option;
}

int pager(char **options) {
  struct order order = {.most = ~0ull};
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
  struct rlimit most = {MOST_DESCRIPTORS, MOST_DESCRIPTORS};
  setrlimit(RLIMIT_NOFILE, &most);
  if (order.keep) read_kept(order.keep);
  held_file = open_held(&order);
  int listener = listen_at(order.socket);
  int instance = (int)syscall(SYS_pidfd_open, order.instance, 0);
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (instance < 0 || shared == MAP_FAILED) fail("hold the instance");
  pid_t server = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
  if (server < 0) fail("start the pager");
  if (server == 0) work(&order, listener);
  int server_process = (int)syscall(SYS_pidfd_open, server, 0);
  if (server_process < 0) fail("hold the pager");
  printf("pages %d\n", server);
  return guard(server, server_process, instance, listener);
}
