/*
 * A server that counts by every kind of thing a Linux program may hold, for tests: each GET makes each kind count one further, and
 * the answer has a line "NAME VALUE" for each. As long as none of them has lost anything, all values are the number of GETs.
 * A kind that failed says why instead of a value. Listens on port 8080; made of several processes, one of them a user of its own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(call)                                                    \
  do {                                                                 \
    if ((call) < 0) {                                                  \
      fprintf(stderr, "line %d: %s: %s\n", __LINE__, #call, strerror(errno)); \
      exit(1);                                                         \
    }                                                                  \
  } while (0)

enum { TICK_MS = 20, PATIENCE_MS = 1000 };

/* A kind's answer: its value, or below zero the negative of the line that found it wrong. */
#define WRONG (-__LINE__)

/* The timer's signals would interrupt the wait. */
static int readable(int fd) {
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  struct timespec patience = {.tv_sec = PATIENCE_MS / 1000};
  sigset_t all;
  sigfillset(&all);
  return ppoll(&wait, 1, &patience, &all) == 1;
}

/* ---- Processes that count for themselves and answer with their count when poked: over every way two processes may speak. ---- */

__attribute__((noreturn)) static void count_when_poked(int in, int out) {
  for (int count = 0;;) {
    char byte;
    if (read(in, &byte, 1) != 1) _exit(0);
    count++;
    if (write(out, &count, sizeof count) != sizeof count) _exit(0);
  }
}

static int poke(int out, int in) {
  int count;
  if (write(out, "x", 1) != 1) return WRONG;
  if (!readable(in)) return WRONG;
  return read(in, &count, sizeof count) == sizeof count ? count : WRONG;
}

static int pipe_out, pipe_in, pair_end, packet_end, fifo_out, fifo_in, named_end, abstract_end, user_end, loopback_end = -1;

static int by_pipe(int round) { (void)round; return poke(pipe_out, pipe_in); }
static int by_unix_pair(int round) { (void)round; return poke(pair_end, pair_end); }
static int by_unix_packets(int round) { (void)round; return poke(packet_end, packet_end); }
static int by_named_pipe(int round) { (void)round; return poke(fifo_out, fifo_in); }
static int by_unix_name(int round) { (void)round; return poke(named_end, named_end); }
static int by_abstract_name(int round) { (void)round; return poke(abstract_end, abstract_end); }
static int by_other_user(int round) { (void)round; return poke(user_end, user_end); }

static pid_t in_child(void) {
  pid_t pid = fork();
  CHECK(pid);
  return pid;
}

static void start_pipe(void) {
  int there[2], back[2];
  CHECK(pipe(there));
  CHECK(pipe(back));
  if (in_child() == 0) {
    close(there[1]);
    close(back[0]);
    count_when_poked(there[0], back[1]);
  }
  close(there[0]);
  close(back[1]);
  pipe_out = there[1], pipe_in = back[0];
}

static int start_pair(int type, int other_user) {
  int pair[2];
  CHECK(socketpair(AF_UNIX, type, 0, pair));
  if (in_child() == 0) {
    close(pair[0]);
    if (other_user) {
      CHECK(setsid());
      if (setresgid(1234, 1234, 1234) || setresuid(1234, 1234, 1234)) _exit(1);
    }
    count_when_poked(pair[1], pair[1]);
  }
  close(pair[1]);
  return pair[0];
}

static void start_named_pipe(void) {
  CHECK(mkfifo("/tmp/there", 0600));
  CHECK(mkfifo("/tmp/back", 0600));
  if (in_child() == 0) {
    int in = open("/tmp/there", O_RDONLY), out = open("/tmp/back", O_WRONLY);
    count_when_poked(in, out);
  }
  CHECK(fifo_out = open("/tmp/there", O_WRONLY));
  CHECK(fifo_in = open("/tmp/back", O_RDONLY));
}

/* A process that accepts connections one after the other; its count goes on from one to the next. */
static void start_listener(int listener) {
  if (in_child() == 0) {
    for (int count = 0;;) {
      int fd = accept(listener, NULL, NULL);
      char byte;
      while (fd >= 0 && read(fd, &byte, 1) == 1) {
        count++;
        if (write(fd, &count, sizeof count) != sizeof count) break;
      }
      if (fd >= 0) close(fd);
    }
  }
  close(listener);
}

