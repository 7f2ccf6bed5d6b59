/*
 * edgepoint-box: makes the box of an instance and boots or restores into it.
 *
 *   edgepoint-box slot --netns FILE --criu PROGRAM --cgroup FOLDER...
 *
 * enters the cgroups and the network namespace of a slot, starts CRIU there and waits; all of it is slow (moving a process between
 * cgroups waits for an RCU grace period) and need not know what will run. Its order comes on stdin, each word ended by a NUL, up to the end:
 *
 *   boot    OPTIONS -- COMMAND ARGUMENTS   prints "pid N" when the program has been executed
 *   restore OPTIONS -- REQUEST             prints "pid N" when CRIU has restored it (criu.c)
 *
 * Both make the disk, the root, the volumes and the network by the same functions; only what runs in them differs.
 * A slot whose stdin ends without an order ends too.
 *
 *   edgepoint-box enter ...              runs a command in an instance that is there (enter.c)
 *   edgepoint-box unpack ...             runs what unpacks an image where it can do no harm (unpack.c)
 *   edgepoint-box watch                  tells which processes have ended (watch.c)
 *   edgepoint-box init                   starts the processes of an instance that has several (init.c)
 *   edgepoint-box hold                   is the first process of an instance in which only a session runs (init.c)
 *   edgepoint-box pager ...              takes the memory of an instance that is frozen, and gives it back (pager.c)
 *   edgepoint-box page-out|resident ...  moves the memory of a frozen instance to swap, or says what of it is there (page-out.c)
 */
#define _GNU_SOURCE
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void fail(const char *what, ...) {
  int error = errno;
  char text[1024], line[1200];
  va_list arguments;
  va_start(arguments, what);
  vsnprintf(text, sizeof text, what, arguments);
  va_end(arguments);
  int length = snprintf(line, sizeof line, "%s: %s\n", text, error ? strerror(error) : "failed");
  /* Not dprintf(3), which asks for the file's state first: the pages server's filter lets it write and no more. */
  if (write(STDERR_FILENO, line, (size_t)length) < 0) _exit(2);
  _exit(1);
}

uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static char *next(char ***argument) {
  if (!(*argument)[1]) fail("%s wants a value", **argument);
  return *++*argument;
}

