#define _GNU_SOURCE
#include "box.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * CRIU restores a connection in TCP_REPAIR mode and ends that mode from inside the restored process. In a user namespace the
 * process may not: the option wants CAP_NET_ADMIN over the network namespace, which is the machine's. So it is ended here, from
 * outside, on copies of the sockets (pidfd_getfd(2)), before the process runs on.
 */
static void end_repair_of(int pidfd, int descriptor) {
  int fd = (int)syscall(SYS_pidfd_getfd, pidfd, descriptor, 0);
  if (fd < 0) return; /* closed meanwhile */
  int protocol = 0, repair = 0, off = 0;
  socklen_t length = sizeof protocol;
  if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == IPPROTO_TCP) {
    length = sizeof repair;
    if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &repair, &length) == 0 && repair > 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off))
      fail("end the repair of a connection");
  }
  close(fd);
}

static void end_repairs_of_process(pid_t pid) {
  char path[64], link[320], target[64];
  int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  snprintf(path, sizeof path, "/proc/%d/fd", pid);
  DIR *descriptors = opendir(path);
  if (pidfd < 0 || !descriptors) fail("look into process %d", pid);
  for (struct dirent *entry; (entry = readdir(descriptors));) {
    if (!isdigit((unsigned char)entry->d_name[0])) continue;
    snprintf(link, sizeof link, "%s/%s", path, entry->d_name);
    ssize_t size = readlink(link, target, sizeof target - 1);
    if (size > 0 && !strncmp(target, "socket:", 7)) end_repair_of(pidfd, atoi(entry->d_name));
  }
  closedir(descriptors);
  close(pidfd);
}

/* CRIU's action script of a restore: acts once all is restored and nothing runs yet. */
int end_repair(const char *action, const char *first_pid) {
  if (strcmp(action, "pre-resume")) return 0;
  if (!first_pid) fail("CRIU named no process");
  char path[300], space[64] = "", other[64];
  snprintf(path, sizeof path, "/proc/%s/ns/pid", first_pid);
  if (readlink(path, space, sizeof space - 1) < 0) fail("read %s", path);
  DIR *processes = opendir("/proc");
  if (!processes) fail("open /proc");
  for (struct dirent *entry; (entry = readdir(processes));) {
    if (!isdigit((unsigned char)entry->d_name[0])) continue;
    snprintf(path, sizeof path, "/proc/%s/ns/pid", entry->d_name);
    memset(other, 0, sizeof other);
    if (readlink(path, other, sizeof other - 1) > 0 && !strcmp(space, other)) end_repairs_of_process((pid_t)atoi(entry->d_name));
  }
  closedir(processes);
  return 0;
}
