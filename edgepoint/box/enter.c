#define _GNU_SOURCE
#include "box.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * edgepoint-box enter --pid PID --socket PATH --cgroup FOLDER...
 *
 * Runs a command in an instance that is there, for whoever connects to the socket (a session). It says "found" when it holds the process
 * PID, whose number can no longer become another's; then its order comes on stdin, as a slot's does: OPTIONS -- COMMAND ARGUMENTS. It says
 * "listening", takes one connection, and speaks records over it (session.c) until the command has ended or the connection has.
 *
 * What runs is like what the instance booted: its namespaces, cgroups, capabilities, seccomp filter, user, folder and variables. Only
 * its mounts may be a copy: a terminal needs a file system of terminals (devpts), which the instance itself has not, for CRIU would find it there.
 *
 * Three processes: this one, outside the instance, which gives its rights up and passes bytes on; one that enters, and ends; and the command,
 * which is the first one's child (CLONE_PARENT) and ends with it. Whatever else the command has started ends with the session's cgroup.
 */
#define ACCEPT_SECONDS 10
#define NOBODY 65534
#define ALL_NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP | CLONE_NEWTIME)

/* What the two inside say to the one outside, in one message each; anything else is the text of a failure (fail()). */
#define SAYS_CANNOT_RUN 1 /* the exit status, and a sentence */
#define SAYS_ENTERED 2    /* the command's pid; its descriptors come along */
struct entered {
  char says;
  pid_t pid;
};

struct ends {
  int outside[3]; /* what this program reads and writes; the terminal is in all three */
  int inside[3];
};

static void open_terminal(const struct box *box, struct ends *ends) {
  if (unshare(CLONE_NEWNS)) fail("mounts of a session");
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) fail("private mounts of a session");
  if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")) fail("mount /dev/pts");
  int terminal = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), unlocked = 0;
  if (terminal < 0 || ioctl(terminal, TIOCSPTLCK, &unlocked)) fail("open a terminal");
  /* Opened by its name: programs look for it by that (ttyname(3)). */
  unsigned number;
  char path[64];
  if (ioctl(terminal, TIOCGPTN, &number)) fail("the number of a terminal");
  snprintf(path, sizeof path, "/dev/pts/%u", number);
  int inside = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (inside < 0) fail("open %s", path);
  struct winsize size = {.ws_row = (unsigned short)box->terminal_rows, .ws_col = (unsigned short)box->terminal_columns};
  if (ioctl(terminal, TIOCSWINSZ, &size)) fail("the size of a terminal");
  for (int i = 0; i < 3; i++) ends->outside[i] = terminal, ends->inside[i] = inside;
}

static void open_pipes(struct ends *ends) {
  for (int i = 0; i < 3; i++) {
    int both[2];
    if (pipe2(both, O_CLOEXEC)) fail("pipe");
    ends->outside[i] = both[i == 0];
    ends->inside[i] = both[i != 0];
  }
}

/* So that it may open them again, as /dev/stdout. */
static void give_ends(const struct box *box, const struct ends *ends) {
  if (!box->user) return;
  struct identity identity = {0};
  find_identity(box->user, &identity);
  for (int i = 0; i < 3; i++)
    if (fchown(ends->inside[i], identity.uid, (gid_t)-1)) fail("give a session's descriptors to its user");
}

static void tell_entered(int report, pid_t pid, const struct ends *ends) {
  struct entered entered = {.says = SAYS_ENTERED, .pid = pid};
  char control[CMSG_SPACE(sizeof ends->outside)] = {0};
  struct iovec bytes = {.iov_base = &entered, .iov_len = sizeof entered};
  struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof ends->outside);
  memcpy(CMSG_DATA(header), ends->outside, sizeof ends->outside);
  if (sendmsg(report, &message, 0) < 0) fail("tell of a session's descriptors");
}

__attribute__((noreturn)) static void become_command(const struct box *box, char **command, const struct ends *ends, int report) {
  if (setsid() < 0) fail("setsid");
  if (box->terminal_rows && ioctl(ends->inside[0], TIOCSCTTY, 0)) fail("take a terminal");
  report = fcntl(report, F_DUPFD_CLOEXEC, 100);
  dup2(report, STDERR_FILENO); /* so that fail() speaks to the one outside */
  if (dup2(ends->inside[0], 0) < 0 || dup2(ends->inside[1], 1) < 0) fail("descriptors of a session");
  int errors = fcntl(ends->inside[2], F_DUPFD_CLOEXEC, 101);
  close_range(3, 99, 0);
  umask(022);
  enter_folder(box->working_directory ? box->working_directory : "/app");
  signal(SIGPIPE, SIG_DFL);
  become_whom_it_runs_as(box);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  dup2(errors, STDERR_FILENO);
  close_range(102, ~0u, 0);
  execvp(command[0], command);
  char text[1100];
  int status = errno == EACCES ? 126 : 127; /* as sh(1) has it */
  int length = snprintf(text, sizeof text, "%c%c%.1000s: %s", SAYS_CANNOT_RUN, status, command[0], strerror(errno));
  if (write(report, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1) < 0) _exit(1);
  _exit(status);
}

