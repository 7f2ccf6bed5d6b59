import { readFileSync } from 'node:fs';
import { dlopen, ptr } from 'bun:ffi';

/** The few system calls a daemon needs that the runtime has no function for; each says its manual page. */
const libc = dlopen('libc.so.6', {
  umount2: { args: ['cstring', 'i32'], returns: 'i32' },
  prctl: { args: ['i32', 'u64', 'u64', 'u64', 'u64'], returns: 'i32' },
  flock: { args: ['i32', 'i32'], returns: 'i32' },
  syscall: { args: ['i64', 'ptr', 'i64', 'i64', 'i64', 'i64'], returns: 'i64' },
  waitpid: { args: ['i32', 'ptr', 'i32'], returns: 'i32' },
}).symbols;

const detach = 2;
const becomeSubreaper = 36;
const noHang = 1;
const lockSharedAtOnce = 1 | 4; // LOCK_SH | LOCK_NB

/** umount2(2) with MNT_DETACH; true when it was a mount. */
export function unmount(path: string): boolean {
  return libc.umount2(Buffer.from(`${path}\0`), detach) === 0;
}

/** prctl(2), PR_SET_CHILD_SUBREAPER: what CRIU leaves behind becomes a child of this process. */
export function becomeChildSubreaper(): void {
  libc.prctl(becomeSubreaper, 1n, 0n, 0n, 0n);
}

/** flock(2), without waiting: false when somebody has locked the file for itself. Goes with the descriptor. */
export function lockShared(file: number): boolean {
  return libc.flock(file, lockSharedAtOnce) === 0;
}

/** waitpid(2) without waiting: lets a dead child go. False while it is a child that cannot be let go yet; true also when it is none of ours. */
export function reap(pid: number): boolean {
  return libc.waitpid(pid, null, noHang) !== 0;
}

const perfEventOpen = 298; // x86-64
const closeOnExec = 8; // PERF_FLAG_FD_CLOEXEC

/**
 * Keeps the kernel's hooks for perf events switched on while this process lives, by an event that counts nothing (perf_event_open(2)). CRIU stops
 * a process by a breakpoint, which is such an event: the first one in a second switches the hooks on and waits for a grace period of the
 * kernel, 10 to 20 ms of a wake or of a snapshot's pause. Where the kernel has none or forbids it, that is what they take.
 */
export function keepBreakpointsReady(): void {
  const attributes = new Uint32Array(32); // struct perf_event_attr
  attributes[0] = 1; // PERF_TYPE_SOFTWARE
  attributes[1] = attributes.byteLength;
  attributes[2] = 9; // PERF_COUNT_SW_DUMMY
  attributes[10] = 1; // disabled
  libc.syscall(perfEventOpen, ptr(attributes), 0, -1, -1, closeOnExec);
}

/** Whether a process in a user namespace may have a userfaultfd(2), which CRIU opens there for a lazy restore; no on a kernel without. */
export function pageFaultsMayBeAnswered(): boolean {
  try {
    return readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'utf8').trim() === '1';
  } catch {
    return false;
  }
}
