#define _GNU_SOURCE
#include "pager.h"
#include "../box.h"
#include "inject.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Takes private anonymous memory of processes that are stopped (inject.c): its bytes into a store, and then they drop it, by calls that
 * they make for us. Before that a userfaultfd(2) of theirs, which they have opened for us too, says when they miss it.
 */
#define BATCH_BYTES (1u << 20) /* stored, then dropped, then asked whether to go on: some 4 ms of work */
#define READ_BYTES (256u << 10)
#define DICTIONARY_BYTES (1u << 20)
#define DICTIONARY_PART 64 /* of what is stored, at most */
#define MOST_TAKEN 256 /* of which something is taken */
#define ENTRIES 512
/* pagemap (Documentation/admin-guide/mm/pagemap.rst) */
#define PAGE_PRESENT (1ull << 63)
#define PAGE_OF_FILE (1ull << 61)
#define PAGE_EXCLUSIVE (1ull << 56)

struct run {
  uint64_t start, end;
};

/* What can be taken of a process, and the mappings it lies in, each from its first such page to its last. */
struct taking {
  pid_t process;
  struct run *runs, *mappings;
  size_t run_count, run_room, mapping_count, mapping_room;
};

static struct taking takings[MOST_TAKEN];
static size_t taking_count;
static struct kept {
  uint64_t pid, start, end;
} *kept;
static size_t kept_count;
static void add_run(struct run **list, size_t *count, size_t *room, uint64_t start, uint64_t end) {
  if (*count > 0 && (*list)[*count - 1].end == start) {
    (*list)[*count - 1].end = end;
    return;
  }
  if (*count == *room && !(*list = realloc(*list, (*room = *room ? 2 * *room : 64) * sizeof **list))) fail("memory for a list");
  (*list)[(*count)++] = (struct run){start, end};
}

void read_kept(const char *path) {
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

static size_t memory_of(int uffd) {
  size_t at = 0;
  while (at < memory_count && memories[at].uffd != uffd) at++;
  return at;
}

static size_t memory_of_process(pid_t process) {
  size_t at = 0;
  while (at < memory_count && memories[at].process != process) at++;
  return at;
}

/*
 * Flags of a mapping that do no harm (proc(5), VmFlags). Among the others are: locked, of a device, growing downwards, handled by
 * somebody else's userfaultfd, of huge pages, wiped at a fork. One that is left out at a fork (V8's) is not there in the child, and
 * what is never given there is never asked for.
 */
static int is_plain(char *flags, int ours) {
  static const char *const harmless[] = {"rd", "wr", "ex", "mr", "mw", "me", "ac", "nr", "sd", "hg", "nh", "mg", "dd", "dc"};
  for (char *flag = strtok(flags, " \n"); flag; flag = strtok(NULL, " \n")) {
    size_t at = 0;
    while (at < sizeof harmless / sizeof harmless[0] && strcmp(flag, harmless[at])) at++;
    if (at == sizeof harmless / sizeof harmless[0] && !(ours && !strcmp(flag, "um"))) return 0;
  }
  return 1;
}

/* Asynchronous input (io_setup(2)) may still write to pages while all threads stand: such a process is left alone. */
static void look_at(pid_t process) {
  if (taking_count == MOST_TAKEN) return;
  struct taking *taking = &takings[taking_count];
  *taking = (struct taking){.process = process};
  char path[64], line[8192], permissions[5];
  unsigned long inode = 1;
  uint64_t start = 0, end = 0, from, to;
  int anonymous = 0, name = 0, asynchronous = 0, ours = memory_of_process(process) < memory_count;
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
    } else if (anonymous && !strncmp(line, "VmFlags:", 8) && is_plain(line + 8, ours)) take_pages(taking, pagemap, start, end);
  }
  if (maps) fclose(maps);
  if (pagemap >= 0) close(pagemap);
  if (taking->run_count > 0 && !asynchronous) taking_count++;
}

static uint64_t bytes_of(const struct taking *taking) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < taking->run_count; i++) bytes += taking->runs[i].end - taking->runs[i].start;
  return bytes;
}

static void forget_takings(void) {
  for (size_t i = 0; i < taking_count; i++) {
    free(takings[i].runs);
    free(takings[i].mappings);
  }
  taking_count = 0;
}

