/*
 * Memory of an instance that the freezer has stopped.
 *
 *   edgepoint-box page-out CGROUP [KEEP]   asks the kernel to move the anonymous memory of every process of a cgroup to swap
 *                                          (process_madvise(2), MADV_PAGEOUT), but for the ranges named in the file KEEP
 *   edgepoint-box resident CGROUP          prints the ranges that are in memory, as KEEP wants them: "pid start end", in hexadecimal
 *
 * A process that ends meanwhile is no failure; killed in the middle, it has moved a part, and no harm is done.
 */
#define _GNU_SOURCE
#include "../box.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define ADVICE_PAGEOUT 21
#define PAGE_BYTES 4096u
/* The kernel looks for a fatal signal between pieces; a piece is a few milliseconds of work. */
#define PIECE_BYTES (4u << 20)
/* pagemap (Documentation/admin-guide/mm/pagemap.rst): eight bytes a page, the highest bit for one that is in memory. */
#define PAGEMAP_ENTRIES 512
#define PAGE_PRESENT (1ull << 63)

struct range {
  uint64_t pid, start, end;
};

static struct range *kept;
static size_t kept_count;

static void read_kept(const char *path) {
  FILE *file = fopen(path, "re");
  if (!file) fail("open %s", path);
  struct range range;
  size_t room = 0;
  while (fscanf(file, "%" SCNx64 " %" SCNx64 " %" SCNx64, &range.pid, &range.start, &range.end) == 3) {
    if (kept_count == room && !(kept = realloc(kept, (room = room ? room * 2 : 1024) * sizeof *kept))) fail("read %s", path);
    kept[kept_count++] = range;
  }
  fclose(file);
}

static void page_out_range(int process, uint64_t start, uint64_t end) {
  for (uint64_t at = start; at < end; at += PIECE_BYTES) {
    struct iovec piece = {.iov_base = (void *)at, .iov_len = end - at < PIECE_BYTES ? end - at : PIECE_BYTES};
    /* EINVAL: memory that is locked or of a device. The rest may go all the same. */
    if (syscall(SYS_process_madvise, process, &piece, 1, ADVICE_PAGEOUT, 0) < 0 && errno == ESRCH) return;
  }
}

/* The range without what is kept of it: kept ranges lie in order, as `resident` has printed them. */
static void page_out_own_memory(pid_t pid, int process, uint64_t start, uint64_t end) {
  for (size_t i = 0; i < kept_count && start < end; i++) {
    if (kept[i].pid != (uint64_t)pid || kept[i].end <= start || kept[i].start >= end) continue;
    if (kept[i].start > start) page_out_range(process, start, kept[i].start);
    start = kept[i].end;
  }
  if (start < end) page_out_range(process, start, end);
}

static void print_resident(pid_t pid, int pagemap, uint64_t start, uint64_t end) {
  uint64_t entries[PAGEMAP_ENTRIES], from = 0;
  for (uint64_t at = start; at < end;) {
    uint64_t pages = (end - at) / PAGE_BYTES;
    if (pages > PAGEMAP_ENTRIES) pages = PAGEMAP_ENTRIES;
    ssize_t got = pread(pagemap, entries, pages * sizeof *entries, (off_t)(at / PAGE_BYTES * sizeof *entries));
    if (got < (ssize_t)sizeof *entries) break;
    for (size_t i = 0; i < (size_t)got / sizeof *entries; i++, at += PAGE_BYTES) {
      int present = (entries[i] & PAGE_PRESENT) != 0;
      if (present && !from) from = at;
      if (!present && from) {
        printf("%x %" PRIx64 " %" PRIx64 "\n", (unsigned)pid, from, at);
        from = 0;
      }
    }
  }
  if (from) printf("%x %" PRIx64 " %" PRIx64 "\n", (unsigned)pid, from, end);
}

/*
 * Private and writable: the heap, the stacks, and of mapped files what was written, which is anonymous too. Other pages of files are
 * shared with other instances, and the kernel can give them back without our help.
 */
static int is_own_memory(const char *permissions) {
  return permissions[1] == 'w' && permissions[3] == 'p';
}

/* Calls `with` for every range of own memory, with a descriptor for the process: its file of that name, or a pidfd where it is NULL. */
static void each_range(pid_t pid, const char *name, void (*with)(pid_t, int, uint64_t, uint64_t)) {
  char path[64], line[512], permissions[5];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name ? name : "");
  int handle = name ? open(path, O_RDONLY | O_CLOEXEC) : (int)syscall(SYS_pidfd_open, pid, 0);
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  FILE *maps = fopen(path, "re");
  uint64_t start, end;
  while (handle >= 0 && maps && fgets(line, sizeof line, maps)) {
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, permissions) == 3 && is_own_memory(permissions)) with(pid, handle, start, end);
  }
  if (maps) fclose(maps);
  if (handle >= 0) close(handle);
}

static void each_process(const char *cgroup, const char *name, void (*with)(pid_t, int, uint64_t, uint64_t)) {
  char path[512], line[64];
  snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
  FILE *processes = fopen(path, "re");
  if (!processes) fail("open %s", path);
  while (fgets(line, sizeof line, processes)) each_range((pid_t)atoi(line), name, with);
  fclose(processes);
}

int page_out(const char *cgroup, const char *keep) {
  if (keep) read_kept(keep);
  /* Whoever waits for an answer comes first. */
  setpriority(PRIO_PROCESS, 0, 5); /* as the pager */
  each_process(cgroup, NULL, page_out_own_memory);
  return 0;
}

int resident(const char *cgroup) {
  each_process(cgroup, "pagemap", print_resident);
  return 0;
}
