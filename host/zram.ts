import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { codeOf } from '../kit/errors.ts';

/** Swap on compressed memory (Documentation/admin-guide/blockdev/zram.rst), as the frozen tier needs it. All in bytes. */
export interface ZramSwap {
  /** For example `zram1`. */
  readonly device: string;
  /** Pages it may take, uncompressed. */
  readonly sizeBytes: number;
  readonly usedBytes: number;
  /** Memory it holds for them now, with its own overhead. */
  readonly heldBytes: number;
  /** Memory it may hold; 0 is no bound. */
  readonly heldBytesMax: number;
}

/** The zram device with the most room in `/proc/swaps` (proc(5)); null when there is none. `statOf` reads its mm_stat. */
export function parseZramSwap(swaps: string, statOf: (device: string) => string): ZramSwap | null {
  const found = swaps.split('\n').flatMap((line): ZramSwap[] => {
    const [path = '', , kilobytes, used] = line.split(/\s+/);
    const device = basename(path);
    if (!/^zram\d+$/.test(device)) return [];
    const stat = statOf(device).trim().split(/\s+/).map(Number);
    return [{ device, sizeBytes: Number(kilobytes) * 1024, usedBytes: Number(used) * 1024, heldBytes: stat[2] ?? 0, heldBytesMax: stat[3] ?? 0 }];
  });
  return found.toSorted((a, b) => b.sizeBytes - b.usedBytes - (a.sizeBytes - a.usedBytes))[0] ?? null;
}

/** The swap on zram of this machine; null when there is none, also on a kernel without swap. */
export function readZramSwap(): ZramSwap | null {
  try {
    return parseZramSwap(readFileSync('/proc/swaps', 'utf8'), (device) => readFileSync(`/sys/block/${device}/mm_stat`, 'utf8'));
  } catch (failure) {
    if (codeOf(failure) === 'ENOENT') return null;
    throw failure;
  }
}

/**
 * How much memory of instances zram still takes, uncompressed. Where its own memory is bounded, half of what compression usually
 * gives is counted on: what does not compress is held as it is, and costs as much as it gave. `othersHeldBytes` is what others hold
 * of that bound.
 */
export function zramRoomBytes(swap: ZramSwap, othersHeldBytes = 0): number {
  const countedOn = 2;
  const slots = swap.sizeBytes - swap.usedBytes;
  return Math.max(0, swap.heldBytesMax === 0 ? slots : Math.min(slots, (swap.heldBytesMax - swap.heldBytes - othersHeldBytes) * countedOn));
}
