/* Sets a timer for a moment 1.5 s away and writes to stdout how many milliseconds after that moment it came: below 0 is too early. For tests. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int main(void) {
  struct timespec now;
  uint64_t expirations;
  int timer = timerfd_create(CLOCK_MONOTONIC, 0);
  clock_gettime(CLOCK_MONOTONIC, &now);
  struct itimerspec moment = {.it_value = {.tv_sec = now.tv_sec + 1, .tv_nsec = now.tv_nsec + 500000000}};
  if (moment.it_value.tv_nsec >= 1000000000) {
    moment.it_value.tv_sec++;
    moment.it_value.tv_nsec -= 1000000000;
  }
  if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &moment, NULL)) return 1;
  printf("set\n");
  fflush(stdout);
  if (read(timer, &expirations, sizeof expirations) != sizeof expirations) return 1;
  clock_gettime(CLOCK_MONOTONIC, &now);
  printf("late by %lld ms\n", ((long long)now.tv_sec - moment.it_value.tv_sec) * 1000 + (now.tv_nsec - moment.it_value.tv_nsec) / 1000000);
  fflush(stdout);
  for (;;) pause();
}
