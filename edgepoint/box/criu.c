#define _GNU_SOURCE
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * CRIU as a worker (`criu swrk`, criu/cr-service.c): started with the slot, so that a wake waits neither for its start nor for its
 * libraries, and asked for the restore in its own protocol (images/rpc.proto), one protobuf message a packet. The request is made
 * by the caller (criu-request.ts); this relays it, answers CRIU's notifications and reads the result.
 */
enum { TYPE = 1, SUCCESS = 2, RESTORED = 4, NOTIFICATION = 5, MESSAGE = 9 }; /* fields of criu_resp */
enum { RESTORED_PID = 1 };
enum { SCRIPT = 1, SCRIPT_PID = 2 };
enum { REQUEST_RESTORE = 2, REQUEST_NOTIFY = 6 };

#define MOST_MESSAGE_BYTES 65536

int start_criu(const char *program) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) fail("socket pair");
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    char descriptor[16];
    int null = open("/dev/null", O_RDWR);
    /* CRIU leaves the cgroup namespace as it finds it: what it restores inherits this one, rooted at the slot's cgroups. */
    if (null < 0 || unshare(CLONE_NEWCGROUP)) fail("cgroup namespace");
    /* The caller waits for the end of the slot's output, which is the instance's business from then on, not CRIU's. */
    for (int standard = 0; standard < 3; standard++) dup2(null, standard);
    if (null > 2) close(null);
    if (fcntl(ends[1], F_SETFD, 0)) _exit(1);
    snprintf(descriptor, sizeof descriptor, "%d", ends[1]);
    execl(program, program, "swrk", descriptor, (char *)NULL);
    _exit(127);
  }
  close(ends[1]);
  /* It outlives this process by a moment: whoever inherits it wants to know whom to wait for. */
  dprintf(STDOUT_FILENO, "criu %d\n", child);
  return ends[0];
}

static uint64_t read_varint(const unsigned char **at, const unsigned char *end) {
  uint64_t value = 0;
  for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
    unsigned char byte = *(*at)++;
    value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) break;
  }
  return value;
}

/* The next field of a message; 0 at its end. CRIU's messages hold numbers, strings and messages only. */
int next_field(const unsigned char **at, const unsigned char *end, struct field *field) {
  if (*at >= end) return 0;
  uint64_t key = read_varint(at, end);
  *field = (struct field){.number = (unsigned)(key >> 3), .value = read_varint(at, end)};
  if ((key & 7) == 0) return 1;
  if ((key & 7) != 2 || field->value > (uint64_t)(end - *at)) return 0;
  field->text = *at;
  *at += field->value;
  return 1;
}

static void answer_notification(struct box *box, int worker, const struct field *notification) {
  static const unsigned char understood[] = {TYPE << 3, REQUEST_NOTIFY, 3 << 3, 1}; /* notify_success = true */
  const unsigned char *at = notification->text, *end = at + notification->value;
  char script[64] = "";
  pid_t pid = 0;
  struct field field;
  while (next_field(&at, end, &field)) {
    if (field.number == SCRIPT && field.value < sizeof script) memcpy(script, field.text, field.value), script[field.value] = 0;
    if (field.number == SCRIPT_PID) pid = (pid_t)field.value;
  }
  if (box->own_network) follow_restore(box, script, pid);
  if (send(worker, understood, sizeof understood, 0) < 0) fail("answer CRIU");
}

static unsigned char digit_of(char hexadecimal) {
  return (unsigned char)(hexadecimal >= 'a' ? hexadecimal - 'a' + 10 : hexadecimal - '0');
}

static void send_request(int worker, const char *hexadecimal) {
  static unsigned char request[MOST_MESSAGE_BYTES];
  size_t length = strlen(hexadecimal) / 2;
  errno = EMSGSIZE;
  if (length == 0 || length > sizeof request) fail("the request to CRIU");
  for (size_t i = 0; i < length; i++) request[i] = (unsigned char)(digit_of(hexadecimal[2 * i]) << 4 | digit_of(hexadecimal[2 * i + 1]));
  if (send(worker, request, length, 0) < 0) fail("ask CRIU");
}

static void hold_folder(const char *path, int descriptor) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 || dup3(fd, descriptor, O_CLOEXEC) < 0) fail("open %s", path);
}

int restore_by_criu(struct box *box, int worker, int guard, const char *request) {
  static unsigned char answer[MOST_MESSAGE_BYTES];
  hold_folder(box->images, IMAGES_DESCRIPTOR);
  hold_folder(box->work, WORK_DESCRIPTOR);
  send_request(worker, request);
  for (;;) {
    if (box->fill) wait_for_criu(worker, guard);
    ssize_t length = recv(worker, answer, sizeof answer, 0);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) fail("CRIU ended without an answer");
    const unsigned char *at = answer, *end = answer + length;
    struct field field, notification = {0};
    uint64_t type = 0, success = 0, pid = 0;
    char why[512] = "";
    while (next_field(&at, end, &field)) {
      if (field.number == TYPE) type = field.value;
      if (field.number == SUCCESS) success = field.value;
      if (field.number == NOTIFICATION) notification = field;
      if (field.number == MESSAGE && field.text) snprintf(why, sizeof why, "%.*s", (int)field.value, (const char *)field.text);
      if (field.number == RESTORED) {
        const unsigned char *inner = field.text, *inner_end = inner + field.value;
        struct field of;
        while (next_field(&inner, inner_end, &of))
          if (of.number == RESTORED_PID) pid = of.value;
      }
    }
    if (type == REQUEST_NOTIFY && notification.text) {
      answer_notification(box, worker, &notification);
      continue;
    }
    errno = 0;
    if (type != REQUEST_RESTORE || !success || pid == 0) fail("CRIU could not restore it%s%s", why[0] ? ": " : "", why);
    if (box->fill) tell_pages(guard, (pid_t)pid);
    dprintf(STDOUT_FILENO, "pid %llu\n", (unsigned long long)pid);
    return 0;
  }
}
