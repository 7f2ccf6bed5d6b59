#define _GNU_SOURCE
#include "pages.h"
#include "../box.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * The two processes of a lazy restore. The slot starts the guard beforehand, outside the instance's cgroups: what they use is the
 * edgepoint's, and the instance's limit of processor time does not slow its memory down. A lazy order makes it start the pages
 * server (pages.c), which shares its table of descriptors.
 *
 * Were the last descriptor of an instance's memory closed before all of it is there, the kernel would give zeros for the rest, and
 * the instance would go on with wrong memory. So when the server ends too early, the guard still holds the descriptors, and lets go
 * only when it has killed the instance and seen it dead. When the guard ends too early, the server goes on alone.
 *
 * The fill file is locked by whoever holds it open (flock(2)), so the lock goes when both have ended, however they did; it then
 * says `done`, or why the memory is not there. Readers: fill.ts.
 */
enum { LISTENER, IMAGES, FILL, FIRST_PAGES, ORDER_DESCRIPTORS };

#define SERVER_ENDED (-1)
#define SERVER_NICE (-10)
#define HOLD_MS 10000      /* longer than it takes to end what waits for pages */
#define MOST_DESCRIPTORS 4096 /* one for each process that an instance forks meanwhile */

static int tell(int socket, int32_t number, const int *descriptors, size_t count) {
  char room[CMSG_SPACE(ORDER_DESCRIPTORS * sizeof(int))] = {0};
  struct iovec part = {.iov_base = &number, .iov_len = sizeof number};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = room;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    *control = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
    memcpy(CMSG_DATA(control), descriptors, count * sizeof(int));
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

static void send_descriptors(int socket, int32_t number, const int *descriptors, size_t count) {
  if (tell(socket, number, descriptors, count)) fail("speak to the pages server");
}

/* To the box, which may have ended: when the processor is short, the restore is done before the guard has said who the server is. */
static void tell_box(int socket, int32_t number) {
  if (tell(socket, number, NULL, 0) && errno != EPIPE) fail("speak to the box");
}

/* The number of a message, its descriptors in their places; false at the end of the connection. */
static int receive_descriptors(int socket, int32_t *number, int *descriptors, size_t count) {
  char room[CMSG_SPACE(ORDER_DESCRIPTORS * sizeof(int))];
  struct iovec part = {.iov_base = number, .iov_len = sizeof *number};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  ssize_t got;
  while ((got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR);
  if (got != sizeof *number) return 0;
  struct cmsghdr *control = CMSG_FIRSTHDR(&message);
  if (control && control->cmsg_len == CMSG_LEN(count * sizeof(int))) memcpy(descriptors, CMSG_DATA(control), count * sizeof(int));
  return 1;
}

#define LOAD_NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define LOAD_ARCHITECTURE BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch))
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define ONLY_X86_64 LOAD_ARCHITECTURE, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define KILL_OTHERWISE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

/*
 * They hold what they need; nothing more can be opened, connected, started or signalled. The kernel itself makes restart_syscall(2) of a
 * poll(2) that a stop or the machine's suspension has broken off.
 */
static const struct sock_filter server_calls[] = {
    ONLY_X86_64,        LOAD_NUMBER,         ALLOW(SYS_ioctl),   ALLOW(SYS_read),   ALLOW(SYS_poll),
    ALLOW(SYS_recvmsg), ALLOW(SYS_accept4),  ALLOW(SYS_close),   ALLOW(SYS_brk),    ALLOW(SYS_mmap),   ALLOW(SYS_munmap),
    ALLOW(SYS_mremap),  ALLOW(SYS_write),    ALLOW(SYS_rt_sigreturn), ALLOW(SYS_clock_gettime), ALLOW(SYS_exit_group),
    ALLOW(SYS_restart_syscall), KILL_OTHERWISE,
};
/* Of a frozen instance's: pager.c. */
static const struct sock_filter pager_calls[] = {
    ONLY_X86_64,       LOAD_NUMBER,        ALLOW(SYS_ioctl),  ALLOW(SYS_read),   ALLOW(SYS_poll),   ALLOW(SYS_sendto),
    ALLOW(SYS_accept4), ALLOW(SYS_close),  ALLOW(SYS_brk),    ALLOW(SYS_mmap),   ALLOW(SYS_munmap), ALLOW(SYS_madvise),
    ALLOW(SYS_mremap), ALLOW(SYS_write),   ALLOW(SYS_rt_sigreturn), ALLOW(SYS_clock_gettime), ALLOW(SYS_exit_group), ALLOW(SYS_sendmsg),
    ALLOW(SYS_memfd_create), ALLOW(SYS_restart_syscall), KILL_OTHERWISE,
};
static const struct sock_filter guard_calls[] = {
    ONLY_X86_64,       LOAD_NUMBER,          ALLOW(SYS_poll),    ALLOW(SYS_recvmsg), ALLOW(SYS_sendmsg), ALLOW(SYS_wait4),
    ALLOW(SYS_close),  ALLOW(SYS_pidfd_send_signal), ALLOW(SYS_write), ALLOW(SYS_rt_sigreturn), ALLOW(SYS_exit_group),
    ALLOW(SYS_restart_syscall), KILL_OTHERWISE,
};

/* Also as uid 0 a process without capabilities may do nothing to another's; `kept` is a capability's bit or 0. */
static void keep_only(uint32_t kept, const struct sock_filter *calls, size_t count) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{kept, kept, 0}, {0, 0, 0}};
  if (syscall(SYS_capset, &header, data)) fail("capset");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
  struct sock_fprog filter = {.len = (unsigned short)count, .filter = (struct sock_filter *)calls};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter)) fail("seccomp");
}

