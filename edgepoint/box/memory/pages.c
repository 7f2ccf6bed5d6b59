#define _GNU_SOURCE
#include "pages.h"
#include "../box.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * The pages server: gives a lazily restored instance its memory (userfaultfd(2); Documentation/admin-guide/mm/userfaultfd.rst).
 * CRIU hands over a descriptor for each process, and says when the restore is finished (criu/uffd.c). From then on the instance
 * runs. A page that it waits for is given at once, with its neighbours; all else is given in the background, and when all is there
 * the descriptors are closed and the kernel handles the memory alone, as that of any process.
 *
 * The kernel also tells, and waits until it was heard, when the instance forks, moves, unmaps or drops memory: what is still
 * missing moves, is forgotten, or is missing in two processes. One thread does all of it, so that none of it can be overtaken.
 */
enum { FINISHED = 0x52535446 }; /* of CRIU, in place of a process id */

#define PIECE_BYTES (16u << 10) /* given together with a page that is waited for */
#define FILL_BYTES (32u << 10)  /* given at once in the background: a fault may have to wait for it, some 15 us */
#define WAIT_MS 1               /* for CRIU to hand over the next mappings, and for the end of learning */

/*
 * What an instance asks for right after its restore is nearly the same each time. Its first restore notes it in the snapshot's file
 * of first pages, and later ones give those first, some before the instance even runs. A hint: a wrong one costs nothing but time.
 */
#define MOST_FIRST_PAGES 2048
#define LEARNING_MS 100 /* of the first restore: what is asked for so soon is noted, and the background waits */

/* A fault that must be answered once the kernel has told all its events. */
struct fault {
  int uffd;
  uint64_t page;
};

struct memory *memories;
size_t memory_count;
static struct fault *faults;
static size_t fault_count;

static uint64_t first_pages[MOST_FIRST_PAGES]; /* in the order they are wanted */
static size_t first_count, first_given;
static int learning; /* this restore is the one that notes them */
static int finished; /* CRIU has handed over all mappings, and the instance runs */
static int no_removals;
static uint64_t messages;

enum outcome { GIVEN, AGAIN, NOT_YET, GONE };

void no_more_mappings(void) { finished = 1; }
void hear_no_removals(int on) { no_removals = on; }
uint64_t messages_heard(void) { return messages; }
int faults_wait(void) { return fault_count > 0; }

struct memory *add_memory(int uffd, const unsigned char *bytes, struct store *store, const struct extents *missing) {
  memories = realloc(memories, (memory_count + 1) * sizeof *memories);
  if (!memories) fail("memory for a process");
  struct memory *memory = &memories[memory_count++];
  *memory = (struct memory){.uffd = uffd, .bytes = bytes, .store = store};
  copy_extents(&memory->missing, missing);
  return memory;
}

/* Its process is gone, or nothing of it is missing: closing lets the kernel handle it alone. */
void drop_memory(size_t index) {
  close(memories[index].uffd);
  free(memories[index].missing.list);
  memories[index] = memories[--memory_count];
}

static void wake(const struct memory *memory, uint64_t page) {
  struct uffdio_range range = {.start = page, .len = PAGE_BYTES};
  if (ioctl(memory->uffd, UFFDIO_WAKE, &range) && errno != ESRCH) fail("wake");
}

/* One call to the kernel: what `given` says, or a negative error. */
static int64_t ask_kernel(const struct memory *memory, uint64_t start, uint64_t length, const unsigned char *source) {
  struct uffdio_copy copy = {.dst = start, .src = (uint64_t)(uintptr_t)source, .len = length};
  struct uffdio_zeropage zero = {.range = {.start = start, .len = length}};
  int failed = source ? ioctl(memory->uffd, UFFDIO_COPY, &copy) : ioctl(memory->uffd, UFFDIO_ZEROPAGE, &zero);
  if (!failed) return (int64_t)length;
  int64_t given = source ? copy.copy : zero.zeropage;
  return given > 0 ? given : -errno;
}

/*
 * Gives the pages from `*start` up to `end`, copies of `source` or, without one, zeros; `*start` then stands behind what was given.
 * AGAIN: the kernel has something to tell first. NOT_YET: CRIU has not handed over the mapping. Where no memory is any more,
 * nothing is given, and whoever waits there looks again.
 */
static enum outcome give(const struct memory *memory, uint64_t *start, uint64_t end, const unsigned char *source) {
  uint64_t until = end;
  while (*start < end) {
    int64_t given = ask_kernel(memory, *start, until - *start, source);
    if (given == -EAGAIN) return AGAIN;
    if (given == -ESRCH) return GONE;
    if (given == -ENOENT && until - *start > PAGE_BYTES) {
      until = *start + (until - *start) / 2 / PAGE_BYTES * PAGE_BYTES; /* it reaches beyond one mapping */
      continue;
    }
    if (given == -ENOENT && !finished) return NOT_YET;
    if (given == -EEXIST || given == -ENOENT) {
      wake(memory, *start);
      given = PAGE_BYTES;
    }
    if (given < 0) {
      errno = (int)-given;
      fail("give %llu bytes at %llx", (unsigned long long)(until - *start), (unsigned long long)*start);
    }
    *start += (uint64_t)given;
    if (source) source += given;
    until = end;
  }
  return GIVEN;
}