static int start_unix_listener(const char *name, int abstract) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path + abstract, name);
  socklen_t length = (socklen_t)(sizeof(sa_family_t) + (size_t)abstract + strlen(name));
  int listener = socket(AF_UNIX, SOCK_STREAM, 0), end = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(bind(listener, (struct sockaddr *)&address, length));
  CHECK(listen(listener, 8));
  start_listener(listener);
  CHECK(connect(end, (struct sockaddr *)&address, length));
  return end;
}

static struct sockaddr_in loopback = {.sin_family = AF_INET};

static void start_loopback(void) {
  socklen_t length = sizeof loopback;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(bind(listener, (struct sockaddr *)&loopback, length));
  CHECK(getsockname(listener, (struct sockaddr *)&loopback, &length));
  CHECK(listen(listener, 8));
  start_listener(listener);
}

/* A connection between two processes of the program: one that was closed is made anew, as a real client does. */
static int by_loopback(int round) {
  (void)round;
  for (int attempt = 0; attempt < 2; attempt++) {
    if (loopback_end < 0) {
      loopback_end = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(loopback_end, (struct sockaddr *)&loopback, sizeof loopback)) return WRONG;
    }
    int count = poke(loopback_end, loopback_end);
    if (count > 0) return count;
    close(loopback_end);
    loopback_end = -1;
  }
  return WRONG;
}

/* ---- Memory that two processes share: a process of its own adds one to each when poked. ---- */

enum { SYSTEM_V, ANONYMOUS, FILE_MAPPING, MEMFD, POSIX, PLACES };
static int *places[PLACES];
static int sharer_end, semaphores, queue;

static int *map_file(int fd) {
  CHECK(ftruncate(fd, 4096));
  int *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (place == MAP_FAILED) CHECK(-1);
  close(fd);
  return place;
}

static void start_sharer(void) {
  int segment = shmget(IPC_PRIVATE, 8192, 0600 | IPC_CREAT), pair[2];
  CHECK(segment);
  places[SYSTEM_V] = shmat(segment, NULL, 0);
  places[ANONYMOUS] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  places[FILE_MAPPING] = map_file(open("/tmp/mapped", O_RDWR | O_CREAT, 0600));
  places[MEMFD] = map_file(memfd_create("kinds", 0));
  places[POSIX] = map_file(shm_open("/kinds", O_RDWR | O_CREAT, 0600));
  CHECK(semaphores = semget(IPC_PRIVATE, 1, 0600 | IPC_CREAT));
  CHECK(queue = msgget(IPC_PRIVATE, 0600 | IPC_CREAT));
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  if (in_child() == 0) {
    char byte;
    while (read(pair[1], &byte, 1) == 1) {
      for (int i = 0; i < PLACES; i++) ++*places[i];
      if (write(pair[1], &byte, 1) != 1) break;
    }
    _exit(0);
  }
  close(pair[1]);
  sharer_end = pair[0];
}

static int by_shared_memory(int round) {
  char byte = 0;
  if (write(sharer_end, &byte, 1) != 1 || read(sharer_end, &byte, 1) != 1) return WRONG;
  for (int i = 0; i < PLACES; i++)
    if (*places[i] != round) return WRONG - 1000 * i;
  return *places[SYSTEM_V];
}

static int by_semaphore(int round) {
  (void)round;
  struct sembuf more = {.sem_op = 1};
  return semop(semaphores, &more, 1) ? WRONG : semctl(semaphores, 0, GETVAL);
}

/* Messages that wait in the queue while the program sleeps. */
static int by_message_queue(int round) {
  struct { long type; int round; } message = {1, round};
  struct msqid_ds state;
  if (msgsnd(queue, &message, sizeof message.round, IPC_NOWAIT)) return WRONG;
  return msgctl(queue, IPC_STAT, &state) ? WRONG : (int)state.msg_qnum;
}

/* ---- Threads ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int asked, thread_count;

static void *count_when_asked(void *nothing) {
  pthread_mutex_lock(&lock);
  for (;;) {
    while (asked == thread_count) pthread_cond_wait(&changed, &lock);
    thread_count++;
    pthread_cond_broadcast(&changed);
  }
  return nothing;
}

static int by_thread(int round) {
  (void)round;
  struct timespec deadline;
  clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += PATIENCE_MS / 1000;
  pthread_mutex_lock(&lock);
  asked++;
  pthread_cond_broadcast(&changed);
  int late = 0;
  while (thread_count < asked && !late) late = pthread_cond_timedwait(&changed, &lock, &deadline);
  pthread_mutex_unlock(&lock);
  return late ? WRONG : thread_count;
}

/* ---- Timers: each must have fired since it was last asked, or fire within the time anybody waits. ---- */

