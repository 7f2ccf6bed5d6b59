/*
 * The process that proves a criu: it lives in namespaces and a root of its own and writes a counter to a file for ever.
 * After a dump and a restore the counter must go on beside the same time of start, not begin anew. Static, so that its root holds nothing else.
 * Usage: criu-probe ROOT   (a mount point holding this program and the empty folders proc and old; as pid 1 of a pid namespace)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int fail(const char *what) {
  perror(what);
  return 1;
}

/* Into the new root, then this program again from there: a program mapped from outside the root cannot be dumped. */
static int enter(const char *root) {
  char *again[] = {"/criu-probe", NULL};
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return fail("private");
  if (chdir(root) != 0) return fail("chdir");
  if (syscall(SYS_pivot_root, ".", "old") != 0) return fail("pivot_root");
  if (chdir("/") != 0) return fail("chdir /");
  if (mount("proc", "/proc", "proc", 0, NULL) != 0) return fail("proc");
  if (umount2("/old", MNT_DETACH) != 0) return fail("umount old");
  /* A descriptor from outside would fail the dump. */
  for (int fd = 0; fd < 1024; fd++) close(fd);
  if (open("/stdio", O_RDWR | O_CREAT, 0600) != 0 || dup(0) != 1 || dup(0) != 2) return 1;
  if (setsid() < 0 && getsid(0) != getpid()) return 1;
  execv(again[0], again);
  return fail("execv");
}

static int count(void) {
  int out = open("/counter", O_RDWR | O_CREAT, 0600);
  if (out < 0) return 1;
  struct timespec start;
  clock_gettime(CLOCK_BOOTTIME, &start);
  for (unsigned long counter = 1;; counter++) {
    char text[64];
    int length = snprintf(text, sizeof text, "%ld.%09ld %20lu\n", start.tv_sec, start.tv_nsec, counter);
    if (pwrite(out, text, (size_t)length, 0) != length) return 1;
    struct timespec pause = {0, 5 * 1000 * 1000};
    nanosleep(&pause, NULL);
  }
}

int main(int argc, char **argv) { return argc == 2 ? enter(argv[1]) : count(); }