void keep_server_rights(void) { keep_only(0, server_calls, sizeof server_calls / sizeof server_calls[0]); }
void keep_pager_rights(void) { keep_only(0, pager_calls, sizeof pager_calls / sizeof pager_calls[0]); }
void keep_guard_rights(void) { keep_only(1u << CAP_KILL, guard_calls, sizeof guard_calls / sizeof guard_calls[0]); }

static void wait_for_end(int process) {
  struct pollfd polled = {.fd = process, .events = POLLIN};
  while (poll(&polled, 1, HOLD_MS) < 0 && errno == EINTR);
}

/* The server has ended too early: ends the instance, whose process may be known only now, and holds its memory until then. */
__attribute__((noreturn)) static void end_instance(int box, int instance) {
  int32_t number;
  if (instance < 0) tell_box(box, SERVER_ENDED);
  while (instance < 0 && receive_descriptors(box, &number, &instance, 1));
  if (instance >= 0 && syscall(SYS_pidfd_send_signal, instance, SIGKILL, NULL, 0) && errno != ESRCH) fail("end the instance");
  wait_for_end(instance); /* without one, the box has failed and restored kills what there is, us too */
  _exit(1);
}

/* Until the server has ended; ends with it. */
__attribute__((noreturn)) static void guard(int box, pid_t server, int server_process) {
  int instance = -1, status = -1;
  struct pollfd polled[3] = {{.fd = server_process, .events = POLLIN}, {.fd = box, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
  for (;;) {
    int32_t number;
    if (poll(polled, 3, -1) < 0 && errno != EINTR) fail("poll");
    if (polled[1].revents) {
      if (!receive_descriptors(box, &number, &instance, 1) || instance >= 0) polled[1].fd = -1; /* that was all, or there was no restore */
      polled[2].fd = instance;
    }
    if (polled[2].revents) syscall(SYS_pidfd_send_signal, server_process, SIGKILL, NULL, 0); /* nobody wants its memory any more */
    if (polled[0].revents || polled[2].revents) {
      if (waitpid(server, &status, 0) != server) fail("wait for the pages server");
      if (polled[2].revents) _exit(0);
      if (status != 0) end_instance(box, instance);
      polled[0].fd = -1;
    }
    if (status == 0 && polled[1].fd < 0) _exit(0); /* not before the box has told: it takes our end for a failure */
  }
}

/* Becomes guard and server when an order comes; ends without one. */
__attribute__((noreturn)) static void wait_for_order(int box) {
  int32_t number;
  int descriptors[ORDER_DESCRIPTORS] = {-1, -1, -1, -1};
  struct image *images;
  if (!receive_descriptors(box, &number, descriptors, ORDER_DESCRIPTORS)) _exit(0);
  if (descriptors[FILL] < 0 || dup2(descriptors[FILL], STDERR_FILENO) < 0) _exit(1); /* so that fail() writes there */
  struct rlimit most = {MOST_DESCRIPTORS, MOST_DESCRIPTORS};
  setrlimit(RLIMIT_NOFILE, &most);
  size_t count = read_images(descriptors[IMAGES], &images);
  pid_t server = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
  if (server < 0) fail("start the pages server");
  if (server == 0) {
    setpriority(PRIO_PROCESS, 0, SERVER_NICE); /* who waits for a page waits for this process */
    keep_server_rights();
    serve_pages(descriptors[LISTENER], descriptors[FIRST_PAGES], images, count);
    _exit(write(STDERR_FILENO, "done\n", 5) == 5 ? 0 : 1);
  }
  int server_process = (int)syscall(SYS_pidfd_open, server, 0);
  if (server_process < 0) fail("hold the pages server");
  tell_box(box, server);
  keep_guard_rights();
  guard(box, server, server_process);
}

int start_pages_guard(void) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) fail("socket pair");
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    /* A signal for the edgepoint's process group (an interrupt, a hang-up of its terminal) must not take an instance's memory away. */
    if (setsid() < 0) fail("setsid");
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int standard = 0; standard < 3; standard++) dup2(null, standard); /* the end of the slot's output is waited for */
    close_range(3, (unsigned)ends[1] - 1, 0);
    close_range((unsigned)ends[1] + 1, ~0u, 0);
    wait_for_order(ends[1]);
  }
  close(ends[1]);
  dprintf(STDOUT_FILENO, "pages %d\n", child); /* like CRIU's worker: it may outlive this process */
  return ends[0];
}

