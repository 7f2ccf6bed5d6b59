#define _GNU_SOURCE
#include "session.h"
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * The way of a session's bytes: between its connection, which speaks records, and the command's descriptors. Nothing is read of one side
 * before the other has taken what was read before, so a reader that stops stops its writer.
 */
static struct {
  unsigned char head[RECORD_HEAD];
  size_t head_length;
  size_t left; /* of the payload of the record whose head is complete */
  unsigned char input[RECORD_BYTES]; /* for the command, from `input_start` to `input_end` */
  size_t input_start, input_end;
  unsigned char payload[4]; /* of a record that is no input */
  size_t payload_length;
  int input_ended;
} coming;

static struct {
  unsigned char bytes[RECORD_HEAD + RECORD_BYTES];
  size_t start, end;
} going;

void send_record(int connection, int kind, const void *payload, size_t length) {
  unsigned char head[RECORD_HEAD] = {(unsigned char)kind, (unsigned char)(length >> 8), (unsigned char)length};
  if (send(connection, head, sizeof head, MSG_NOSIGNAL) < 0 || send(connection, payload, length, MSG_NOSIGNAL) < 0) _exit(1);
}

/* The last record is read only when nothing breaks the connection: what still comes is taken, until the other side closes, or for so long. */
void linger(int connection) {
  struct timeval most = {.tv_sec = 10};
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
  unsigned char thrown_away[4096];
  while (recv(connection, thrown_away, sizeof thrown_away, 0) > 0) {
  }
}

static void set_nonblocking(int fd) {
  if (fd >= 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int is_later(ssize_t got) { return got < 0 && (errno == EAGAIN || errno == EINTR); }

static void close_input(struct session *session) {
  /* The end of a terminal's input is a character: VEOF of termios(3). */
  if (session->is_terminal) {
    if (write(session->in, "\4", 1) < 0) return;
  } else if (session->in >= 0) {
    close(session->in);
    session->in = -1;
  }
}

/* False when the connection has ended, or says what is no record. */
static int hear(struct session *session) {
  if (coming.head_length < RECORD_HEAD) {
    ssize_t got = recv(session->connection, coming.head + coming.head_length, RECORD_HEAD - coming.head_length, MSG_DONTWAIT);
    if (is_later(got)) return 1;
    if (got <= 0) return 0;
    coming.head_length += (size_t)got;
    if (coming.head_length < RECORD_HEAD) return 1;
    coming.left = (size_t)coming.head[1] << 8 | coming.head[2];
    coming.payload_length = 0;
    int kind = coming.head[0];
    if (kind == INPUT ? coming.left == 0 || coming.left > RECORD_BYTES : kind == SIZE ? coming.left != 4 : kind != INPUT_END || coming.left != 0) return 0;
  }
  if (coming.left > 0) {
    int is_input = coming.head[0] == INPUT;
    unsigned char *place = is_input ? coming.input : coming.payload + coming.payload_length;
    ssize_t got = recv(session->connection, place, coming.left, MSG_DONTWAIT);
    if (is_later(got)) return 1;
    if (got <= 0) return 0;
    coming.left -= (size_t)got;
    if (is_input) coming.input_start = 0, coming.input_end = (size_t)got;
    else coming.payload_length += (size_t)got;
    if (coming.left > 0) return 1;
  }
  coming.head_length = 0;
  if (coming.head[0] == INPUT_END) coming.input_ended = 1;
  if (coming.head[0] == SIZE && session->is_terminal) {
    struct winsize size = {.ws_row = (unsigned short)(coming.payload[0] << 8 | coming.payload[1]), .ws_col = (unsigned short)(coming.payload[2] << 8 | coming.payload[3])};
    ioctl(session->in, TIOCSWINSZ, &size);
  }
  return 1;
}

/* What a command that reads no more does not take is thrown away. */
static void feed(struct session *session) {
  ssize_t wrote = write(session->in, coming.input + coming.input_start, coming.input_end - coming.input_start);
  if (is_later(wrote)) return;
  coming.input_start = wrote < 0 ? coming.input_end : coming.input_start + (size_t)wrote;
}

/* What was read: 1 some, 0 nothing now, -1 it has ended. */
static int collect(int *fd, int kind) {
  ssize_t got = read(*fd, going.bytes + RECORD_HEAD, RECORD_BYTES);
  if (is_later(got)) return 0;
  if (got <= 0) { /* of a terminal: EIO */
    *fd = -1;
    return -1;
  }
  going.bytes[0] = (unsigned char)kind;
  going.bytes[1] = (unsigned char)(got >> 8);
  going.bytes[2] = (unsigned char)got;
  going.start = 0;
  going.end = RECORD_HEAD + (size_t)got;
  return 1;
}

static int say(struct session *session) {
  ssize_t sent = send(session->connection, going.bytes + going.start, going.end - going.start, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (is_later(sent)) return 1;
  if (sent < 0) return 0;
  going.start += (size_t)sent;
  return 1;
}

static void tell_exit(int connection, int status) {
  const unsigned char payload[2] = {WIFSIGNALED(status) ? 1 : 0, (unsigned char)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status))};
  send_record(connection, EXIT, payload, sizeof payload);
}

/* What a command that has ended has written is there by now; a terminal says when it has given all (EIO). Whoever else has it open is not waited for. */
static int drain(struct session *session) {
  if (going.start < going.end) return 0;
  if (session->out >= 0 && collect(&session->out, OUTPUT) > 0) return 0;
  if (session->errors >= 0 && collect(&session->errors, ERRORS) > 0) return 0;
  return session->out < 0 || !session->is_terminal;
}

void relay(struct session *session) {
  int command = (int)syscall(SYS_pidfd_open, session->pid, 0);
  if (command < 0) fail("watch the command");
  set_nonblocking(session->in);
  set_nonblocking(session->out);
  set_nonblocking(session->errors);
  int status = 0, ended = 0, patience = 100; /* of 10 ms, for a terminal that does not say that it has given all */
  for (;;) {
    if (session->in < 0 || ended) coming.input_start = coming.input_end;
    int has_input = coming.input_start < coming.input_end, has_output = going.start < going.end;
    if (coming.input_ended && !has_input) {
      coming.input_ended = 0;
      close_input(session);
    }
    if (ended && !has_output && (drain(session) || (going.start == going.end && --patience == 0))) return tell_exit(session->connection, status);
    has_output = going.start < going.end;
    struct pollfd waits[] = {
        {.fd = session->connection, .events = (short)(POLLRDHUP | (has_input ? 0 : POLLIN) | (has_output ? POLLOUT : 0))},
        {.fd = has_input ? session->in : -1, .events = POLLOUT},
        {.fd = has_output || ended ? -1 : session->out, .events = POLLIN},
        {.fd = has_output || ended ? -1 : session->errors, .events = POLLIN},
        {.fd = ended ? -1 : command, .events = POLLIN},
    };
    if (poll(waits, sizeof waits / sizeof waits[0], ended && !has_output ? 10 : -1) < 0 && errno != EINTR) fail("poll");
    if (waits[0].revents & (POLLRDHUP | POLLHUP | POLLERR)) return;
    if (waits[0].revents & POLLOUT && !say(session)) return;
    if (waits[0].revents & POLLIN && !hear(session)) return;
    if (has_input && waits[1].revents) feed(session);
    if (going.start == going.end && waits[2].revents) collect(&session->out, OUTPUT);
    if (going.start == going.end && waits[3].revents) collect(&session->errors, ERRORS);
    if (waits[4].revents) ended = waitpid(session->pid, &status, WNOHANG) == session->pid;
  }
}