/* Reads the options up to "--"; returns what stands after it. */
char **read_options(char **argument, struct box *box) {
  for (; *argument; argument++) {
    const char *name = *argument;
    if (!strcmp(name, "--")) return argument + 1;
    else if (!strcmp(name, "--folder")) box->folder = next(&argument);
    else if (!strcmp(name, "--base")) box->base = next(&argument);
    else if (!strcmp(name, "--artefact")) box->artefact = next(&argument);
    else if (!strcmp(name, "--artefact-uid")) box->artefact_uid = (uid_t)strtoul(next(&argument), NULL, 10);
    else if (!strcmp(name, "--image")) box->is_image = 1;
    else if (!strcmp(name, "--working-directory")) box->working_directory = next(&argument);
    else if (!strcmp(name, "--user")) box->user = next(&argument);
    else if (!strcmp(name, "--disk-layer")) box->disk_layer = next(&argument);
    else if (!strcmp(name, "--disk-copy")) box->disk_copy = next(&argument);
    else if (!strcmp(name, "--dev")) box->dev = next(&argument);
    else if (!strcmp(name, "--address")) box->address = next(&argument);
    else if (!strcmp(name, "--prefix-length")) box->prefix_length = atoi(next(&argument));
    else if (!strcmp(name, "--gateway")) box->gateway = next(&argument);
    else if (!strcmp(name, "--ipv6")) {
      box->ipv6_address = next(&argument);
      box->ipv6_prefix_length = atoi(next(&argument));
      box->ipv6_gateway = next(&argument);
    }
    else if (!strcmp(name, "--hostname")) box->hostname = next(&argument);
    else if (!strcmp(name, "--first-uid")) box->first_uid = (uid_t)strtoul(next(&argument), NULL, 10);
    else if (!strcmp(name, "--reader-gid")) box->reader_gid = (gid_t)strtoul(next(&argument), NULL, 10);
    else if (!strcmp(name, "--disk-bytes")) box->disk_bytes = strtoull(next(&argument), NULL, 10);
    else if (!strcmp(name, "--bytes-per-second")) box->bytes_per_second = strtoull(next(&argument), NULL, 10);
    else if (!strcmp(name, "--operations-per-second")) box->operations_per_second = (unsigned)strtoul(next(&argument), NULL, 10);
    else if (!strcmp(name, "--env") && box->environment_count < MOST_ENVIRONMENT) box->environment[box->environment_count++] = next(&argument);
    else if (!strcmp(name, "--images")) box->images = next(&argument);
    else if (!strcmp(name, "--work")) box->work = next(&argument);
    else if (!strcmp(name, "--fill")) box->fill = next(&argument), box->first_pages = next(&argument);
    else if (!strcmp(name, "--own-network")) box->own_network = 1;
    else if (!strcmp(name, "--terminal")) box->terminal_rows = atoi(next(&argument)), box->terminal_columns = atoi(next(&argument));
    else if (!strcmp(name, "--volume") && box->volume_count < MOST_VOLUMES) {
      struct volume *volume = &box->volumes[box->volume_count++];
      volume->image = next(&argument);
      volume->mount_path = next(&argument);
    } else if (!strcmp(name, "--file") && box->file_count < MOST_FILES) {
      struct file *file = &box->files[box->file_count++];
      file->path = next(&argument);
      file->text = next(&argument);
      errno = EINVAL;
      if (file->path[0] != '/') fail("--file %s", file->path);
    } else if (!strcmp(name, "--secret") && box->secret_count < MOST_SECRETS) {
      struct file *secret = &box->secrets[box->secret_count++];
      secret->path = next(&argument);
      secret->text = next(&argument);
      errno = EINVAL;
      if (strchr(secret->path, '/') || secret->path[0] == '.') fail("--secret %s", secret->path);
    } else if (!strcmp(name, "--process") && box->process_count < MOST_PROCESSES - 1) {
      /* --process COUNT WORDS... */
      int count = atoi(next(&argument));
      for (int i = 0; i < count; i++)
        if (!argument[i + 1]) fail("--process wants %d words", count);
      box->processes[box->process_count++] = (struct process_words){.words = argument + 1, .count = count};
      argument += count;
    } else {
      errno = 0;
      fail("unknown or repeated option %s", name);
    }
  }
  errno = 0;
  fail("no -- and nothing to run");
}

static void check(const struct box *box) {
  errno = EINVAL;
  if (!box->folder || !box->base || !box->artefact || !box->dev || !box->address || !box->gateway || !box->hostname)
    fail("an option is missing");
  if (box->first_uid < IDS_PER_INSTANCE || box->first_uid % IDS_PER_INSTANCE) fail("--first-uid %u", box->first_uid);
  if (box->disk_bytes == 0) fail("--disk-bytes");
  if (box->bytes_per_second == 0) fail("--bytes-per-second");
  if (box->operations_per_second == 0) fail("--operations-per-second");
  errno = 0;
}

void enter_cgroups(const struct box *box) {
  char path[512];
  for (int i = 0; i < box->cgroup_count; i++) {
    snprintf(path, sizeof path, "%s/cgroup.procs", box->cgroups[i]);
    write_text(path, "0");
  }
}