/* One that shares its memory with another (vfork(2), CLONE_VM) would drop it for both, of which only one tells us. */
uint64_t look_for_memory(void) {
  forget_takings();
  static pid_t processes[MOST_TAKEN * 4];
  size_t count = stopped_processes(processes, sizeof processes / sizeof processes[0]);
  for (size_t i = 0; i < count; i++) {
    int same = 0;
    for (size_t j = 0; j < count && !same; j++) same = i != j && syscall(SYS_kcmp, processes[i], processes[j], KCMP_VM, 0, 0) == 0;
    if (!same) look_at(processes[i]);
  }
  uint64_t bytes = 0;
  for (size_t i = 0; i < taking_count; i++) bytes += bytes_of(&takings[i]);
  return bytes;
}

/*
 * Reads for us what processes have. A page that was there may have gone meanwhile, when it was one that the kernel may take (MADV_FREE):
 * then whoever reads it waits until this process says what it holds, and so it must not be this process.
 */
static struct {
  int socket;
  pid_t process;
  unsigned char *bytes; /* shared with it, READ_BYTES */
} reader;

struct reading {
  uint64_t start, length;
  pid_t process;
};

__attribute__((noreturn)) static void read_for(int socket) {
  struct reading wanted;
  while (recv(socket, &wanted, sizeof wanted, 0) == sizeof wanted) {
    struct iovec here = {reader.bytes, wanted.length}, there = {(void *)wanted.start, wanted.length};
    int whole = process_vm_readv(wanted.process, &here, 1, &there, 1, 0) == (ssize_t)wanted.length;
    if (send(socket, &whole, sizeof whole, MSG_NOSIGNAL) != sizeof whole) break;
  }
  _exit(0);
}

void start_reader(void) {
  int ends[2];
  reader.bytes = mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (reader.bytes == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) fail("start a reader");
  pid_t worker = getpid(), child = fork();
  if (child < 0) fail("start a reader");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != worker) _exit(1);
    dup2(ends[1], 0); /* it must hold nothing else: what is held by nobody any more is to be seen */
    close_range(1, ~0u, 0);
    read_for(0);
  }
  close(ends[1]);
  reader.socket = ends[0];
  reader.process = child;
}

void end_reader(void) {
  close(reader.socket);
  waitpid(reader.process, NULL, 0);
  munmap(reader.bytes, READ_BYTES);
}

/* Into reader.bytes; false when it is not all there. */
static int read_memory(pid_t process, uint64_t start, size_t length) {
  struct reading wanted = {start, length, process};
  int whole;
  if (send(reader.socket, &wanted, sizeof wanted, MSG_NOSIGNAL) != sizeof wanted) fail("ask the reader");
  while (recv(reader.socket, &whole, sizeof whole, MSG_DONTWAIT) != sizeof whole) {
    if (errno != EAGAIN && errno != EINTR) fail("hear the reader");
    serve_meanwhile(reader.socket);
  }
  return whole;
}

static int is_zero(const unsigned char *page) { return page[0] == 0 && !memcmp(page, page + 1, PAGE_BYTES - 1); }

/* Pages from everywhere in what is stored, one by chance of each of as many equal parts. */
void sample_memory(struct store *store, uint64_t total) {
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
        if (read_memory(takings[t].process, run.start + (next - passed) * PAGE_BYTES, PAGE_BYTES) && !is_zero(reader.bytes)) {
          memcpy(page, reader.bytes, PAGE_BYTES);
          found++;
        }
        chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
        next = ++part * part_pages + chance % part_pages;
      }
      passed += count;
    }
  set_dictionary(store, pages, found * PAGE_BYTES);
  free(pages);
}

