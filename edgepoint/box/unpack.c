#define _GNU_SOURCE
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * edgepoint-box unpack TARGET FIRST_UID PROGRAM ARGUMENTS...
 *
 * Runs a program that unpacks what nobody trusts: as root of a user namespace of its own, whose uid 0 is FIRST_UID outside, without a
 * network, and with nothing it may write to but TARGET, a folder that is made its own. It ends with the program's exit status.
 */
static void attributes(const char *path, unsigned flags, uint64_t set, uint64_t clear) {
  struct mount_attr attr = {.attr_set = set, .attr_clr = clear};
  if (syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &attr, sizeof attr)) fail("mount attributes of %s", path);
}

static void limit(int resource, rlim_t most) {
  struct rlimit limit = {.rlim_cur = most, .rlim_max = most};
  if (setrlimit((__rlimit_resource_t)resource, &limit)) fail("setrlimit");
}

__attribute__((noreturn)) static void become_unpacker(int go, char **command) {
  char byte;
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (read(go, &byte, 1) != 1) _exit(1);
  if (setgroups(0, NULL) || setresgid(0, 0, 0) || setresuid(0, 0, 0)) fail("become root of a user namespace");
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, UNPACKED_FILE_BYTES);
  limit(RLIMIT_CPU, UNPACK_SECONDS);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
  /* Setting ids took this away: the one who waits must not be outlived. */
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  umask(022);
  close_range(3, ~0u, 0);
  if (chdir("/")) fail("chdir /");
  execvp(command[0], command);
  fail("cannot run %s", command[0]);
}

int unpack(char **words, int count) {
  errno = EINVAL;
  if (count < 3) fail("unpack TARGET FIRST_UID PROGRAM...");
  const char *target = words[0];
  uid_t first_uid = (uid_t)strtoul(words[1], NULL, 10);
  if (first_uid < IDS_PER_INSTANCE) fail("FIRST_UID %s", words[1]);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (mkdir(target, 0755) || chown(target, first_uid, first_uid)) fail("make %s", target);
  if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) fail("mounts of its own");
  if (mount(target, target, NULL, MS_BIND, NULL)) fail("bind %s", target);
  attributes("/", AT_RECURSIVE, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0);
  attributes(target, 0, 0, MOUNT_ATTR_RDONLY);
  int go[2];
  if (pipe2(go, O_CLOEXEC)) fail("pipe");
  struct clone_args arguments = {.flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, .exit_signal = SIGCHLD};
  pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) fail("clone3");
  if (pid == 0) become_unpacker(go[0], words + 2);
  char path[64], maps[64];
  snprintf(maps, sizeof maps, "0 %u %d", first_uid, IDS_PER_INSTANCE);
  snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
  /* The id maps are written through /proc, which is read-only by now. */
  attributes("/proc", 0, 0, MOUNT_ATTR_RDONLY);
  write_text(path, maps);
  snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
  write_text(path, maps);
  attributes("/proc", 0, MOUNT_ATTR_RDONLY, 0);
  if (write(go[1], "", 1) != 1) fail("start the unpacker");
  int status;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) fail("wait for the unpacker");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
