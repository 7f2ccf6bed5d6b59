#define _GNU_SOURCE
#include "inject.h"
#include "../box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Stops the processes of an instance by ptrace(2) and has them make system calls, one after the other. They are not stopped by
 * signals (PTRACE_SEIZE, PTRACE_INTERRUPT), so nobody sees it. Once all stand, they are killed when this process dies
 * (PTRACE_O_EXITKILL); until then they would go on.
 *
 * A thread that makes calls does so at a `syscall` instruction of its vdso, from one system call stop to the next: a single step would
 * end in a signal, and change how a program that ignores SIGTRAP treats it. In the end it is stopped once more where the kernel looks
 * for signals, gets its registers back there, and the kernel itself restarts the system call it was in, or lets a signal end it.
 */
#define MOST_THREADS 4096
#define STOP_MS 2000  /* a call that cannot be interrupted may take as long */
#define CALL_MS 10000 /* a call of ours waits for nothing but memory */
#define OPTIONS (PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)
#define VDSO_MOST (64u << 10)
#define PAGE 4096u

struct thread {
  pid_t id, process;
  int stopped, gone;
};

static struct thread threads[MOST_THREADS];
static size_t thread_count;
static int signals = -1;
static meanwhile serve_meanwhile;

static struct {
  struct thread *thread;
  struct user_regs_struct registers; /* as they will be again */
  uint64_t mask;
  uint64_t at; /* of a `syscall` instruction */
  int stop_again;
} caller;

static long trace(int request, pid_t thread, void *address, void *data) { return syscall(SYS_ptrace, request, thread, address, data); }

static char state_of(pid_t process, pid_t thread) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%d/task/%d/stat", process, thread);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = file < 0 ? -1 : read(file, text, sizeof text - 1);
  if (file >= 0) close(file);
  if (got <= 0) return 'X';
  text[got] = 0;
  char *behind = strrchr(text, ')');
  return behind && behind[1] ? behind[2] : 'X';
}

/* The status of its next stop; -1 when it has ended, -2 when it took too long. */
static int next_stop(struct thread *thread, uint64_t deadline) {
  for (;;) {
    int status;
    pid_t got = waitpid(thread->id, &status, __WALL | WNOHANG);
    if ((got < 0 && errno != EINTR) || (got == thread->id && !WIFSTOPPED(status))) {
      thread->gone = 1;
      return -1;
    }
    if (got == thread->id) return status;
    if (now_ns() > deadline) return -2;
    serve_meanwhile(signals);
    struct signalfd_siginfo told[16];
    if (read(signals, told, sizeof told) < 0 && errno != EAGAIN && errno != EINTR) fail("read signals");
  }
}

/* Until it stands where PTRACE_INTERRUPT stops it; a signal that came before is delivered on the way. NULL, or why not. */
static const char *wait_until_stopped(struct thread *thread, uint64_t deadline) {
  for (;;) {
    int status = next_stop(thread, deadline);
    if (status == -1) return NULL;
    if (status == -2) return "a thread of it is in a system call that cannot be interrupted";
    int event = status >> 16, signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) return "a process of it has been stopped by a signal";
    if (event == PTRACE_EVENT_STOP) {
      thread->stopped = 1;
      return NULL;
    }
    if (trace(PTRACE_CONT, thread->id, NULL, (void *)(uintptr_t)(event ? 0 : signal)) && errno == ESRCH) continue;
  }
}

static int known(pid_t id) {
  for (size_t i = 0; i < thread_count; i++)
    if (threads[i].id == id) return 1;
  return 0;
}

/* True when there was a thread of the process that is not stopped yet; `why` is set when it cannot be. */
static int seize_threads(pid_t process, const char **why) {
  char path[64];
  int found = 0;
  snprintf(path, sizeof path, "/proc/%d/task", process);
  DIR *tasks = opendir(path);
  if (!tasks) return 0;
  for (struct dirent *entry; !*why && (entry = readdir(tasks));) {
    pid_t id = (pid_t)atoi(entry->d_name);
    if (id <= 0 || known(id)) continue;
    if (trace(PTRACE_SEIZE, id, NULL, NULL)) {
      char state = state_of(process, id);
      if (state != 'Z' && state != 'X') *why = "a process of it cannot be traced";
      continue;
    }
    if (thread_count == MOST_THREADS) {
      trace(PTRACE_DETACH, id, NULL, NULL);
      *why = "it has too many threads";
      continue;
    }
    threads[thread_count++] = (struct thread){.id = id, .process = process};
    found = 1;
    if (trace(PTRACE_INTERRUPT, id, NULL, NULL) && errno != ESRCH) *why = "a process of it cannot be interrupted";
  }
  closedir(tasks);
  return found;
}

