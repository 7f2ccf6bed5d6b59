#define _GNU_SOURCE
#include "box.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Reads process ids on stdin, one a line, and writes each on stdout when that process has ended (pidfd_open(2), epoll(7)):
 * also for processes that are nobody's children here, as after a restart of restored. Ends with its stdin.
 */
static void watch_one(int epoll, pid_t pid) {
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) {
    printf("%d\n", pid);
    fflush(stdout);
    return;
  }
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = ((uint64_t)fd << 32) | (uint32_t)pid};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("watch %d", pid);
}

int watch_processes(void) {
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
  if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event)) fail("watch stdin");
  char line[4096];
  size_t held = 0;
  for (;;) {
    struct epoll_event events[32];
    int count = epoll_wait(epoll, events, 32, -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
      if (events[i].data.u64 != 0) {
        printf("%u\n", (unsigned)(events[i].data.u64 & 0xffffffff));
        fflush(stdout);
        close((int)(events[i].data.u64 >> 32));
        continue;
      }
      ssize_t got = read(STDIN_FILENO, line + held, sizeof line - held - 1);
      if (got <= 0) return 0;
      held += (size_t)got;
      line[held] = 0;
      char *start = line;
      for (char *end; (end = strchr(start, '\n')); start = end + 1) watch_one(epoll, (pid_t)atoi(start));
      held = strlen(start);
      memmove(line, start, held);
    }
  }
}
