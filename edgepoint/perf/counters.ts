import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../../kit/errors.ts';
import type { CgroupPaths, KernelCounters } from '../model/calls.ts';

const nsPerMicrosecond = 1000;

/** The number behind `name` in a file of `name number` lines (memory.stat, cpu.stat), or 0 when it is not there. */
export function fieldOf(text: string, name: string): number {
  const match = new RegExp(`^${name} (\\d+)$`, 'm').exec(text);
  return match ? Number(match[1]) : 0;
}

/** What is charged as memory: what the instance holds, without file pages the kernel would give back at once when asked. */
export function workingSet(usageBytes: number, inactiveFileBytes: number): number {
  return Math.max(0, usageBytes - inactiveFileBytes);
}

const read = (folder: string, file: string): string => readFileSync(join(folder, file), 'latin1');

/** cgroup v1: cpuacct.usage in nanoseconds (Documentation/admin-guide/cgroup-v1/cpuacct.rst), memory.* (…/memory.rst). */
function readVersion1(cgroup: CgroupPaths): KernelCounters {
  return {
    cpuNs: Number(read(cgroup.cpu, 'cpuacct.usage')),
    memoryBytes: workingSet(
      Number(read(cgroup.memory, 'memory.usage_in_bytes')),
      fieldOf(read(cgroup.memory, 'memory.stat'), 'total_inactive_file'),
    ),
  };
}

/** cgroup v2: cpu.stat counts microseconds (Documentation/admin-guide/cgroup-v2.rst). */
function readVersion2(cgroup: CgroupPaths): KernelCounters {
  return {
    cpuNs: fieldOf(read(cgroup.cpu, 'cpu.stat'), 'usage_usec') * nsPerMicrosecond,
    memoryBytes: workingSet(Number(read(cgroup.memory, 'memory.current')), fieldOf(read(cgroup.memory, 'memory.stat'), 'inactive_file')),
  };
}

/**
 * What the kernel counted for an instance so far; null when its cgroup is gone (it has just ended: its last counters come with the
 * news of its end). Any other failure to read is thrown.
 */
export function readCounters(cgroup: CgroupPaths): KernelCounters | null {
  try {
    return cgroup.version === 1 ? readVersion1(cgroup) : readVersion2(cgroup);
  } catch (failure) {
    // ENODEV: the cgroup was removed between opening its file and reading it.
    if (['ENOENT', 'ENODEV'].includes(codeOf(failure))) return null;
    throw failure;
  }
}