const char *stop_processes(const char *cgroup, meanwhile serve) {
  const char *why = NULL;
  char path[512], line[64];
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, NULL);
  signals = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
  if (signals < 0) fail("signalfd");
  serve_meanwhile = serve;
  uint64_t deadline = now_ns() + STOP_MS * 1000000ull;
  snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
  /* Until a look finds nobody new: what is not stopped yet may start others. */
  for (int found = 1; found && !why;) {
    found = 0;
    FILE *processes = fopen(path, "re");
    if (!processes) fail("open %s", path);
    while (!why && fgets(line, sizeof line, processes)) found |= seize_threads((pid_t)atoi(line), &why);
    fclose(processes);
    for (size_t i = 0; i < thread_count && !why; i++)
      if (!threads[i].stopped && !threads[i].gone) why = wait_until_stopped(&threads[i], deadline);
  }
  for (size_t i = 0; i < thread_count && !why; i++)
    if (trace(PTRACE_SETOPTIONS, threads[i].id, NULL, (void *)OPTIONS) && errno != ESRCH) why = "a process of it cannot be traced";
  return why;
}

size_t stopped_processes(pid_t *processes, size_t most) {
  size_t count = 0;
  for (size_t i = 0; i < thread_count; i++) {
    size_t at = 0;
    while (at < count && processes[at] != threads[i].process) at++;
    if (at == count && count < most) processes[count++] = threads[i].process;
  }
  return count;
}

void release_stopped(void) {
  for (size_t i = 0; i < thread_count; i++)
    if (threads[i].stopped && !threads[i].gone && !trace(PTRACE_DETACH, threads[i].id, NULL, NULL)) threads[i].gone = 1;
}

void release_rest(void) {
  for (size_t i = 0; i < thread_count; i++)
    while (!threads[i].gone && next_stop(&threads[i], ~0ull) >= 0)
      if (!trace(PTRACE_DETACH, threads[i].id, NULL, NULL)) threads[i].gone = 1;
  thread_count = 0;
  if (signals >= 0) close(signals);
  signals = -1;
}

/* Where two bytes in the process's vdso are a `syscall` instruction, by whatever they mean in their place; 0 when nowhere. */
static uint64_t find_syscall(pid_t process) {
  static unsigned char code[VDSO_MOST];
  char path[64], line[512];
  uint64_t start = 0, end = 0, found = 0;
  snprintf(path, sizeof path, "/proc/%d/maps", process);
  FILE *maps = fopen(path, "re");
  while (maps && fgets(line, sizeof line, maps)) {
    if (!strstr(line, "[vdso]") || sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2) continue;
    struct iovec here = {.iov_base = code, .iov_len = end - start < sizeof code ? end - start : sizeof code};
    struct iovec there = {.iov_base = (void *)start, .iov_len = here.iov_len};
    ssize_t got = process_vm_readv(process, &here, 1, &there, 1, 0);
    const unsigned char *at = got > 0 ? memmem(code, (size_t)got, "\x0f\x05", 2) : NULL;
    if (at) found = start + (uint64_t)(at - code);
  }
  if (maps) fclose(maps);
  return found;
}

/* False also when a page of it is not there: it may be one that this process should give, which would wait for itself. */
static int read_present(pid_t process, uint64_t start, void *bytes, size_t length) {
  char path[64];
  uint64_t first = start / PAGE, entries[2] = {0}, pages = (start + length - 1) / PAGE - first + 1;
  snprintf(path, sizeof path, "/proc/%d/pagemap", process);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = file < 0 || pages > 2 ? -1 : pread(file, entries, pages * sizeof *entries, (off_t)(first * sizeof *entries));
  if (file >= 0) close(file);
  if (got != (ssize_t)(pages * sizeof *entries) || !(entries[0] >> 62) || (pages > 1 && !(entries[1] >> 62))) return 0; /* present, or on swap */
  struct iovec here = {bytes, length}, there = {(void *)start, length};
  return process_vm_readv(process, &here, 1, &there, 1, 0) == (ssize_t)length;
}

/*
 * A restartable sequence (rseq(2)) that was interrupted must begin anew, and the kernel sees to that when the thread goes on; but it would
 * find it at our instruction instead and forget the sequence. So it goes on where the sequence has said. False when that cannot be read.
 */
