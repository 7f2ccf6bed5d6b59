/*
 * Run inside an instance by the tests.
 *
 *   probe attempts GATEWAY GATEWAY6 NEIGHBOUR PID FOLDER   tries what an instance must not do; prints "name errno-name" for each,
 *                                                          "allowed" for what worked
 *   probe hold WHAT   holds something while it lives; prints "holding" or why not
 *   probe fork        forks until it may not; prints how often, and why not
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void tell(const char *name, long result) {
  printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "allowed");
  fflush(stdout);
}

static long write_to(const char *path, const char *text) {
  int fd = open(path, O_WRONLY);
  if (fd < 0) return -1;
  long result = write(fd, text, strlen(text));
  close(fd);
  return result;
}

static long read_from(const char *path) {
  char bytes[64];
  int fd = open(path, O_RDONLY);
  if (fd < 0) return -1;
  long result = pread(fd, bytes, sizeof bytes, 0);
  close(fd);
  return result;
}

/* A connection that is answered, refused, or dropped: ETIMEDOUT when nothing comes back within 300 ms. */
static long reach_socket(int family, const struct sockaddr *to, socklen_t size) {
  int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (connect(fd, to, size) == 0) return 0;
  if (errno != EINPROGRESS) return -1;
  struct pollfd wait = {.fd = fd, .events = POLLOUT};
  if (poll(&wait, 1, 300) == 0) {
    close(fd);
    errno = ETIMEDOUT;
    return -1;
  }
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  close(fd);
  errno = error;
  return error ? -1 : 0;
}

static long reach(const char *address, int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  inet_pton(AF_INET, address, &to.sin_addr);
  return reach_socket(AF_INET, (struct sockaddr *)&to, sizeof to);
}

static long node(const char *path, int kind, unsigned device_major, unsigned device_minor) {
  long result = mknod(path, (mode_t)kind | 0600, makedev(device_major, device_minor));
  int error = errno;
  if (result == 0) {
    int fd = open(path, O_RDWR);
    result = fd < 0 ? -1 : 0;
    error = errno;
    unlink(path);
  }
  errno = error;
  return result;
}

/* What a child that runs in the namespaces `flags` ask for says: 0, or -1 with its errno. */
static long clone_with(unsigned long flags) {
  long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid((pid_t)pid, NULL, 0);
  return pid;
}

static long set_namespace(const char *path, int kind) {
  int fd = open(path, O_RDONLY);
  return fd < 0 ? -1 : setns(fd, kind);
}

static long change_root(void) {
  mkdir("/tmp/cell", 0700);
  return chroot("/tmp/cell");
}

/* Does executing a set-uid file as an ordinary user give it root? */
static long run_set_uid(const char *self) {
  char path[] = "/var/set-uid";
  int in = open(self, O_RDONLY), out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
  char bytes[1 << 16];
  for (ssize_t got; (got = read(in, bytes, sizeof bytes)) > 0;)
    if (write(out, bytes, (size_t)got) != got) return -1;
  close(out);
  chmod(path, 04755);
  pid_t pid = fork();
  if (pid == 0) {
    if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000)) _exit(9);
    execl(path, "probe", "effective-uid", (char *)NULL);
    _exit(8);
  }
  int status;
  waitpid(pid, &status, 0);
  unlink(path);
  errno = WEXITSTATUS(status) == 1 ? EPERM : EINVAL; /* EINVAL: it was not tried at all */
  return WEXITSTATUS(status) == 0 ? 0 : -1;
}

static long far_process_memory(void) {
  char byte = 0;
  struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
  return process_vm_readv(getppid(), &here, 1, &there, 1, 0);
}

static long push_to_terminal(void) {
  int fd = open("/dev/tty", O_RDWR);
  if (fd < 0) return -1;
  return ioctl(fd, TIOCSTI, "x");
}

static long open_below(const char *above, const char *path) {
  char whole[4096];
  snprintf(whole, sizeof whole, "%s%s", above, path);
  return open(whole, O_RDONLY);
}

/* int $0x80: the kernel kills a process that calls through an interface the filter does not know. */
static long call_by_interrupt(void) {
  pid_t pid = fork();
  if (pid == 0) {
    long number = 20; /* getpid there */
    __asm__ volatile("int $0x80" : "+a"(number) : : "memory", "r8", "r9", "r10", "r11");
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  errno = EPERM;
  return WIFEXITED(status) ? 0 : -1;
}

static long reach6(const char *address, int port) {
  struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_scope_id = if_nametoindex("eth0")};
  inet_pton(AF_INET6, address, &to.sin6_addr);
  return reach_socket(AF_INET6, (struct sockaddr *)&to, sizeof to);
}