static volatile sig_atomic_t signal_ticks, alarm_ticks;
static volatile int thread_ticks;

static void on_signal_timer(int number) { (void)number; signal_ticks++; }
static void on_alarm(int number) { (void)number; alarm_ticks++; }
static void on_thread_timer(union sigval value) { (void)value; thread_ticks++; }

static struct itimerspec every(int ms) {
  struct timespec time = {.tv_nsec = ms * 1000000l};
  return (struct itimerspec){.it_interval = time, .it_value = time};
}

static void start_posix_timers(void) {
  timer_t timer;
  struct itimerspec ticks = every(TICK_MS);
  struct sigevent by_signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
  struct sigevent by_thread_ = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread_timer};
  struct sigaction on_tick = {.sa_handler = on_signal_timer, .sa_flags = SA_RESTART}, on_ring = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
  sigaction(SIGRTMIN, &on_tick, NULL);
  sigaction(SIGALRM, &on_ring, NULL);
  CHECK(timer_create(CLOCK_MONOTONIC, &by_signal, &timer));
  CHECK(timer_settime(timer, 0, &ticks, NULL));
  CHECK(timer_create(CLOCK_REALTIME, &by_thread_, &timer));
  CHECK(timer_settime(timer, 0, &ticks, NULL));
}

static int ticks_on(volatile int *ticks) {
  int before = *ticks;
  struct timespec pause = {.tv_nsec = 1000000};
  for (int waited = 0; *ticks == before; waited++) {
    if (waited > PATIENCE_MS) return 0;
    nanosleep(&pause, NULL);
  }
  return 1;
}

static int by_timer_signal(int round) { return ticks_on(&signal_ticks) ? round : WRONG; }
static int by_timer_thread(int round) { return ticks_on(&thread_ticks) ? round : WRONG; }

/* One alarm, no more, set in one round and due in the next: the program may sleep before it rings or after. */
static int by_alarm(int round) {
  struct itimerval once = {.it_value = {.tv_usec = 50000}};
  struct timespec pause = {.tv_nsec = 1000000};
  for (int waited = 0; alarm_ticks < round - 1; waited++) {
    if (waited > PATIENCE_MS) return WRONG;
    nanosleep(&pause, NULL);
  }
  if (alarm_ticks != round - 1) return WRONG;
  if (setitimer(ITIMER_REAL, &once, NULL)) return WRONG;
  return round;
}

static int periodic, absolute, since_boot, once;

static int start_timerfd(int clock, int flags, int first_ms, int interval_ms) {
  int fd = timerfd_create(clock, TFD_CLOEXEC);
  CHECK(fd);
  struct itimerspec when = every(interval_ms);
  when.it_value = (struct timespec){.tv_nsec = first_ms * 1000000l};
  if (flags & TFD_TIMER_ABSTIME) {
    clock_gettime(clock, &when.it_value);
    when.it_value.tv_nsec += first_ms * 1000000l;
    when.it_value.tv_sec += when.it_value.tv_nsec / 1000000000l;
    when.it_value.tv_nsec %= 1000000000l;
  }
  CHECK(timerfd_settime(fd, flags, &when, NULL));
  return fd;
}

/* Nobody reads it between two rounds, so it has always expired; then it must expire anew. */
static int fires_twice(int fd) {
  uint64_t expirations = 0;
  for (int time = 0; time < 2; time++) {
    if (!readable(fd)) return 0;
    if (read(fd, &expirations, sizeof expirations) != sizeof expirations || expirations == 0) return 0;
  }
  return 1;
}

static int by_timerfd(int round) { return fires_twice(periodic) ? round : WRONG; }
static int by_timerfd_absolute(int round) { return fires_twice(absolute) ? round : WRONG; }
static int by_timerfd_since_boot(int round) { return fires_twice(since_boot) ? round : WRONG; }

/* Set in one round, read in the next. */
static int by_timerfd_once(int round) {
  struct itimerspec next = {.it_value = {.tv_nsec = 30000000}};
  uint64_t expirations = 0;
  if (round > 1 && !readable(once)) return WRONG;
  if (round > 1 && (read(once, &expirations, sizeof expirations) < 0 || expirations != 1)) return WRONG;
  return timerfd_settime(once, 0, &next, NULL) ? WRONG : round;
}