static uint64_t at_least(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t at_most(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* A piece of one extent, of a store no more than one block. An image lies in memory: to map it before it is copied costs more (decision 153). */
static enum outcome give_piece(struct memory *memory, struct extent extent, uint64_t start, uint64_t end) {
  uint64_t at = start = at_least(start, extent.start);
  end = at_most(end, extent.end);
  uint64_t offset = extent.offset + (start - extent.start);
  const unsigned char *source;
  if (memory->store) {
    end = at_most(end, start + BLOCK_BYTES - offset % BLOCK_BYTES);
    source = read_block(memory->store, offset / BLOCK_BYTES) + offset % BLOCK_BYTES;
  } else {
    source = memory->bytes + offset;
  }
  enum outcome outcome = give(memory, &at, end, source);
  cut_extents(&memory->missing, start, at);
  return outcome;
}

/* The extent that a page is missing of, or NULL. */
static const struct extent *missing_at(const struct memory *memory, uint64_t page) {
  size_t at = extent_after(&memory->missing, page);
  const struct extent *extent = memory->missing.list + at;
  return at < memory->missing.count && extent->start <= page ? extent : NULL;
}

static enum outcome answer_fault(struct memory *memory, uint64_t page) {
  uint64_t start = page / PIECE_BYTES * PIECE_BYTES, end = start + PIECE_BYTES;
  const struct extent *extent = missing_at(memory, page);
  if (learning && memory == memories && first_count < MOST_FIRST_PAGES) first_pages[first_count++] = page;
  if (extent && memory->store) start = page - at_most(page - extent->start, (extent->offset + (page - extent->start)) % BLOCK_BYTES);
  if (extent) return give_piece(memory, *extent, start, start + PIECE_BYTES);
  /* Nothing was ever written there, or it was dropped since: zeros, and behind the page too as far as that is so. */
  size_t at = extent_after(&memory->missing, page);
  if (at < memory->missing.count) end = at_most(end, memory->missing.list[at].start);
  uint64_t behind = page + PAGE_BYTES;
  enum outcome outcome = give(memory, &page, behind, NULL);
  if (outcome == GIVEN && behind < end) (void)give(memory, &behind, end, NULL); /* only for speed */
  return outcome;
}

static void keep_fault(int uffd, uint64_t page) {
  faults = realloc(faults, (fault_count + 1) * sizeof *faults);
  if (!faults) fail("memory for a fault");
  faults[fault_count++] = (struct fault){.uffd = uffd, .page = page};
}

static void answer_faults(void) {
  size_t kept = 0;
  for (size_t i = 0; i < fault_count; i++) {
    size_t index = 0;
    while (index < memory_count && memories[index].uffd != faults[i].uffd) index++;
    if (index == memory_count) continue;
    enum outcome outcome = answer_fault(&memories[index], faults[i].page);
    if (outcome == AGAIN || outcome == NOT_YET) faults[kept++] = faults[i];
    if (outcome == GONE) drop_memory(index);
  }
  fault_count = kept;
}

void ask_again(void) {
  for (size_t i = 0; i < fault_count; i++) {
    struct uffdio_range range = {.start = faults[i].page, .len = PAGE_BYTES};
    ioctl(faults[i].uffd, UFFDIO_WAKE, &range);
  }
  fault_count = 0;
}

/* Reads all that the kernel has to tell of one process; true when it told something. */
static int hear(size_t index) {
  struct uffd_msg message;
  int heard = 0;
  int uffd = memories[index].uffd;
  for (;;) {
    ssize_t got = read(uffd, &message, sizeof message);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return heard;
    if (got != sizeof message) fail("read a userfaultfd");
    heard = 1;
    messages++;
    struct memory *memory = &memories[index];
    switch (message.event) {
    case UFFD_EVENT_PAGEFAULT:
      keep_fault(uffd, message.arg.pagefault.address / PAGE_BYTES * PAGE_BYTES);
      break;
    case UFFD_EVENT_FORK: {
      struct extents missing = memory->missing;
      add_memory((int)message.arg.fork.ufd, memory->bytes, memory->store, &missing);
      break;
    }
    case UFFD_EVENT_REMAP:
      move_extents(&memory->missing, message.arg.remap.from, message.arg.remap.to, message.arg.remap.len);
      break;
    case UFFD_EVENT_REMOVE:
      if (no_removals) break; /* and it is missing because of that */
      /* fall through */
    case UFFD_EVENT_UNMAP:
      cut_extents(&memory->missing, message.arg.remove.start, message.arg.remove.end);
      break;
    default:
      fail("an event %d of a userfaultfd", message.event);
    }
  }
}

int hear_memories(struct pollfd *others, size_t count, int wait_ms) {
  struct pollfd polled[memory_count + count];
  size_t known = memory_count;
  for (size_t i = 0; i < known; i++) polled[i] = (struct pollfd){.fd = memories[i].uffd, .events = POLLIN};
  memcpy(polled + known, others, count * sizeof *others);
  if (poll(polled, known + count, wait_ms) < 0) {
    if (errno != EINTR) fail("poll");
    return 0;
  }
  memcpy(others, polled + known, count * sizeof *others);
  int heard = 0;
  for (size_t i = 0; i < known; i++)
    if (polled[i].revents) heard |= hear(i);
  if (fault_count > 0) answer_faults();
  return heard;
}

/* Gives the next of the first pages, with its neighbours; false when none is left, or CRIU must hand over its mapping before. */
static int give_first(void) {
  for (; memory_count > 0 && first_given < first_count; first_given++) {
    uint64_t page = first_pages[first_given], start = page / PIECE_BYTES * PIECE_BYTES;
    const struct extent *extent = missing_at(&memories[0], page);
    if (extent) return give_piece(&memories[0], *extent, start, start + PIECE_BYTES) == GIVEN;
  }
  return 0;
}

/* A piece of the background; false when nothing is missing. */
int fill(void) {
  while (memory_count > 0 && memories[0].missing.count == 0) drop_memory(0);
  if (memory_count == 0) return 0;
  struct extent next = memories[0].missing.list[0];
  if (give_piece(&memories[0], next, next.start, next.start + FILL_BYTES) == GONE) drop_memory(0);
  return 1;
}

static ssize_t receive(int connection, void *data, size_t length, int *descriptor) {
  char room[CMSG_SPACE(sizeof(int))];
  struct iovec part = {.iov_base = data, .iov_len = length};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  ssize_t got;
  while ((got = recvmsg(connection, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR);
  struct cmsghdr *control = CMSG_FIRSTHDR(&message);
  *descriptor = -1;
  if (got > 0 && control && control->cmsg_type == SCM_RIGHTS) memcpy(descriptor, CMSG_DATA(control), sizeof *descriptor);
  return got;
}

/* What CRIU says: a process id and then, in a message of its own, the descriptor of its memory. True when it has finished. */
static int hear_criu(int connection, const struct image *images, size_t count) {
  int pid, uffd;
  char byte;
  errno = 0;
  if (receive(connection, &pid, sizeof pid, &uffd) != sizeof pid) fail("CRIU ended before the restore was finished");
  if (pid == FINISHED) return 1;
  if (pid < 0) return 0; /* a process that has ended and waits to be reaped: it has no memory */
  if (receive(connection, &byte, 1, &uffd) != 1 || uffd < 0) fail("CRIU gave no userfaultfd");
  for (size_t i = 0; i < count; i++)
    if (images[i].pid == pid) {
      add_memory(uffd, images[i].bytes, NULL, &images[i].lazy);
      return 0;
    }
  fail("the snapshot has no page map of process %d", pid);
}

static void learn_first_pages(int file) {
  ssize_t got = read(file, first_pages, sizeof first_pages);
  first_count = got > 0 ? (size_t)got / sizeof *first_pages : 0;
  learning = first_count == 0; /* by what is waited for until the background begins */
}

static void note_first_pages(int file) {
  learning = 0;
  /* Without it the next restore learns them; all in one call, so that nobody reads a part. */
  if (first_count > 0 && write(file, first_pages, first_count * sizeof *first_pages) < 0) first_count = 0;
  first_given = first_count;
}

/* Returns when all memory of all processes is there, or the processes are gone. */
void serve_pages(int listener, int first_pages_file, const struct image *images, size_t count) {
  learn_first_pages(first_pages_file);
  int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (connection < 0) fail("accept CRIU");
  close(listener);
  uint64_t finished_ns = 0;
  for (int at_work = 0;;) {
    struct pollfd polled = {.fd = finished ? -1 : connection, .events = POLLIN};
    int waits = fault_count > 0 || (memory_count > 0 && first_given < first_count && !learning);
    int heard = hear_memories(&polled, 1, at_work ? 0 : finished || waits ? WAIT_MS : -1);
    if (polled.revents && hear_criu(connection, images, count)) {
      finished = 1;
      finished_ns = now_ns();
      close(connection);
    }
    if (finished && learning && now_ns() - finished_ns > LEARNING_MS * 1000000ull) note_first_pages(first_pages_file);
    if (heard) continue;
    at_work = !learning && give_first();
    if (at_work || learning || !finished) continue;
    at_work = 1;
    if (!fill()) return;
  }
}
