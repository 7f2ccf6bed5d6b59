import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CgroupPaths } from '../model/calls.ts';

/**
 * How often the kernel has killed a process of a cgroup for want of memory, and refused a fork: memory.oom_control (version 1, memory.rst) or
 * memory.events, and pids.events. Zero where it is not counted, or the cgroup is gone.
 */
export function readRefusals(cgroup: CgroupPaths): { memoryKills: number; forksRefused: number } {
  const memory = cgroup.version === 1 ? 'memory.oom_control' : 'memory.events';
  return { memoryKills: countIn(join(cgroup.memory, memory), 'oom_kill'), forksRefused: countIn(join(cgroup.pids, 'pids.events'), 'max') };
}

function countIn(path: string, name: string): number {
  try {
    return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(readFileSync(path, 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
