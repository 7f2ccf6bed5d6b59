/*
 * In each round sets hundreds of one-shot timers that go off one after the other, and an alarm in each of a few processes, and writes how many
 * of them never came and how many came twice. For tests of what happens to a timer that goes off in the middle of a dump.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define TIMERS 400
#define PROCESSES 8
#define SPREAD_MS 400
#define PATIENCE_MS 3000
/* Dumping it takes a while, and timers go off meanwhile. */
#define MEMORY (6 << 20)

static struct shared {
  volatile int round, rung[PROCESSES];
} *shared;
static volatile int came[TIMERS];
static int self;

static void on_timer(int number, siginfo_t *info, void *context) {
  (void)number;
  (void)context;
  came[info->si_value.sival_int]++;
}

static void on_alarm(int number) {
  (void)number;
  shared->rung[self]++;
}

static void wait_ms(int ms) {
  struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l};
  while (nanosleep(&left, &left)) continue;
}

static void fill_memory(void) {
  unsigned *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  unsigned value = (unsigned)getpid();
  for (size_t i = 0; i < MEMORY / sizeof *memory; i++) memory[i] = value = value * 1664525u + 1013904223u;
}

/* One alarm a round, at a moment of its own. */
static void ring(int process) {
  struct itimerval once = {.it_value = {.tv_usec = (process * 2 + 1) * 1000l * SPREAD_MS / (2 * PROCESSES)}};
  struct sigaction on_ring = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
  self = process;
  fill_memory();
  sigaction(SIGALRM, &on_ring, NULL);
  for (int round = 0;; wait_ms(1)) {
    if (shared->round == round) continue;
    round = shared->round;
    setitimer(ITIMER_REAL, &once, NULL);
  }
}

static int missing(void) {
  int count = 0;
  for (int i = 0; i < TIMERS; i++) count += came[i] == 0;
  for (int i = 0; i < PROCESSES; i++) count += shared->rung[i] == 0;
  return count;
}

static int doubled(void) {
  int count = 0;
  for (int i = 0; i < TIMERS; i++) count += came[i] > 1;
  for (int i = 0; i < PROCESSES; i++) count += shared->rung[i] > 1;
  return count;
}

int main(void) {
  timer_t timers[TIMERS];
  struct sigaction on_tick = {.sa_sigaction = on_timer, .sa_flags = SA_RESTART | SA_SIGINFO};
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 1;
  for (int process = 0; process < PROCESSES; process++)
    if (fork() == 0) ring(process);
  fill_memory();
  sigaction(SIGRTMIN, &on_tick, NULL);
  for (int i = 0; i < TIMERS; i++) {
    struct sigevent by_signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value = {.sival_int = i}};
    if (timer_create(CLOCK_MONOTONIC, &by_signal, &timers[i])) return 1;
  }
  for (int round = 1;; round++) {
    memset((void *)came, 0, sizeof came);
    memset((void *)shared->rung, 0, sizeof shared->rung);
    shared->round = round;
    for (int i = 0; i < TIMERS; i++) {
      struct itimerspec once = {.it_value = {.tv_nsec = (i + 1) * 1000000l * SPREAD_MS / TIMERS}};
      if (timer_settime(timers[i], 0, &once, NULL)) return 1;
    }
    printf("round %d is set\n", round);
    fflush(stdout);
    wait_ms(SPREAD_MS);
    for (int waited = 0; missing() && waited < PATIENCE_MS; waited++) wait_ms(1);
    wait_ms(SPREAD_MS / 2); /* what comes twice comes late */
    printf("round %d: %d missing, %d doubled\n", round, missing(), doubled());
    fflush(stdout);
  }
}
