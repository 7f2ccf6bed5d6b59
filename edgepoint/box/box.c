/*
 * edgepoint-box: makes the box of an instance and boots or restores into it.
 *
 *   edgepoint-box boot    OPTIONS -- COMMAND ARGUMENTS   prints "pid N" when the program has been executed
 *   edgepoint-box restore OPTIONS -- CRIU ARGUMENTS      becomes criu, in the box's cgroups and network namespace
 *   edgepoint-box watch                                  tells which processes have ended
 *
 * Both modes make the disk, the root, the volumes and the network by the same functions; only what runs in them differs.
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void fail(const char *what, ...) {
  int error = errno;
  char text[1024];
  va_list arguments;
  va_start(arguments, what);
  vsnprintf(text, sizeof text, what, arguments);
  va_end(arguments);
  dprintf(STDERR_FILENO, "%s: %s\n", text, error ? strerror(error) : "failed");
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
static char **read_options(char **argument, struct box *box) {
  for (; *argument; argument++) {
    const char *name = *argument;
    if (!strcmp(name, "--")) return argument + 1;
    else if (!strcmp(name, "--folder")) box->folder = next(&argument);
    else if (!strcmp(name, "--base")) box->base = next(&argument);
    else if (!strcmp(name, "--artefact")) box->artefact = next(&argument);
    else if (!strcmp(name, "--artefact-uid")) box->artefact_uid = (uid_t)strtoul(next(&argument), NULL, 10);
    else if (!strcmp(name, "--disk-layer")) box->disk_layer = next(&argument);
    else if (!strcmp(name, "--disk-copy")) box->disk_copy = next(&argument);
    else if (!strcmp(name, "--dev")) box->dev = next(&argument);
    else if (!strcmp(name, "--netns")) box->netns = next(&argument);
    else if (!strcmp(name, "--address")) box->address = next(&argument);
    else if (!strcmp(name, "--prefix-length")) box->prefix_length = atoi(next(&argument));
    else if (!strcmp(name, "--gateway")) box->gateway = next(&argument);
    else if (!strcmp(name, "--hostname")) box->hostname = next(&argument);
    else if (!strcmp(name, "--first-uid")) box->first_uid = (uid_t)strtoul(next(&argument), NULL, 10);
    else if (!strcmp(name, "--reader-gid")) box->reader_gid = (gid_t)strtoul(next(&argument), NULL, 10);
    else if (!strcmp(name, "--disk-bytes")) box->disk_bytes = strtoull(next(&argument), NULL, 10);
    else if (!strcmp(name, "--cgroup") && box->cgroup_count < MOST_CGROUPS) box->cgroups[box->cgroup_count++] = next(&argument);
    else if (!strcmp(name, "--env") && box->environment_count < MOST_ENVIRONMENT) box->environment[box->environment_count++] = next(&argument);
    else if (!strcmp(name, "--volume") && box->volume_count < MOST_VOLUMES) {
      struct volume *volume = &box->volumes[box->volume_count++];
      volume->image = next(&argument);
      volume->mount_path = next(&argument);
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
  if (!box->folder || !box->base || !box->artefact || !box->dev || !box->netns || !box->address || !box->gateway || !box->hostname)
    fail("an option is missing");
  if (box->first_uid < IDS_PER_INSTANCE || box->first_uid % IDS_PER_INSTANCE) fail("--first-uid %u", box->first_uid);
  if (box->disk_bytes == 0) fail("--disk-bytes");
  errno = 0;
}

static void enter_cgroups(const struct box *box) {
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
  configure_network(box);
  /* Inside, every port is an ordinary one: nobody else shares the address. */
  write_text("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
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
  if (chdir("/app")) fail("chdir /app");
  umask(022);
  signal(SIGPIPE, SIG_DFL);
  prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
  drop_rights();
  clearenv();
  putenv("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  putenv("HOME=/root");
  putenv("LANG=C.UTF-8");
  for (int i = 0; i < box->environment_count; i++) putenv((char *)box->environment[i]);
  int error_log = fcntl(report, F_DUPFD_CLOEXEC, 101);
  dup2(1, STDERR_FILENO);
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
  pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) fail("clone3");
  if (pid == 0) become_program(box, command, go[0], failed[1]);
  char path[64], maps[64];
  snprintf(maps, sizeof maps, "0 %u %d", box->first_uid, IDS_PER_INSTANCE);
  snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
  write_text(path, maps);
  snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
  write_text(path, maps);
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

int main(int count, char **arguments) {
  if (count >= 2 && !strcmp(arguments[1], "watch")) return watch_processes();
  if (count < 3) fail("usage: edgepoint-box boot|restore OPTIONS -- COMMAND, or edgepoint-box watch");
  struct box box = {.prefix_length = 24};
  char **command = read_options(arguments + 2, &box);
  check(&box);
  if (!command[0]) fail("nothing to run after --");
  uint64_t start = now_ns();
  enter_cgroups(&box); /* first, so that every page of the box is charged to the instance */
  make_disk_and_root(&box);
  attach_volumes(&box);
  uint64_t disk = now_ns();
  enter_network(&box);
  dprintf(STDOUT_FILENO, "disk %llu\nnetwork %llu\n", (unsigned long long)(disk - start), (unsigned long long)(now_ns() - disk));
  if (!strcmp(arguments[1], "boot")) return boot(&box, command);
  /* CRIU leaves the cgroup namespace as it finds it: what it restores inherits this one, rooted at the instance's cgroups. */
  if (unshare(CLONE_NEWCGROUP)) fail("cgroup namespace");
  execv(command[0], command);
  fail("cannot run %s", command[0]);
}
