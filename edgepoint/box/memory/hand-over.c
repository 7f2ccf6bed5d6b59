#define _GNU_SOURCE
#include "pager.h"
#include "../box.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * An instance that is frozen again gets a new pager, which has the rights to take memory; the old one, which has given them away, hands
 * over all it holds: the held file with its lock, the store, what is missing of whom, and their userfaultfds. It holds them too until
 * the new one has said that it has everything, so that at no moment nobody does.
 *
 * On the connection: a head with three descriptors, then the userfaultfds, so many with each byte; back comes a byte.
 */
#define TAKE_OVER 'T'
#define AT_ONCE 64       /* descriptors in a message */
#define ANSWER_MS 5000
#define MOST_MEMORIES 4096

struct head {
  struct store_head store;
  uint64_t memories;
};

/* In the state file: first the store's places, then for each memory this, and its extents behind it. */
struct memory_head {
  int64_t process;
  uint64_t extents;
};

static int send_with(int connection, const void *bytes, size_t length, const int *descriptors, size_t count) {
  char room[CMSG_SPACE(AT_ONCE * sizeof(int))] = {0};
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = CMSG_SPACE(count * sizeof(int))};
  struct cmsghdr *control = CMSG_FIRSTHDR(&message);
  *control = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
  memcpy(CMSG_DATA(control), descriptors, count * sizeof(int));
  struct pollfd polled = {.fd = connection, .events = POLLOUT};
  while (sendmsg(connection, &message, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length) {
    if ((errno != EAGAIN && errno != EINTR) || poll(&polled, 1, ANSWER_MS) <= 0) return 0;
  }
  return 1;
}

static int receive_with(int connection, void *bytes, size_t length, int *descriptors, size_t count) {
  char room[CMSG_SPACE(AT_ONCE * sizeof(int))];
  struct iovec part = {.iov_base = bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  struct pollfd polled = {.fd = connection, .events = POLLIN};
  if (poll(&polled, 1, ANSWER_MS) <= 0) return 0;
  if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL) != (ssize_t)length) return 0;
  struct cmsghdr *control = CMSG_FIRSTHDR(&message);
  if (!control || control->cmsg_type != SCM_RIGHTS || control->cmsg_len != CMSG_LEN(count * sizeof(int))) return 0;
  memcpy(descriptors, CMSG_DATA(control), count * sizeof(int));
  return 1;
}

static int write_all(int file, const void *bytes, size_t length) {
  for (size_t at = 0; at < length;) {
    ssize_t written = write(file, (const char *)bytes + at, length - at);
    if (written <= 0) return 0;
    at += (size_t)written;
  }
  return 1;
}

static int write_state(int file, const struct store *store) {
  if (!write_all(file, places_of(store), block_count(store) * sizeof(struct place))) return 0;
  for (size_t i = 0; i < memory_count; i++) {
    struct memory_head head = {.process = memories[i].process, .extents = memories[i].missing.count};
    if (!write_all(file, &head, sizeof head) || !write_all(file, memories[i].missing.list, memories[i].missing.count * sizeof(struct extent))) return 0;
  }
  return 1;
}

int hand_over(int connection, int held_file, struct store *store) {
  struct head head = {.store = head_of(store), .memories = memory_count};
  int state = memfd_create("state", MFD_CLOEXEC), given = 0;
  char byte;
  if (state >= 0 && write_state(state, store)) {
    int descriptors[3] = {held_file, file_of(store), state}, some[AT_ONCE];
    given = send_with(connection, &head, sizeof head, descriptors, 3);
    for (size_t i = 0; given && i < memory_count; i += AT_ONCE) {
      size_t count = memory_count - i < AT_ONCE ? memory_count - i : AT_ONCE;
      for (size_t j = 0; j < count; j++) some[j] = memories[i + j].uffd;
      given = send_with(connection, "", 1, some, count);
    }
  }
  if (state >= 0) close(state);
  struct pollfd polled = {.fd = connection, .events = POLLIN};
  return given && poll(&polled, 1, ANSWER_MS) > 0 && read(connection, &byte, 1) == 1;
}

/* By a path through its folder, because those of sockets are short. */
int connect_or_listen(const char *path, int connecting) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char folder[4096];
  snprintf(folder, sizeof folder, "%s", path);
  char *name = strrchr(folder, '/');
  errno = EINVAL;
  if (!name) fail("listen at %s", path);
  *name++ = 0;
  int in = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (connecting ? 0 : SOCK_NONBLOCK), 0);
  if (in < 0 || made < 0 || snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", in, name) >= (int)sizeof address.sun_path) fail("listen at %s", path);
  if (!connecting) unlinkat(in, name, 0);
  int failed = connecting ? connect(made, (struct sockaddr *)&address, sizeof address) : bind(made, (struct sockaddr *)&address, sizeof address) || listen(made, 8);
  if (failed && !connecting) fail("listen at %s", path);
  close(in);
  if (failed) close(made);
  return failed ? -1 : made;
}

static const unsigned char *read_state(int file, size_t *length) {
  struct stat status;
  if (fstat(file, &status)) fail("read what a pager held");
  *length = (size_t)status.st_size;
  void *mapped = mmap(NULL, *length, PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) fail("read what a pager held");
  return mapped;
}

static void read_memories(const unsigned char *at, const unsigned char *end, const int *uffds, size_t count, struct store *store) {
  for (size_t i = 0; i < count; i++) {
    struct memory_head head;
    errno = 0;
    if ((size_t)(end - at) < sizeof head) fail("what a pager held is cut short");
    memcpy(&head, at, sizeof head);
    at += sizeof head;
    if (head.extents > (size_t)(end - at) / sizeof(struct extent)) fail("what a pager held is cut short");
    struct extents missing = {.list = (struct extent *)at, .count = head.extents};
    add_memory(uffds[i], NULL, store, &missing)->process = (int)head.process;
    at += head.extents * sizeof(struct extent);
  }
}

struct store *take_over(const char *path, void (*begin_holding)(void), int *held_file) {
  static int uffds[MOST_MEMORIES];
  struct head head;
  int descriptors[3];
  int connection = connect_or_listen(path, 1);
  if (connection < 0) return NULL;
  char wish = TAKE_OVER, byte;
  if (send(connection, &wish, 1, MSG_NOSIGNAL) != 1 || !receive_with(connection, &head, sizeof head, descriptors, 3)) {
    close(connection);
    return NULL; /* it was about to end */
  }
  errno = 0;
  if (head.memories > MOST_MEMORIES) fail("a pager holds the memory of too many processes");
  for (size_t i = 0; i < head.memories; i += AT_ONCE)
    if (!receive_with(connection, &byte, 1, uffds + i, head.memories - i < AT_ONCE ? head.memories - i : AT_ONCE)) fail("take over from a pager");
  size_t length;
  const unsigned char *state = read_state(descriptors[2], &length);
  size_t places_bytes = head.store.count * sizeof(struct place);
  errno = 0;
  if (places_bytes > length) fail("what a pager held is cut short");
  struct place *places = malloc(places_bytes);
  if (!places) fail("memory for a store");
  memcpy(places, state, places_bytes);
  struct store *store = adopt_store(descriptors[1], head.store, places);
  read_memories(state + places_bytes, state + length, uffds, head.memories, store);
  munmap((void *)state, length);
  close(descriptors[2]);
  *held_file = descriptors[0];
  begin_holding();
  if (send(connection, "", 1, MSG_NOSIGNAL) != 1) fail("take over from a pager");
  close(connection);
  return store;
}
