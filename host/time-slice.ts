import { createRequire } from 'node:module';
import { getPriority } from 'node:os';
import type * as ffi from 'bun:ffi';

const schedSetattr = 314; // x86-64
/** The least the kernel lets one ask for. */
const shortestNs = 100_000n;

/**
 * Gives this thread, and what it starts, the shortest time slice of the scheduler (sched_setattr(2), sched_runtime of SCHED_OTHER, Linux 6.12 or
 * newer; others ignore it). It gets no more of the processor, but what it gets it gets earlier: instances have this slice too, and whoever has a
 * longer one waits behind them.
 */
export function shortenTimeSlice(): void {
  const { dlopen, ptr } = createRequire(import.meta.url)('bun:ffi') as typeof ffi;
  const { syscall } = dlopen('libc.so.6', { syscall: { args: ['i64', 'i64', 'ptr', 'u64'], returns: 'i64' } }).symbols;
  const attributes = new DataView(new ArrayBuffer(48)); // struct sched_attr
  attributes.setUint32(0, attributes.byteLength, true);
  attributes.setInt32(16, getPriority(), true);
  attributes.setBigUint64(24, shortestNs, true);
  syscall(schedSetattr, 0, ptr(new Uint8Array(attributes.buffer)), 0);
}