static int abort_sequence(pid_t process, pid_t thread, struct user_regs_struct *registers) {
  struct __ptrace_rseq_configuration configuration = {0};
  uint64_t sequence = 0;
  struct {
    uint32_t version, flags;
    uint64_t start, length, abort;
  } section;
  if (trace(PTRACE_GET_RSEQ_CONFIGURATION, thread, (void *)sizeof configuration, &configuration) <= 0 || !configuration.rseq_abi_pointer) return 1;
  if (!read_present(process, configuration.rseq_abi_pointer + 8, &sequence, sizeof sequence)) return 0;
  if (!sequence) return 1;
  if (!read_present(process, sequence, &section, sizeof section)) return 0;
  if (registers->rip - section.start < section.length) registers->rip = section.abort;
  return 1;
}

const char *begin_calls(pid_t process) {
  caller.thread = NULL;
  for (size_t i = 0; i < thread_count; i++)
    if (threads[i].process == process && threads[i].stopped && !threads[i].gone && (!caller.thread || threads[i].id == process)) caller.thread = &threads[i];
  if (!caller.thread) return "it has ended";
  pid_t id = caller.thread->id;
  caller.at = find_syscall(process);
  caller.stop_again = 0;
  if (!caller.at) return "it has no vdso";
  if (trace(PTRACE_GETREGS, id, NULL, &caller.registers) || trace(PTRACE_GETSIGMASK, id, (void *)sizeof caller.mask, &caller.mask)) return "its registers cannot be read";
  if (!abort_sequence(process, id, &caller.registers)) return "it may be in a restartable sequence";
  uint64_t none = ~0ull;
  if (trace(PTRACE_SETSIGMASK, id, (void *)sizeof none, &none)) return "its signals cannot be held back";
  if (!trace(PTRACE_SETOPTIONS, id, NULL, (void *)(OPTIONS | PTRACE_O_SUSPEND_SECCOMP))) return NULL;
  trace(PTRACE_SETSIGMASK, id, (void *)sizeof caller.mask, &caller.mask);
  return "its filter of system calls cannot be suspended";
}

/* On to its next system call stop; a SIGSTOP that comes in between is given back in the end. */
static int step(void) {
  for (;;) {
    if (trace(PTRACE_SYSCALL, caller.thread->id, NULL, NULL)) return 0;
    int status = next_stop(caller.thread, now_ns() + CALL_MS * 1000000ull);
    if (status == -2) fail("a system call of an instance did not return");
    if (status < 0) return 0;
    if (status >> 16 == 0 && WSTOPSIG(status) == (SIGTRAP | 0x80)) return 1;
    if (status >> 16 == 0 && WSTOPSIG(status) == SIGSTOP) caller.stop_again = 1;
  }
}

long call(long number, uint64_t first, uint64_t second, uint64_t third) {
  struct user_regs_struct registers = caller.registers;
  pid_t id = caller.thread->id;
  registers.rip = caller.at;
  registers.rax = (uint64_t)number;
  registers.orig_rax = ~0ull; /* no call to restart */
  registers.rdi = first;
  registers.rsi = second;
  registers.rdx = third;
  if (caller.thread->gone || trace(PTRACE_SETREGS, id, NULL, &registers) || !step() || !step()) return -ESRCH;
  return trace(PTRACE_GETREGS, id, NULL, &registers) ? -ESRCH : (long)registers.rax;
}

const char *end_calls(void) {
  struct thread *thread = caller.thread;
  if (thread->gone) return NULL;
  thread->stopped = 0;
  if ((trace(PTRACE_INTERRUPT, thread->id, NULL, NULL) || trace(PTRACE_CONT, thread->id, NULL, NULL)) && errno != ESRCH) fail("stop a thread again");
  const char *why = wait_until_stopped(thread, now_ns() + CALL_MS * 1000000ull);
  if (why || thread->gone) return why;
  if (trace(PTRACE_SETREGS, thread->id, NULL, &caller.registers) || trace(PTRACE_SETSIGMASK, thread->id, (void *)sizeof caller.mask, &caller.mask) ||
      trace(PTRACE_SETOPTIONS, thread->id, NULL, (void *)OPTIONS)) {
    if (errno != ESRCH) fail("give a thread its registers back");
  }
  if (caller.stop_again) syscall(SYS_tgkill, thread->process, thread->id, SIGSTOP);
  return NULL;
}