static void attempts(char **arguments) {
  const char *gateway = arguments[2], *gateway6 = arguments[3], *neighbour = arguments[4], *machine_folder = arguments[6], *self = arguments[0];
  pid_t machine_pid = (pid_t)atoi(arguments[5]);
  unsigned char attribute[128] = {0};
  tell("mount a tmpfs", mount("none", "/tmp", "tmpfs", 0, ""));
  tell("mount proc", mount("proc", "/proc", "proc", 0, ""));
  tell("bind mount", mount("/", "/tmp", NULL, MS_BIND, NULL));
  tell("remount /dev writable", mount(NULL, "/dev", NULL, MS_REMOUNT | MS_BIND, NULL));
  tell("umount /proc", umount2("/proc", MNT_DETACH));
  tell("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
  tell("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
  tell("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/", AT_FDCWD, "/tmp", 0));
  tell("mount_setattr", syscall(442, AT_FDCWD, "/", 0, attribute, 32));
  tell("pivot_root", syscall(SYS_pivot_root, ".", "."));
  tell("unshare user", unshare(CLONE_NEWUSER));
  tell("unshare mount", unshare(CLONE_NEWNS));
  tell("unshare network", unshare(CLONE_NEWNET));
  tell("clone a user namespace", clone_with(CLONE_NEWUSER));
  tell("clone a pid namespace", clone_with(CLONE_NEWPID));
  tell("clone a time namespace", unshare(CLONE_NEWTIME));
  tell("clone3", syscall(SYS_clone3, attribute, 88));
  tell("setns to its own network", set_namespace("/proc/self/ns/net", 0));
  tell("ptrace its parent", ptrace(PTRACE_ATTACH, getppid(), 0, 0));
  tell("ptrace seize its parent", ptrace(PTRACE_SEIZE, getppid(), 0, 0));
  tell("read its parent's memory", far_process_memory());
  tell("kcmp", syscall(SYS_kcmp, getpid(), getppid(), 0, 0, 0));
  tell("pidfd_getfd", syscall(SYS_pidfd_getfd, -1, 0, 0));
  tell("keyctl", syscall(SYS_keyctl, 0, -3, 1));
  tell("add_key", syscall(SYS_add_key, "user", "a", "b", 1, -3));
  tell("request_key", syscall(SYS_request_key, "user", "a", NULL, 0));
  tell("bpf", syscall(SYS_bpf, 5, attribute, sizeof attribute));
  tell("perf_event_open", syscall(SYS_perf_event_open, attribute, 0, -1, -1, 0));
  tell("userfaultfd", syscall(SYS_userfaultfd, 1));
  tell("io_uring_setup", syscall(425, 1, attribute));
  tell("io_uring_enter", syscall(426, -1, 0, 0, 0, 0, 0));
  tell("io_uring_register", syscall(427, -1, 0, 0, 0));
  tell("raw socket", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
  tell("raw IPv6 socket", socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
  tell("packet socket", socket(AF_PACKET, SOCK_RAW, htons(3)));
  tell("vsock socket", socket(AF_VSOCK, SOCK_STREAM, 0));
  tell("crypto socket", socket(AF_ALG, SOCK_SEQPACKET, 0));
  tell("netfilter netlink", socket(AF_NETLINK, SOCK_RAW, 12));
  tell("audit netlink", socket(AF_NETLINK, SOCK_RAW, 9));
  tell("name_to_handle_at", syscall(SYS_name_to_handle_at, AT_FDCWD, "/", attribute, attribute + 64, 0));
  tell("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, attribute, O_RDONLY));
  tell("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
  tell("init_module", syscall(SYS_init_module, attribute, 1, ""));
  tell("delete_module", syscall(SYS_delete_module, "x", 0));
  tell("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
  tell("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0x89abcdef, NULL));
  tell("swapon", swapon("/app/server.js", 0));
  tell("set the clock", syscall(SYS_clock_settime, CLOCK_REALTIME, &(struct timespec){0}));
  tell("settimeofday", syscall(SYS_settimeofday, NULL, NULL));
  tell("set the host name", sethostname("other", 5));
  tell("read the kernel log", syscall(SYS_syslog, 3, attribute, 10));
  tell("iopl", syscall(SYS_iopl, 3));
  tell("chroot", change_root());
  tell("raise the scheduling priority", setpriority(PRIO_PROCESS, 0, -5));
  tell("real-time scheduling", sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}));
  tell("raise the limit on open files", setrlimit(RLIMIT_NOFILE, &(struct rlimit){1u << 30, 1u << 30}));
  tell("make a disk's device", node("/var/disk", S_IFBLK, 254, 0));
  tell("make a loop device", node("/var/loop", S_IFBLK, 7, 0));
  tell("make /dev/mem", node("/var/mem", S_IFCHR, 1, 1));
  tell("make a device in /dev", node("/dev/mem", S_IFCHR, 1, 1));
  tell("write in /dev", open("/dev/new", O_WRONLY | O_CREAT, 0600));
  tell("open /dev/vda", open("/dev/vda", O_RDONLY));
  tell("open /dev/sda", open("/dev/sda", O_RDONLY));
  tell("open /dev/kmsg", open("/dev/kmsg", O_RDONLY));
  tell("open /dev/fuse", open("/dev/fuse", O_RDWR));
  tell("open /dev/net/tun", open("/dev/net/tun", O_RDWR));
  tell("open /dev/ptmx", open("/dev/ptmx", O_RDWR));
  tell("push to a terminal", push_to_terminal());
  tell("read /proc/kcore", read_from("/proc/kcore"));
  tell("read /proc/kmsg", read_from("/proc/kmsg"));
  tell("write /proc/sysrq-trigger", write_to("/proc/sysrq-trigger", "h"));
  tell("write core_pattern", write_to("/proc/sys/kernel/core_pattern", "|/app/probe"));
  tell("write modprobe path", write_to("/proc/sys/kernel/modprobe", "/app/probe"));
  tell("write ip_forward", write_to("/proc/sys/net/ipv4/ip_forward", "1"));
  tell("write its host's hostname", write_to("/proc/sys/kernel/hostname", "other"));
  tell("write drop_caches", write_to("/proc/sys/vm/drop_caches", "1"));
  tell("lower its oom score", write_to("/proc/self/oom_score_adj", "-1000"));
  tell("write its uid_map", write_to("/proc/self/uid_map", "0 0 1"));
  tell("read /sys/kernel", open("/sys/kernel", O_RDONLY));
  tell("make a cgroup", mkdir("/sys/fs/cgroup/x", 0700));
  tell("reach the edgepoint at the gateway", reach(gateway, 7001));
  tell("reach the edgepoint at the gateway by IPv6", reach6(gateway6, 7001));
  tell("reach the edgepoint at its other address", reach("10.200.0.1", 7001));
  tell("reach its neighbour", reach(neighbour, 8080));
  tell("reach an address of its subnet that nobody has", reach("10.77.0.250", 8080));
  tell("reach the metadata service", reach("169.254.169.254", 80));
  tell("reach a private network", reach("192.168.1.1", 80));
  tell("gain rights by a set-uid file", run_set_uid(self));
  tell("signal a process of the machine", kill(machine_pid, 0));
  tell("open a folder of the machine", open(machine_folder, O_RDONLY));
  tell("open it through its first process's root", open_below("/proc/1/root", machine_folder));
  tell("open it through its own way up", open_below("/../../../..", machine_folder));
  tell("secret memory", syscall(447, 0));
  tell("Landlock", syscall(444, attribute, 8, 0));
  tell("Multipath TCP", socket(AF_INET, SOCK_STREAM, 262));
  tell("a call of the x32 interface", syscall(0x40000000 | SYS_getpid));
  tell("a call of the 32-bit interface", call_by_interrupt());
}

/* The parent stands still in the kernel until its child executes a program or ends, which this one never does. */
__attribute__((noinline)) static void wait_in_vfork(void) {
  if (vfork() == 0) {
    if (write(STDOUT_FILENO, "holding\n", 8) != 8) _exit(1);
    for (;;) pause();
  }
}

static int wait_for_ever(void *nothing) {
  while (!nothing) pause();
  return 0;
}

static int hold(const char *what, const char *self) {
  long result = -1;
  if (!strcmp(what, "mqueue")) result = mq_open("/queue", O_RDWR | O_CREAT, 0600, NULL);
  else if (!strcmp(what, "landlock")) {
    uint64_t rules = 1;
    result = syscall(444, &rules, sizeof rules, 0);
  } else if (!strcmp(what, "secret-memory")) {
    int fd = (int)syscall(447, 0);
    if (fd >= 0 && ftruncate(fd, 4096) == 0) {
      char *secret = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      result = secret == MAP_FAILED ? -1 : (secret[0] = 1);
    }
  } else if (!strcmp(what, "mptcp")) {
    result = socket(AF_INET, SOCK_STREAM, 262);
  } else if (!strcmp(what, "huge-memfd")) {
    result = memfd_create("huge", MFD_HUGETLB);
  } else if (!strcmp(what, "ping")) {
    result = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  } else if (!strcmp(what, "notify")) {
    struct { unsigned short code; unsigned char jt, jf; unsigned k; } allow = {6, 0, 0, 0x7fff0000};
    struct { unsigned short count; void *filter; } program = {1, &allow};
    result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
  } else if (!strcmp(what, "deleted-file")) {
    int fd = open("/var/deleted", O_RDWR | O_CREAT, 0600);
    static char bytes[4 << 20];
    memset(bytes, 'x', sizeof bytes);
    result = write(fd, bytes, sizeof bytes) == sizeof bytes ? unlink("/var/deleted") : -1;
  } else if (!strcmp(what, "descriptor-in-flight")) {
    int pair[2], file = open(self, O_RDONLY);
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)) return 1;
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 1;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(header), &file, sizeof file);
    result = sendmsg(pair[0], &message, 0);
  } else if (!strcmp(what, "proc-inotify")) {
    result = inotify_add_watch(inotify_init1(0), "/proc/self", IN_ACCESS);
  } else if (!strcmp(what, "inotify")) {
    result = inotify_add_watch(inotify_init1(0), "/app", IN_CREATE);
  } else if (!strcmp(what, "pidfd")) {
    result = syscall(SYS_pidfd_open, getppid(), 0);
  } else if (!strcmp(what, "netlink")) {
    result = socket(AF_NETLINK, SOCK_RAW, 0);
  } else if (!strcmp(what, "system-v")) {
    result = syscall(SYS_semget, 77, 1, 01600);
  } else if (!strcmp(what, "udp-lite")) {
    result = socket(AF_INET, SOCK_DGRAM, 136);
  } else if (!strcmp(what, "sctp")) {
    result = socket(AF_INET, SOCK_STREAM, 132);
  } else if (!strcmp(what, "aio")) {
    unsigned long context = 0;
    result = syscall(SYS_io_setup, 8, &context);
  } else if (!strcmp(what, "hard-link")) {
    result = open("/var/one", O_RDWR | O_CREAT, 0600) < 0 || link("/var/one", "/var/other") ? -1 : unlink("/var/one");
  } else if (!strcmp(what, "thread-timer")) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    event._sigev_un._tid = (int)syscall(SYS_gettid);
    int timer;
    result = syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer);
  } else if (!strcmp(what, "shared-descriptors") || !strcmp(what, "shared-memory")) {
    static char stack[16384] __attribute__((aligned(16)));
    result = clone(wait_for_ever, stack + sizeof stack, (what[7] == 'd' ? CLONE_FILES | CLONE_FS : CLONE_VM) | SIGCHLD, NULL);
  } else if (!strcmp(what, "vfork")) {
    wait_in_vfork();
  }
  if (result < 0) printf("%s\n", strerrorname_np(errno));
  else printf("holding\n");
  fflush(stdout);
  for (;;) pause();
}

static void fork_without_end(void) {
  int made = 0;
  for (; made < 100000; made++) {
    pid_t pid = fork();
    if (pid == 0) for (;;) pause();
    if (pid < 0) break;
  }
  printf("%d %s\n", made, strerrorname_np(errno));
  fflush(stdout);
  kill(0, SIGKILL);
}

int main(int count, char **arguments) {
  if (count == 2 && !strcmp(arguments[1], "effective-uid")) return geteuid() == 0 ? 0 : 1;
  if (count == 2 && !strcmp(arguments[1], "fork")) fork_without_end();
  if (count == 3 && !strcmp(arguments[1], "hold")) return hold(arguments[2], arguments[0]);
  if (count == 7 && !strcmp(arguments[1], "attempts")) attempts(arguments);
  return 0;
}
