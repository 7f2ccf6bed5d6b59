import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import type { Test } from 'tap';

export interface SlotCounters {
  readonly cpuNs: number;
  readonly memoryByteSeconds: number;
  /** A process of an instance was in it. */
  readonly used: boolean;
  readonly gone: boolean;
}

export interface KernelCounts {
  /** Of all instances since the reader began, exact. */
  readonly cpuNs: number;
  readonly slots: Readonly<Record<string, SlotCounters>>;
}

/** The reader of the kernel's counters as a process of its own. `finish` ends it and returns what was used. */
export async function readKernelCounters(t: Test, world: string): Promise<{ finish(): Promise<KernelCounts> }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'cgroup-reader.mjs'), world], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await lines.next();
  return {
    finish: async () => {
      child.stdin.end();
      return JSON.parse((await lines.next()).value as string) as KernelCounts;
    },
  };
}
