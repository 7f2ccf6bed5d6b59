#define _GNU_SOURCE
#include "box.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What an ordinary server started as root needs to give its rights away; nothing that reaches out of its own namespaces. */
static const int kept_capabilities[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID,
                                        CAP_KILL,   CAP_SETGID,       CAP_SETUID, CAP_NET_BIND_SERVICE};

static int is_kept(int capability) {
  for (size_t i = 0; i < sizeof kept_capabilities / sizeof kept_capabilities[0]; i++)
    if (kept_capabilities[i] == capability) return 1;
  return 0;
}

static void drop_capabilities(void) {
  for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
    if (!is_kept(capability) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) && errno != EINVAL) fail("drop capability %d", capability);
  uint64_t kept = 0;
  for (size_t i = 0; i < sizeof kept_capabilities / sizeof kept_capabilities[0]; i++) kept |= 1ull << kept_capabilities[i];
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{(uint32_t)kept, (uint32_t)kept, 0}, {(uint32_t)(kept >> 32), (uint32_t)(kept >> 32), 0}};
  if (syscall(SYS_capset, &header, data)) fail("capset");
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define REFUSE(number, error) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), ANSWER(SECCOMP_RET_ERRNO | (error))

#define NAMESPACE_FLAGS (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#define MAP_TYPES 0x0f
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/*
 * Refused: what changes the kernel or the namespaces, looks into others, or cannot be snapshotted.
 * io_uring says ENOSYS because CRIU cannot dump a ring and runtimes then fall back; clone3 says ENOSYS because its flags
 * lie in memory where a filter cannot look, and C libraries then use clone. CRIU knows neither Landlock (a program would wake
 * without the cage it locked itself into), secret memory nor Multipath TCP (Go's listeners ask for it and do without).
 */
static const struct sock_filter program[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
    ANSWER(SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), /* the x32 interface */
    ANSWER(SECCOMP_RET_ERRNO | ENOSYS),
    REFUSE(SYS_io_uring_setup, ENOSYS),
    REFUSE(SYS_io_uring_setup + 1, ENOSYS),
    REFUSE(SYS_io_uring_setup + 2, ENOSYS),
    REFUSE(SYS_clone3, ENOSYS),
    REFUSE(SYS_landlock_create_ruleset, ENOSYS),
    REFUSE(SYS_memfd_secret, ENOSYS),
    REFUSE(SYS_mount, EPERM),
    REFUSE(SYS_umount2, EPERM),
    REFUSE(SYS_pivot_root, EPERM),
    REFUSE(SYS_chroot, EPERM),
    REFUSE(SYS_open_tree, EPERM),
    REFUSE(SYS_move_mount, EPERM),
    REFUSE(SYS_fsopen, EPERM),
    REFUSE(SYS_fsconfig, EPERM),
    REFUSE(SYS_fsmount, EPERM),
    REFUSE(SYS_fspick, EPERM),
    REFUSE(SYS_mount_setattr, EPERM),
    REFUSE(SYS_unshare, EPERM),
    REFUSE(SYS_setns, EPERM),
    REFUSE(SYS_ptrace, EPERM),
    REFUSE(SYS_process_vm_readv, EPERM),
    REFUSE(SYS_process_vm_writev, EPERM),
    REFUSE(SYS_kcmp, EPERM),
    REFUSE(SYS_pidfd_getfd, EPERM),
    REFUSE(SYS_open_by_handle_at, EPERM),
    REFUSE(SYS_name_to_handle_at, EPERM),
    REFUSE(SYS_fanotify_init, EPERM),
    REFUSE(SYS_bpf, EPERM),
    REFUSE(SYS_perf_event_open, EPERM),
    REFUSE(SYS_userfaultfd, EPERM),
    REFUSE(SYS_keyctl, EPERM),
    REFUSE(SYS_add_key, EPERM),
    REFUSE(SYS_request_key, EPERM),
    REFUSE(SYS_init_module, EPERM),
    REFUSE(SYS_finit_module, EPERM),
    REFUSE(SYS_delete_module, EPERM),
    REFUSE(SYS_kexec_load, EPERM),
    REFUSE(SYS_kexec_file_load, EPERM),
    REFUSE(SYS_reboot, EPERM),
    REFUSE(SYS_swapon, EPERM),
    REFUSE(SYS_swapoff, EPERM),
    REFUSE(SYS_acct, EPERM),
    REFUSE(SYS_quotactl, EPERM),
    REFUSE(SYS_quotactl_fd, EPERM),
    REFUSE(SYS_settimeofday, EPERM),
    REFUSE(SYS_clock_settime, EPERM),
    REFUSE(SYS_clock_adjtime, EPERM),
    REFUSE(SYS_adjtimex, EPERM),
    REFUSE(SYS_iopl, EPERM),
    REFUSE(SYS_ioperm, EPERM),
    REFUSE(SYS_syslog, EPERM),
    REFUSE(SYS_vhangup, EPERM),
    REFUSE(SYS_lookup_dcookie, EPERM),
    REFUSE(SYS_sethostname, EPERM),
    REFUSE(SYS_setdomainname, EPERM),
    /* memory for getrandom(2) in the vDSO, whose state clones would share: C libraries and Go then ask the kernel each time */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 5),
    LOAD(args[3]),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, MAP_TYPES),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MAP_DROPPABLE, 0, 1),
    ANSWER(SECCOMP_RET_ERRNO | EINVAL),
    ANSWER(SECCOMP_RET_ALLOW),
    /* clone with a namespace flag */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACE_FLAGS, 0, 1),
    ANSWER(SECCOMP_RET_ERRNO | EPERM),
    ANSWER(SECCOMP_RET_ALLOW),
    /* only sockets that stay inside and can be snapshotted: unix, IPv4 and IPv6, netlink's route family */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 12),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 9, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 5, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 4, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 2),
    LOAD(args[2]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, 0),
    ANSWER(SECCOMP_RET_ERRNO | EAFNOSUPPORT),
    LOAD(args[2]), /* IPv4 and IPv6 */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_MPTCP, 0, 1),
    ANSWER(SECCOMP_RET_ERRNO | EPROTONOSUPPORT),
    ANSWER(SECCOMP_RET_ALLOW),
    ANSWER(SECCOMP_RET_ALLOW),
};

void drop_rights(void) {
  drop_capabilities();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
  struct sock_fprog filter = {.len = sizeof program / sizeof program[0], .filter = (struct sock_filter *)program};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter)) fail("seccomp");
}
