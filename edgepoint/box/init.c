#define _GNU_SOURCE
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * The first process of an instance whose manifest declares several: starts them in their order, hands signals on, waits for whoever has
 * lost its parent, and ends the instance when one that must live has ended. It is this very program, copied to the private disk: a
 * process whose program lies outside the instance could not be snapshotted, and a template must not depend on which one the machine has.
 *
 * Its arguments, for each process: NAME  must-live|may-end  COUNT VARIABLES...  COUNT WORDS...
 */
struct process {
  const char *name;
  int must_live;
  char **variables;
  int variable_count;
  char **command; /* ended by NULL once it is started */
  int word_count;
  pid_t pid; /* 0: it has ended */
};

/* What SIGTERM leaves after this is killed; an operator's stop may be shorter. */
#define GRACE_SECONDS 5

int read_processes(char **words, int count, struct process_words *found, int most) {
  int at = 0, number = 0;
  while (at < count) {
    errno = EINVAL;
    if (number == most || count - at < 4) fail("the processes of an instance");
    struct process_words *process = &found[number++];
    process->words = words + at;
    int variables = atoi(words[at + 2]);
    if (variables < 0 || at + 3 + variables >= count) fail("the variables of a process");
    int command = atoi(words[at + 3 + variables]);
    process->count = 4 + variables + command;
    if (command < 1 || at + process->count > count) fail("the command of a process");
    at += process->count;
  }
  errno = 0;
  return number;
}

static void start(struct process *process, const sigset_t *signals, int is_first) {
  pid_t pid = fork();
  if (pid < 0) fail("start %s", process->name);
  process->pid = pid;
  if (pid > 0) return;
  sigprocmask(SIG_UNBLOCK, signals, NULL);
  signal(SIGTERM, SIG_DFL);
  setpgid(0, 0);
  /* The port is the first one's; two that listen on what PORT says would be in each other's way. */
  if (!is_first) unsetenv("PORT");
  for (int i = 0; i < process->variable_count; i++) putenv(process->variables[i]);
  char **command = calloc((size_t)process->word_count + 1, sizeof *command);
  memcpy(command, process->command, (size_t)process->word_count * sizeof *command);
  execvp(command[0], command);
  dprintf(STDERR_FILENO, "edgepoint: cannot run %s, process %s: %s\n", command[0], process->name, strerror(errno));
  _exit(127);
}

static void send_all(const struct process *processes, int count, int signal) {
  for (int i = 0; i < count; i++)
    if (processes[i].pid > 0) kill(processes[i].pid, signal);
}

static void tell_end(const struct process *process, int status) {
  if (WIFSIGNALED(status)) dprintf(STDERR_FILENO, "edgepoint: process %s was ended by signal %d\n", process->name, WTERMSIG(status));
  else dprintf(STDERR_FILENO, "edgepoint: process %s ended with status %d\n", process->name, WEXITSTATUS(status));
}

static void do_nothing(int signal) { (void)signal; }

int run_processes(char **words, int count) {
  static struct process_words found[MOST_PROCESSES];
  static struct process processes[MOST_PROCESSES];
  int number = read_processes(words, count, found, MOST_PROCESSES);
  for (int i = 0; i < number; i++) {
    char **given = found[i].words;
    processes[i] = (struct process){.name = given[0], .must_live = !strcmp(given[1], "must-live"), .variables = given + 3, .variable_count = atoi(given[2])};
    processes[i].command = given + 4 + processes[i].variable_count;
    processes[i].word_count = found[i].count - 4 - processes[i].variable_count;
  }
  sigset_t signals;
  sigemptyset(&signals);
  static const int handed_on[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
  for (size_t i = 0; i < sizeof handed_on / sizeof handed_on[0]; i++) sigaddset(&signals, handed_on[i]);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  /* Never run, for it is blocked; it tells restored that this process heeds SIGTERM. */
  signal(SIGTERM, do_nothing);
  for (int i = 0; i < number; i++) start(&processes[i], &signals, i == 0);

  int exit_status = 0;
  time_t kill_at = 0; /* of the monotonic clock; 0: it is not ending */
  for (;;) {
    struct timespec wait = {.tv_sec = 1}, now;
    int got = kill_at ? sigtimedwait(&signals, NULL, &wait) : sigwaitinfo(&signals, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (got > 0 && got != SIGCHLD) send_all(processes, number, got);
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      for (int i = 0; i < number; i++) {
        if (processes[i].pid != pid) continue;
        processes[i].pid = 0;
        tell_end(&processes[i], status);
        if (!processes[i].must_live || kill_at) continue;
        exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        kill_at = now.tv_sec + GRACE_SECONDS;
        send_all(processes, number, SIGTERM);
      }
    }
    int left = 0;
    for (int i = 0; i < number; i++) left += processes[i].pid > 0;
    /* The kernel ends whatever else is in the instance with its first process. */
    if (left == 0) return exit_status;
    if (kill_at && now.tv_sec >= kill_at) send_all(processes, number, SIGKILL);
  }
}

/*
 * edgepoint-box hold: the first process of an instance in which only a session runs (enter.c). It waits for whoever has lost its parent, until
 * it is told to end.
 */
int hold_instance(void) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  signal(SIGTERM, do_nothing); /* as in run_processes */
  while (sigwaitinfo(&signals, NULL) != SIGTERM) {
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  }
  return 0;
}

void copy_init(const struct box *box) {
  int program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (program < 0 || fstat(program, &status)) fail("open this program");
  int copy = make_file(box, INIT_PATH, 0755);
  for (off_t left = status.st_size; left > 0;) {
    ssize_t sent = sendfile(copy, program, NULL, (size_t)left);
    if (sent <= 0) fail("copy the first process to the private disk");
    left -= sent;
  }
  close(copy);
  close(program);
}