void serve_meanwhile(int descriptor) {
  struct pollfd polled = {.fd = descriptor, .events = POLLIN};
  hear_memories(&polled, 1, faults_wait() ? 1 : 100);
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
static int add_page(struct store *store, uint64_t address, const unsigned char *page) {
  if (is_zero(page)) return 1; /* what is missing and not in the store is zeros */
  put_extent(&batch.extents, (struct extent){address, address + PAGE_BYTES, (uint64_t)block_count(store) * BLOCK_BYTES + batch.in_block});
  memcpy(batch.block + batch.in_block, page, PAGE_BYTES);
  batch.in_block += PAGE_BYTES;
  if (batch.in_block < BLOCK_BYTES) return 1;
  batch.in_block = 0;
  return write_block(store, batch.block);
}

static int end_block(struct store *store) {
  if (batch.in_block == 0) return 1;
  memset(batch.block + batch.in_block, 0, BLOCK_BYTES - batch.in_block);
  batch.in_block = 0;
  return write_block(store, batch.block);
}

/* The bytes that were dropped; what was not is not missing. */
static uint64_t drop_batch(int uffd) {
  uint64_t dropped = 0;
  size_t at = memory_of(uffd);
  for (size_t i = 0; at < memory_count && i < batch.extents.count; i++) put_extent(&memories[at].missing, batch.extents.list[i]);
  for (size_t i = 0; i < batch.range_count; i++) {
    struct run range = batch.ranges[i];
    if (call(SYS_madvise, range.start, range.end - range.start, MADV_DONTNEED) == 0) dropped += range.end - range.start;
    else if ((at = memory_of(uffd)) < memory_count) cut_extents(&memories[at].missing, range.start, range.end);
  }
  return dropped;
}

/* False when there is no need to go on: the store is full, or we are told. */
static int take(struct store *store, const struct taking *taking, int uffd, int (*go_on)(void), uint64_t *dropped) {
  uint64_t at = taking->runs[0].start;
  for (size_t r = 0; r < taking->run_count;) {
    batch.extents.count = batch.range_count = batch.in_block = batch.bytes = 0;
    int room = 1;
    while (r < taking->run_count && batch.bytes < BATCH_BYTES && room) {
      uint64_t length = taking->runs[r].end - at < READ_BYTES ? taking->runs[r].end - at : READ_BYTES;
      if (read_memory(taking->process, at, length)) {
        for (uint64_t page = 0; page < length && room; page += PAGE_BYTES) room = add_page(store, at + page, reader.bytes + page);
        add_run(&batch.ranges, &batch.range_count, &batch.range_room, at, at + length);
        batch.bytes += length;
      }
      at += length;
      if (at == taking->runs[r].end && ++r < taking->run_count) at = taking->runs[r].start;
    }
    if (!room || !end_block(store)) return 0;
    *dropped += drop_batch(uffd);
    if (!go_on()) return 0;
  }
  return 1;
}

/* False as `take`; `why` gets a reason why nothing of it was taken. */
static int take_process(struct store *store, const struct taking *taking, void (*begin_holding)(void), int (*go_on)(void), uint64_t *dropped, const char **why) {
  const char *not_taken = begin_calls(taking->process);
  int more = 1;
  if (not_taken) {
    *why = not_taken;
    return more;
  }
  size_t at = memory_of_process(taking->process);
  int known = at < memory_count, uffd = known ? memories[at].uffd : open_memory(taking->process, &not_taken);
  if (!known && uffd >= 0) add_memory(uffd, NULL, store, &(struct extents){0})->process = taking->process;
  if (uffd >= 0) not_taken = NULL;
  for (size_t m = 0; m < taking->mapping_count && !not_taken; m++) {
    struct uffdio_register mapping = {.range = {taking->mappings[m].start, taking->mappings[m].end - taking->mappings[m].start}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(uffd, UFFDIO_REGISTER, &mapping)) not_taken = "its memory cannot be watched";
  }
  if (not_taken) *why = not_taken;
  else {
    begin_holding();
    more = take(store, taking, uffd, go_on, dropped);
  }
  const char *stuck = end_calls();
  errno = 0;
  if (stuck) fail("the instance cannot go on: %s", stuck);
  return more;
}

uint64_t take_memory(struct store *store, void (*begin_holding)(void), int (*go_on)(void), const char **why) {
  uint64_t dropped = 0;
  int more = go_on();
  hear_no_removals(1);
  for (size_t i = 0; i < taking_count && more; i++) more = take_process(store, &takings[i], begin_holding, go_on, &dropped, why);
  forget_takings();
  return dropped;
}