/* In the cgroups first, for nothing of the machine can be written from inside. */
__attribute__((noreturn)) static void go_inside(const struct box *box, char **command, int instance, int report) {
  dup2(report, STDERR_FILENO);
  shorten_slice();
  enter_cgroups(box);
  if (setns(instance, ALL_NAMESPACES)) fail("enter the instance");
  if (setgroups(0, NULL) || setresgid(0, 0, 0) || setresuid(0, 0, 0)) fail("become the instance's root");
  struct ends ends;
  if (box->terminal_rows) open_terminal(box, &ends);
  else open_pipes(&ends);
  give_ends(box, &ends);
  pid_t pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
  if (pid < 0) fail("fork in the instance");
  if (pid == 0) become_command(box, command, &ends, report);
  tell_entered(report, pid, &ends);
  _exit(0);
}

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  errno = ENAMETOOLONG;
  if (strlen(path) >= sizeof address.sun_path) fail("socket %s", path);
  strcpy(address.sun_path, path);
  int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  umask(0117); /* for its group, which is that of the folder */
  if (listening < 0 || bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 1)) fail("listen at %s", path);
  return listening;
}

/* The one connection there is, or the end of this program. */
static int accept_one(const char *path) {
  int listening = listen_at(path);
  dprintf(STDOUT_FILENO, "listening\n");
  struct pollfd waits = {.fd = listening, .events = POLLIN};
  int ready;
  while ((ready = poll(&waits, 1, ACCEPT_SECONDS * 1000)) < 0 && errno == EINTR) {
  }
  int connection = ready > 0 ? accept4(listening, NULL, NULL, SOCK_CLOEXEC) : -1;
  unlink(path);
  close(listening);
  if (connection < 0) fail("nobody has connected to a session");
  return connection;
}

/* Reads what those inside say until they have become the command, or have failed; false then, and it has been told. */
static int wait_for_command(int report, struct session *session) {
  int ends[3] = {-1, -1, -1}, told = 0;
  for (;;) {
    union {
      struct entered entered;
      char text[1200];
    } said;
    char control[CMSG_SPACE(sizeof ends)];
    struct iovec bytes = {.iov_base = &said, .iov_len = sizeof said - 1};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(report, &message, MSG_CMSG_CLOEXEC);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) break;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (said.entered.says == SAYS_ENTERED && header && header->cmsg_len == CMSG_LEN(sizeof ends)) {
      session->pid = said.entered.pid;
      dprintf(STDOUT_FILENO, "pid %d\n", session->pid); /* for whoever waits for it should this program not */
      memcpy(ends, CMSG_DATA(header), sizeof ends);
    } else if (said.text[0] == SAYS_CANNOT_RUN) {
      const char status[2] = {0, said.text[1]};
      char line[1300];
      said.text[length] = 0;
      int line_length = snprintf(line, sizeof line, "cannot run %s\n", said.text + 2);
      send_record(session->connection, ERRORS, line, (size_t)line_length);
      send_record(session->connection, EXIT, status, sizeof status);
      told = 1;
    } else {
      if (!told) send_record(session->connection, FAILED, said.text, (size_t)length > 1000 ? 1000 : (size_t)length);
      told = 1;
    }
  }
  if (!told && session->pid == 0) send_record(session->connection, FAILED, "the instance has ended", 22);
  session->in = ends[0];
  session->out = ends[1];
  session->errors = session->is_terminal ? -1 : ends[2];
  return !told && session->pid > 0;
}

/* From here on only bytes are passed on. */
static void give_rights_up(void) {
  if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)) fail("become nobody");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
}

int enter(char **options) {
  struct box box = {0};
  const char *path = NULL;
  pid_t pid = 0;
  for (char **option = options; *option; option++) {
    errno = EINVAL;
    if (!option[1]) fail("%s wants a value", *option);
    if (!strcmp(*option, "--pid")) pid = (pid_t)atoi(*++option);
    else if (!strcmp(*option, "--socket")) path = *++option;
    else if (!strcmp(*option, "--cgroup") && box.cgroup_count < MOST_CGROUPS) box.cgroups[box.cgroup_count++] = *++option;
    else fail("unknown option %s", *option);
  }
  if (pid <= 1 || !path || box.cgroup_count == 0) fail("--pid, --socket or --cgroup is missing");
  signal(SIGPIPE, SIG_IGN);
  int instance = (int)syscall(SYS_pidfd_open, pid, 0);
  if (instance < 0) fail("the instance has ended");
  dprintf(STDOUT_FILENO, "found\n");
  char **order = read_order();
  if (!order) return 0;
  char **command = read_options(order, &box);
  errno = EINVAL;
  if (!command[0]) fail("nothing to run after --");
  if (box.terminal_rows < 0 || box.terminal_columns < 0) fail("--terminal");
  struct session session = {.connection = accept_one(path), .is_terminal = box.terminal_rows > 0};
  int report[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report)) fail("socketpair");
  pid_t entering = fork();
  if (entering < 0) fail("fork");
  if (entering == 0) go_inside(&box, command, instance, report[1]);
  close(report[1]);
  give_rights_up();
  int begun = wait_for_command(report[0], &session);
  while (waitpid(entering, NULL, 0) < 0 && errno == EINTR) {
  }
  if (begun) relay(&session);
  else if (session.pid > 0) waitpid(session.pid, NULL, 0);
  linger(session.connection);
  return 0;
}
