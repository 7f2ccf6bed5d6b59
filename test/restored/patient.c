/*
 * A server with a thread in each system call that one can wait in: `patient MEGABYTES`. Each thread notes what its call should not have
 * done. A connection is answered by a line "WAITS ODD BAD": how often they have waited, how often oddly, and how many pages of memory are
 * not what they were. A connection that sends "poke" first has all threads that wait for something get it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned waits, odd;
static uint32_t word;
static int events, ends[2];

static void waited(int as_it_should, const char *what) {
  __atomic_fetch_add(&waits, 1, __ATOMIC_SEQ_CST);
  if (as_it_should) return;
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  __atomic_fetch_add(&odd, 1, __ATOMIC_SEQ_CST);
}

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Waits with a time, of which none may be cut short. */
static void *naps(void *unused) {
  for (;;) {
    struct timespec nap = {0, 70000000};
    uint64_t from = now_ms();
    waited(nanosleep(&nap, NULL) == 0 && now_ms() - from >= 69, "nanosleep");
  }
  return unused;
}

static void *polls(void *unused) {
  for (;;) {
    uint64_t from = now_ms();
    waited(poll(NULL, 0, 130) == 0 && now_ms() - from >= 129, "poll");
  }
  return unused;
}

static void *futexes(void *unused) {
  for (;;) {
    struct timespec nap = {0, 90000000};
    uint32_t never = 0;
    waited(syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, &nap, NULL, 0) < 0 && errno == ETIMEDOUT, "futex with a time");
  }
  return unused;
}

/* Waits for a poke. */
static void *sleeps_on_word(void *unused) {
  for (uint32_t seen = 0;; seen = word) {
    errno = 0;
    long done = syscall(SYS_futex, &word, FUTEX_WAIT, seen, NULL, NULL, 0);
    waited(done == 0 || errno == EAGAIN, "futex");
  }
  return unused;
}

static void *reads(void *unused) {
  char byte;
  for (;;) waited(read(ends[0], &byte, 1) == 1, "read");
  return unused;
}

/* These may say EINTR when they were stopped (signal(7)), and nothing else. */
static void *epolls(void *unused) {
  int epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN}, got;
  epoll_ctl(epoll, EPOLL_CTL_ADD, events, &event);
  for (uint64_t value;;) {
    int done = epoll_wait(epoll, &got, 1, -1);
    waited(done == 1 || errno == EINTR, "epoll_wait");
    if (done == 1 && read(events, &value, sizeof value) != sizeof value) waited(0, "read of an eventfd");
  }
  return unused;
}

static void *selects(void *unused) {
  for (;;) {
    struct timeval nap = {0, 110000};
    waited(select(0, NULL, NULL, NULL, &nap) == 0, "select");
  }
  return unused;
}

static void on_alarm(int signal) { (void)signal; }

/* Waits for a signal that comes at its time, also while it is stopped. */
static void *suspends(void *unused) {
  sigset_t none, alarm;
  sigemptyset(&none);
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGRTMIN);
  pthread_sigmask(SIG_BLOCK, &alarm, NULL);
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
  event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
  timer_t timer;
  timer_create(CLOCK_MONOTONIC, &event, &timer);
  for (;;) {
    struct itimerspec soon = {.it_value = {0, 60000000}};
    timer_settime(timer, 0, &soon, NULL);
    waited(sigsuspend(&none) < 0 && errno == EINTR, "sigsuspend");
  }
  return unused;
}

int main(int count, char **arguments) {
  size_t words = (count > 1 ? strtoul(arguments[1], NULL, 10) : 64) * (1u << 20) / 8;
  uint64_t *memory = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (size_t at = 0; at < words; at++) memory[at] = at / 64 * 0x9e3779b97f4a7c15ull;
  events = eventfd(0, 0);
  signal(SIGRTMIN, on_alarm);
  void *(*const all[])(void *) = {naps, polls, futexes, sleeps_on_word, reads, epolls, selects, suspends};
  if (memory == MAP_FAILED || pipe(ends)) return 1;
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, all[i], NULL)) return 1;
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) return 1;
  for (uint64_t one = 1;;) {
    char line[16] = "";
    int connection = accept(listener, 0, 0);
    if (connection < 0) waited(0, "accept");
    if (read(connection, line, sizeof line - 1) < 0) waited(0, "read of a connection");
    if (!strncmp(line, "poke", 4)) {
      __atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
      syscall(SYS_futex, &word, FUTEX_WAKE, 9, NULL, NULL, 0);
      if (write(ends[1], "", 1) != 1 || write(events, &one, sizeof one) != sizeof one) return 1;
    }
    size_t bad = 0;
    for (size_t at = 0; at < words; at++) bad += memory[at] != at / 64 * 0x9e3779b97f4a7c15ull;
    dprintf(connection, "%u %u %zu\n", waits, odd, bad);
    close(connection);
  }
}