/* Where CRIU looks for it: in its work folder, by this name (criu/uffd.c). */
static int listen_for_criu(const char *work) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int folder = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* a path through it, because those of sockets are short */
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (folder < 0 || listener < 0) fail("open %s", work);
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/lazy-pages.socket", folder);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1)) fail("listen for CRIU");
  close(folder);
  return listener;
}

void order_pages(const struct box *box, int guard) {
  int descriptors[ORDER_DESCRIPTORS] = {
      [LISTENER] = listen_for_criu(box->work),
      [IMAGES] = open(box->images, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
      [FILL] = open(box->fill, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600),
      [FIRST_PAGES] = open(box->first_pages, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600),
  };
  if (descriptors[FIRST_PAGES] < 0) descriptors[FIRST_PAGES] = open("/dev/null", O_RDWR | O_CLOEXEC); /* it does without */
  if (descriptors[IMAGES] < 0) fail("open %s", box->images);
  if (descriptors[FILL] < 0 || flock(descriptors[FILL], LOCK_EX | LOCK_NB)) fail("lock %s", box->fill);
  send_descriptors(guard, 0, descriptors, ORDER_DESCRIPTORS);
  for (int i = 0; i < ORDER_DESCRIPTORS; i++) close(descriptors[i]);
}

/* Waits until CRIU's worker has something to say; fails when there is nobody any more to give it its pages. */
void wait_for_criu(int worker, int guard) {
  for (;;) {
    int32_t number;
    struct pollfd polled[2] = {{.fd = worker, .events = POLLIN}, {.fd = guard, .events = POLLIN}};
    if (poll(polled, 2, -1) < 0 && errno != EINTR) fail("poll");
    errno = 0;
    if (polled[1].revents) {
      if (!receive_descriptors(guard, &number, NULL, 0) || number == SERVER_ENDED) fail("the pages server ended before the restore");
      dprintf(STDOUT_FILENO, "pages %d\n", number);
      continue;
    }
    if (polled[0].revents) return;
  }
}

void tell_pages(int guard, pid_t instance) {
  int process = (int)syscall(SYS_pidfd_open, instance, 0);
  if (process < 0) fail("hold the instance");
  send_descriptors(guard, 1, &process, 1);
  close(process);
}
