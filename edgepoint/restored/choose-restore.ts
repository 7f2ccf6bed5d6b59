import { bytesPerMebibyte, formatBytes } from '../../kit/units.ts';

/**
 * From this much memory on a restore is lazy. Measured (decision 109): 15 MiB gain nothing, and of apps with less than this, those
 * that need much of their memory for the first answer lose.
 */
export const lazyFromBytes = 128 * bytesPerMebibyte;

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
