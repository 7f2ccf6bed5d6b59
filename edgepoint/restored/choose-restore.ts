import { bytesPerMebibyte, formatBytes } from '../../kit/units.ts';

/**
 * From this much memory on a restore is lazy. Measured (docs/MEASURED.md): a small app gains nothing, for its pages are asked for
 * one by one while it starts.
 */
export const lazyFromBytes = 64 * bytesPerMebibyte;

export interface RestoreFacts {
  /** What the snapshot holds of memory. */
  readonly memoryBytes: number;
  /** Whether this machine lets a process in a user namespace have its page faults answered (userfaultfd(2)). */
  readonly machineAllows: boolean;
  readonly lazyFromBytes: number;
}

/** Whether the memory is filled before the instance runs, or while it runs, and why. */
export interface RestoreChoice {
  readonly lazy: boolean;
  readonly reason: string;
}

export function chooseRestore({ memoryBytes, machineAllows, lazyFromBytes }: RestoreFacts): RestoreChoice {
  const size = `its memory is ${formatBytes(memoryBytes)}`;
  if (memoryBytes < lazyFromBytes) return { lazy: false, reason: `${size}, less than ${formatBytes(lazyFromBytes)}` };
  if (!machineAllows) return { lazy: false, reason: `${size}, but this machine lets no instance have its page faults answered (vm.unprivileged_userfaultfd)` };
  return { lazy: true, reason: `${size}, at least ${formatBytes(lazyFromBytes)}` };
}
