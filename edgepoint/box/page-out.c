/*
 * edgepoint-box page-out CGROUP-FOLDER: asks the kernel to move the anonymous memory of every process of a cgroup to swap
 * (process_madvise(2), MADV_PAGEOUT). The instance is stopped by the freezer meanwhile, so nothing of it is wanted back at once.
 * Prints "advised BYTES". A process that ends meanwhile is no failure; killed in the middle, it has moved a part, and no harm is done.
 */
#define _GNU_SOURCE
#include "box.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define ADVICE_PAGEOUT 21
/* The kernel looks for a fatal signal between pieces; a piece is a few milliseconds of work. */
#define PIECE_BYTES (4u << 20)

/*
 * Private and writable: the heap, the stacks, and of mapped files what was written, which is anonymous too. Other pages of files are
 * shared with other instances, and the kernel can give them back without our help.
 */
static int is_own_memory(const char *permissions) {
  return permissions[1] == 'w' && permissions[3] == 'p';
}

static uint64_t advise(int process, uint64_t start, uint64_t end) {
  uint64_t advised = 0;
  for (uint64_t at = start; at < end; at += PIECE_BYTES) {
    struct iovec piece = {.iov_base = (void *)at, .iov_len = end - at < PIECE_BYTES ? end - at : PIECE_BYTES};
    ssize_t got = syscall(SYS_process_madvise, process, &piece, 1, ADVICE_PAGEOUT, 0);
    if (got > 0) advised += (uint64_t)got;
    else if (errno == ESRCH) break;
    /* EINVAL: memory that is locked or of a device. The rest may go all the same. */
  }
  return advised;
}

static uint64_t page_out_process(pid_t pid) {
  char path[64], line[512];
  int process = (int)syscall(SYS_pidfd_open, pid, 0);
  if (process < 0) return 0;
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  FILE *maps = fopen(path, "re");
  uint64_t advised = 0, start, end;
  char permissions[5];
  while (maps && fgets(line, sizeof line, maps)) {
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, permissions) != 3) continue;
    if (is_own_memory(permissions)) advised += advise(process, start, end);
  }
  if (maps) fclose(maps);
  close(process);
  return advised;
}

int page_out(const char *cgroup) {
  char path[512], line[64];
  snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
  FILE *processes = fopen(path, "re");
  if (!processes) fail("open %s", path);
  /* Whoever waits for an answer comes first. */
  setpriority(PRIO_PROCESS, 0, 19);
  uint64_t advised = 0;
  while (fgets(line, sizeof line, processes)) advised += page_out_process((pid_t)atoi(line));
  fclose(processes);
  printf("advised %" PRIu64 "\n", advised);
  return 0;
}
