import { createRequire } from 'node:module';
import { getPriority } from 'node:os';
import type * as ffi from 'bun:ffi';

/** sched_setattr(2): unistd_64.h of x86-64, and unistd.h of all others that Bun runs on. */
const schedSetattr = process.arch === 'x64' ? 314 : 274;
/** The least the kernel lets one ask for. */
export const shortestSliceNs = 100_000n;

/**
 * Gives a thread (0: this one), and what it starts, a time slice of the scheduler: sched_setattr(2), sched_runtime of SCHED_OTHER, Linux 6.12 or
 * newer; others ignore it. 0 is the kernel's own. It gets no more of the processor for a short one, but what it gets it gets earlier. False
 * when there is no such thread any more.
 */
export function setTimeSlice(thread: number, sliceNs: bigint): boolean {
  const { dlopen, ptr } = createRequire(import.meta.url)('bun:ffi') as typeof ffi;
  const { syscall } = dlopen('libc.so.6', { syscall: { args: ['i64', 'i64', 'ptr', 'u64'], returns: 'i64' } }).symbols;
  const attributes = new DataView(new ArrayBuffer(48)); // struct sched_attr
  attributes.setUint32(0, attributes.byteLength, true);
  attributes.setInt32(16, niceOf(thread), true);
  attributes.setBigUint64(24, sliceNs, true);
  return syscall(schedSetattr, thread, ptr(new Uint8Array(attributes.buffer)), 0) === 0n;
}

/** A thread that has just ended has none. */
function niceOf(thread: number): number {
  try {
    return getPriority(thread);
  } catch {
    return 0;
  }
}