/* Neither of its clocks may go back, nor the one for the wall stand still. */
static int by_clocks(int round) {
  static struct timespec last[3];
  static const clockid_t clocks[3] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};
  for (int i = 0; i < 3; i++) {
    struct timespec now;
    clock_gettime(clocks[i], &now);
    if (now.tv_sec < last[i].tv_sec || (now.tv_sec == last[i].tv_sec && now.tv_nsec < last[i].tv_nsec)) return WRONG - 1000 * i;
    last[i] = now;
  }
  return round;
}

/* ---- Descriptors ---- */

static int watcher, signals, events, unlinked, locked, open_locked, epoll, folder, in_flight[2];

static void start_descriptors(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  CHECK(signals = signalfd(-1, &set, SFD_NONBLOCK));
  CHECK(events = eventfd(0, 0));
  CHECK(mkdir("/tmp/watched", 0700));
  CHECK(close(open("/tmp/watched/file", O_CREAT | O_WRONLY, 0600)));
  CHECK(watcher = inotify_init1(IN_NONBLOCK));
  CHECK(inotify_add_watch(watcher, "/tmp/watched", IN_CREATE | IN_DELETE));
  CHECK(inotify_add_watch(watcher, "/tmp/watched/file", IN_MODIFY));
  CHECK(unlinked = open("/tmp/unlinked", O_RDWR | O_CREAT, 0600));
  CHECK(unlink("/tmp/unlinked"));
  CHECK(locked = open("/tmp/locked", O_RDWR | O_CREAT, 0600));
  CHECK(flock(locked, LOCK_EX));
  struct flock whole = {.l_type = F_WRLCK}, tenth = {.l_type = F_WRLCK, .l_start = 10, .l_len = 1};
  CHECK(open_locked = open("/tmp/open-locked", O_RDWR | O_CREAT, 0600));
  CHECK(fcntl(open_locked, F_OFD_SETLK, &whole));
  int ready[2];
  char byte;
  CHECK(pipe(ready));
  if (in_child() == 0) {
    int own = open("/tmp/process-locked", O_RDWR | O_CREAT, 0600);
    CHECK(fcntl(own, F_SETLK, &tenth));
    if (write(ready[1], "", 1) == 1)
      for (;;) pause();
  }
  CHECK(read(ready[0], &byte, 1));
  close(ready[0]);
  close(ready[1]);
  CHECK(folder = open("/tmp", O_RDONLY | O_DIRECTORY));
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, in_flight));
  CHECK(epoll = epoll_create1(0));
  struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 4711};
  CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, in_flight[1], &wanted));
}

/* A change of the folder and one of the file in it. */
static int by_inotify(int round) {
  char name[64], bytes[1024] __attribute__((aligned(8)));
  int file = open("/tmp/watched/file", O_WRONLY | O_APPEND), masks = 0;
  snprintf(name, sizeof name, "/tmp/watched/%d", round);
  if (file < 0 || write(file, "x", 1) != 1 || close(file) || close(open(name, O_CREAT | O_WRONLY, 0600)) || unlink(name)) return WRONG;
  while (masks != (IN_MODIFY | IN_CREATE | IN_DELETE)) {
    if (!readable(watcher)) return WRONG - 10000 * masks;
    ssize_t length = read(watcher, bytes, sizeof bytes);
    for (ssize_t at = 0; at < length;) {
      struct inotify_event *event = (struct inotify_event *)(bytes + at);
      masks |= (int)(event->mask & (IN_MODIFY | IN_CREATE | IN_DELETE));
      at += (ssize_t)sizeof *event + event->len;
    }
  }
  return round;
}

/* The signal of one round is pending until the next, with the value it carries. */
static int by_signalfd(int round) {
  struct signalfd_siginfo came;
  if (round > 1 && read(signals, &came, sizeof came) != sizeof came) return WRONG;
  if (round > 1 && came.ssi_int != round - 1) return WRONG;
  return sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = round}) ? WRONG : round;
}

static int by_eventfd(int round) {
  uint64_t count = 0, more = 1;
  if (round > 1 && read(events, &count, sizeof count) < 0) return WRONG;
  count += more;
  return write(events, &count, sizeof count) < 0 ? WRONG : (int)count;
}

static int by_unlinked_file(int round) {
  struct stat status;
  char last = 0;
  if (round > 1 && (pread(unlinked, &last, 1, round - 2) != 1 || last != (char)(round - 1))) return WRONG;
  last = (char)round;
  if (write(unlinked, &last, 1) != 1 || fstat(unlinked, &status) || status.st_nlink != 0) return WRONG;
  return (int)status.st_size;
}