static void enter_network(const struct box *box) {
  int fd = open(box->netns, O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("open %s", box->netns);
  if (setns(fd, CLONE_NEWNET)) fail("enter %s", box->netns);
  close(fd);
}

/* What becomes the first process: the command itself, or, when there are several, init with the words of each (init.c). */
static char **first_command(const struct box *box, char **command) {
  if (box->process_count == 0) return command;
  int own = 0, total = 0;
  for (; command[own];) own++;
  for (int i = 0; i < box->process_count; i++) total += box->processes[i].count;
  char **words = calloc((size_t)(2 + 4 + own + total + 1), sizeof *words), **next_word = words, count[16];
  snprintf(count, sizeof count, "%d", own);
  *next_word++ = INIT_PATH;
  *next_word++ = "init";
  *next_word++ = "app";
  *next_word++ = "must-live";
  *next_word++ = "0";
  *next_word++ = strdup(count);
  for (int i = 0; i < own; i++) *next_word++ = command[i];
  for (int i = 0; i < box->process_count; i++)
    for (int j = 0; j < box->processes[i].count; j++) *next_word++ = box->processes[i].words[j];
  return words;
}

/* From the instance's root, inside its root, to whom its programs run as: what they may, and their variables. */
void become_whom_it_runs_as(const struct box *box) {
  drop_rights();
  clearenv();
  putenv("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  putenv("HOME=/root");
  putenv("LANG=C.UTF-8");
  struct identity identity = {0};
  if (box->user) find_identity(box->user, &identity);
  for (int i = 0; i < box->environment_count; i++) putenv((char *)box->environment[i]);
  if (box->user) become_identity(&identity);
}

/* The first process of the instance, in its new namespaces, until it becomes the program. */
__attribute__((noreturn)) static void become_program(const struct box *box, char **command, int go, int failed) {
  char byte;
  if (read(go, &byte, 1) != 1) _exit(1);
  dup2(failed, STDERR_FILENO); /* so that fail() speaks to the parent */
  if (sethostname(box->hostname, strlen(box->hostname))) fail("sethostname");
  enter_root(box); /* while the machine's root still owns this process: only it may walk to the box's folder */
  if (setgroups(0, NULL) || setresgid(0, 0, 0) || setresuid(0, 0, 0)) fail("become the instance's root");
  if (setsid() < 0 && getsid(0) != getpid()) fail("setsid");
  /* A descriptor opened outside these mounts would make every dump fail, so all three are opened here. */
  int in = open("/dev/null", O_RDONLY);
  int log = open("/var/log/app.log", O_WRONLY | O_APPEND);
  if (in < 0 || log < 0) fail("open the log");
  int report = fcntl(failed, F_DUPFD_CLOEXEC, 100);
  dup2(in, 0);
  dup2(log, 1);
  close_range(3, 99, 0);
  close_range(101, ~0u, 0);
  dup2(report, STDERR_FILENO);
  umask(022);
  enter_folder(box->working_directory ? box->working_directory : "/app");
  signal(SIGPIPE, SIG_DFL);
  prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
  become_whom_it_runs_as(box);
  int error_log = fcntl(report, F_DUPFD_CLOEXEC, 101);
  dup2(1, STDERR_FILENO);
  command = first_command(box, command);
  execvp(command[0], command);
  dprintf(error_log, "cannot run %s: %s\n", command[0], strerror(errno));
  _exit(127);
}

static int boot(struct box *box, char **command) {
  int go[2], failed[2];
  if (pipe2(go, O_CLOEXEC) || pipe2(failed, O_CLOEXEC)) fail("pipe");
  struct clone_args arguments = {
      /* A time namespace too, because CRIU gives every restored instance one so that its monotonic clock goes on. */
      .flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWTIME,
      .exit_signal = SIGCHLD,
  };
  if (box->own_network) arguments.flags |= CLONE_NEWNET;
  pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) fail("clone3");
  if (pid == 0) become_program(box, command, go[0], failed[1]);
  char path[64], maps[64];
  snprintf(maps, sizeof maps, "0 %u %d", box->first_uid, IDS_PER_INSTANCE);
  snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
  write_text(path, maps);
  snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
  write_text(path, maps);
  if (box->own_network) give_network(box, pid);
  close(failed[1]);
  if (write(go[1], "", 1) != 1) fail("start the instance");
  char why[1024];
  ssize_t length = 0, got;
  while (length < (ssize_t)sizeof why && (got = read(failed[0], why + length, sizeof why - (size_t)length)) > 0) length += got;
  if (length > 0) {
    dprintf(STDERR_FILENO, "%.*s", (int)length, why);
    waitpid(pid, NULL, 0);
    return 1;
  }
  dprintf(STDOUT_FILENO, "pid %d\n", pid);
  return 0;
}

/* The order on stdin, split at its NULs; NULL when there is none. Lives as long as the program. */
char **read_order(void) {
  size_t size = 0, room = 1 << 16;
  char *text = malloc(room);
  for (;;) {
    if (size == room && (room > MOST_ORDER_BYTES || !(text = realloc(text, room *= 2)))) fail("too long an order");
    ssize_t got = read(STDIN_FILENO, text + size, room - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read the order");
    if (got == 0) break;
    size += (size_t)got;
  }
  if (size == 0) return NULL;
  errno = EINVAL;
  if (text[size - 1]) fail("an order that does not end");
  errno = 0;
  size_t words = 0, next_word = 0;
  for (size_t i = 0; i < size; i++) words += text[i] == 0;
  char **order = calloc(words + 1, sizeof *order);
  for (char *word = text; word < text + size; word += strlen(word) + 1) order[next_word++] = word;
  return order;
}

/*
 * All that runs in a box has the shortest time slice there is, and what is started or restored in it inherits it. A slice that another has begun
 * is not broken for one as long as it: with the kernel's own (1.4 ms and more), whoever wakes waits for it to end. It is the machine's best
 * effort: kernels before 6.12 know no slices and ignore it. struct sched_attr as of sched_setattr(2).
 */
void shorten_slice(void) {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes = {.size = sizeof attributes, .policy = SCHED_OTHER, .nice = getpriority(PRIO_PROCESS, 0), .runtime = SHORTEST_SLICE_NS};
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

static int serve_slot(char **options) {
  struct box box = {.prefix_length = 24};
  const char *criu = NULL, *link = NULL;
  for (char **option = options; *option; option++) {
    if (!strcmp(*option, "--netns")) box.netns = next(&option);
    else if (!strcmp(*option, "--cgroup") && box.cgroup_count < MOST_CGROUPS) box.cgroups[box.cgroup_count++] = next(&option);
    else if (!strcmp(*option, "--criu")) criu = next(&option);
    else if (!strcmp(*option, "--link")) link = next(&option);
    else fail("unknown option %s", *option);
  }
  if (!box.netns || !criu || !link) fail("--netns, --criu or --link is missing");
  shorten_slice();
  int guard = start_pages_guard();
  enter_cgroups(&box);
  int downlink = open_downlink(&box, link);
  enter_network(&box);
  int worker = start_criu(criu);
  char **order = read_order();
  if (!order) return 0;
  char **command = read_options(order + 1, &box);
  check(&box);
  if (!command[0]) fail("nothing to run after --");
  if (box.fill) order_pages(&box, guard); /* it reads the page map meanwhile */
  uint64_t start = now_ns();
  make_disk_and_root(&box);
  attach_volumes(&box);
  uint64_t disk = now_ns();
  write_files(&box);
  uint64_t files = now_ns();
  limit_downlink(&box, downlink);
  if (!box.own_network) configure_network(&box);
  dprintf(STDOUT_FILENO, "disk %llu\nfiles %llu\nnetwork %llu\n", (unsigned long long)(disk - start), (unsigned long long)(files - disk),
          (unsigned long long)(now_ns() - files));
  if (!strcmp(order[0], "restore")) return restore_by_criu(&box, worker, guard, command[0]);
  close(worker); /* CRIU is not needed and ends */
  if (box.process_count > 0 || !strcmp(command[0], INIT_PATH)) copy_init(&box);
  return boot(&box, command);
}

int main(int count, char **arguments) {
  if (count >= 2 && !strcmp(arguments[1], "watch")) return watch_processes();
  if (count >= 2 && !strcmp(arguments[1], "init")) return run_processes(arguments + 2, count - 2);
  if (count == 2 && !strcmp(arguments[1], "hold")) return hold_instance();
  if (count >= 2 && !strcmp(arguments[1], "slot")) return serve_slot(arguments + 2);
  if (count >= 2 && !strcmp(arguments[1], "enter")) return enter(arguments + 2);
  if (count >= 2 && !strcmp(arguments[1], "pager")) return pager(arguments + 2);
  if (count >= 2 && !strcmp(arguments[1], "gate")) return gate(arguments + 2);
  if (count >= 2 && !strcmp(arguments[1], "unpack")) return unpack(arguments + 2, count - 2);
  if (count >= 3 && !strcmp(arguments[1], "page-out")) return page_out(arguments[2], arguments[3]);
  if (count == 3 && !strcmp(arguments[1], "resident")) return resident(arguments[2]);
  errno = EINVAL;
  fail("usage: edgepoint-box slot --netns FILE --cgroup FOLDER..., edgepoint-box watch, or edgepoint-box page-out or resident CGROUP");
}