/* Others must find the file locked. */
static int by_file_lock(int round) {
  int other = open("/tmp/locked", O_RDWR);
  int refused = flock(other, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
  close(other);
  return refused ? round : WRONG;
}

static int finds_locked(const char *path, int command, off_t start) {
  struct flock found = {.l_type = F_WRLCK, .l_start = start, .l_len = 1};
  int other = open(path, O_RDWR);
  int asked = fcntl(other, command, &found);
  close(other);
  return asked == 0 && found.l_type == F_WRLCK;
}

static int by_open_file_lock(int round) { return finds_locked("/tmp/open-locked", F_OFD_GETLK, 0) ? round : WRONG; }

/* Of one byte, by another process. */
static int by_process_lock(int round) {
  return finds_locked("/tmp/process-locked", F_GETLK, 10) && !finds_locked("/tmp/process-locked", F_GETLK, 11) ? round : WRONG;
}

/* A datagram of one round is read in the next, by way of epoll; a file is made relative to an open folder. */
static int by_epoll(int round) {
  struct epoll_event event;
  int came = 0;
  if (round > 1 && (!readable(epoll) || epoll_wait(epoll, &event, 1, 0) != 1 || event.data.u64 != 4711)) return WRONG;
  if (round > 1 && (read(in_flight[1], &came, sizeof came) != sizeof came || came != round - 1)) return WRONG;
  if (write(in_flight[0], &round, sizeof round) != sizeof round) return WRONG;
  return close(openat(folder, "relative", O_CREAT | O_WRONLY, 0600)) ? WRONG : round;
}

static const struct { const char *name; int (*count)(int round); } kinds[] = {
    {"pipe", by_pipe},
    {"named-pipe", by_named_pipe},
    {"unix-pair", by_unix_pair},
    {"unix-packets", by_unix_packets},
    {"unix-name", by_unix_name},
    {"unix-abstract-name", by_abstract_name},
    {"process-of-another-user", by_other_user},
    {"loopback-connection", by_loopback},
    {"shared-memory", by_shared_memory},
    {"system-v-semaphore", by_semaphore},
    {"system-v-messages", by_message_queue},
    {"thread", by_thread},
    {"timer-signal", by_timer_signal},
    {"timer-thread", by_timer_thread},
    {"alarm", by_alarm},
    {"timerfd", by_timerfd},
    {"timerfd-absolute", by_timerfd_absolute},
    {"timerfd-since-boot", by_timerfd_since_boot},
    {"timerfd-once", by_timerfd_once},
    {"clocks", by_clocks},
    {"inotify", by_inotify},
    {"signalfd", by_signalfd},
    {"eventfd", by_eventfd},
    {"unlinked-file", by_unlinked_file},
    {"file-lock", by_file_lock},
    {"open-file-lock", by_open_file_lock},
    {"process-lock", by_process_lock},
    {"epoll", by_epoll},
};

static void answer(int fd, int round) {
  char request[4096], text[4096];
  if (read(fd, request, sizeof request) <= 0) return;
  int length = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    length += snprintf(text + length, sizeof text - (size_t)length, "%s %d\n", kinds[i].name, kinds[i].count(round));
  for (int sent = 0; sent < length;) {
    ssize_t done = write(fd, text + sent, (size_t)(length - sent));
    if (done <= 0) return;
    sent += (int)done;
  }
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  start_pipe();
  start_named_pipe();
  pair_end = start_pair(SOCK_STREAM, 0);
  packet_end = start_pair(SOCK_SEQPACKET, 0);
  user_end = start_pair(SOCK_STREAM, 1);
  named_end = start_unix_listener("/tmp/socket", 0);
  abstract_end = start_unix_listener("kinds", 1);
  start_loopback();
  start_sharer();
  start_descriptors();
  start_posix_timers();
  pthread_t thread;
  if (pthread_create(&thread, NULL, count_when_asked, NULL)) return 1;
  periodic = start_timerfd(CLOCK_MONOTONIC, 0, TICK_MS, TICK_MS);
  absolute = start_timerfd(CLOCK_REALTIME, TFD_TIMER_ABSTIME, TICK_MS, TICK_MS);
  since_boot = start_timerfd(CLOCK_BOOTTIME, 0, TICK_MS, TICK_MS);
  once = timerfd_create(CLOCK_MONOTONIC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
  int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  CHECK(bind(listener, (struct sockaddr *)&address, sizeof address));
  CHECK(listen(listener, 64));
  for (int round = 1;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    answer(fd, round++);
    close(fd);
  }
}
