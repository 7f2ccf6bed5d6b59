import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../../kit/errors.ts';
import type { CgroupPaths, KernelCounters } from '../model/calls.ts';
import type { Offering } from '../model/offering.ts';

/** Version 1 keeps a tree for each controller, and the one with the limit need not be the one with the counter. `io` is empty where the kernel limits no disks. */
export type InstanceCgroup = CgroupPaths & { readonly cpuLimit: string; readonly io: string };

/** All its folders, without repetition. */
export function cgroupFolders(cgroup: InstanceCgroup): string[] {
  return [...new Set([cgroup.cpu, cgroup.cpuLimit, cgroup.memory, cgroup.pids, cgroup.freezer, cgroup.io])].filter((folder) => folder !== '');
}

const mountPoint = '/sys/fs/cgroup';
const cpuPeriodUs = 100_000;

/** Which version this machine's controllers belong to: version 2 when its root lists `memory` among its controllers. */
export function cgroupVersion(): 1 | 2 {
  const controllers = join(mountPoint, 'cgroup.controllers');
  return existsSync(controllers) && readFileSync(controllers, 'utf8').split(/\s+/).includes('memory') ? 2 : 1;
}

/** The folders of one instance; `world` is part of the name so that nothing of another world can be meant. */
export function cgroupOf(version: 1 | 2, world: string, edgepoint: string, instance: string): InstanceCgroup {
  const tail = join(`edgepoint-${world}`, edgepoint, instance);
  if (version === 2) {
    const folder = join(mountPoint, tail);
    return { version, cpu: folder, cpuLimit: folder, memory: folder, pids: folder, freezer: folder, io: folder };
  }
  const of = (controller: string): string => join(mountPoint, controller, tail);
  return { version, cpu: of('cpuacct'), cpuLimit: of('cpu'), memory: of('memory'), pids: of('pids'), freezer: of('freezer'), io: existsSync(join(mountPoint, 'blkio')) ? of('blkio') : '' };
}

function parentFolders(cgroup: InstanceCgroup): string[] {
  return [...new Set(cgroupFolders(cgroup).map((folder) => join(folder, '..')))];
}

/** Makes the folders above all instances; version 2 also hands the controllers down. Idempotent. */
export function prepareCgroupParents(cgroup: InstanceCgroup): void {
  for (const parent of parentFolders(cgroup)) {
    mkdirSync(parent, { recursive: true });
    if (cgroup.version === 2) {
      for (const folder of [mountPoint, join(parent, '..'), parent]) writeFileSync(join(folder, 'cgroup.subtree_control'), '+cpu +memory +pids +io');
    }
  }
}

/** Makes the cgroup, without limits. */
export function makeCgroup(cgroup: InstanceCgroup): void {
  for (const folder of cgroupFolders(cgroup)) mkdirSync(folder, { recursive: true });
}

/** Sets the limits of the offering. */
export function limitCgroup(cgroup: InstanceCgroup, offering: Offering): void {
  const quotaUs = Math.round((offering.cpuMillis / 1000) * cpuPeriodUs);
  if (cgroup.version === 2) {
    writeFileSync(join(cgroup.cpu, 'cpu.max'), `${quotaUs} ${cpuPeriodUs}`);
    writeFileSync(join(cgroup.memory, 'memory.max'), `${offering.memoryBytes}`);
    allowSwap(cgroup, false);
  } else {
    writeFileSync(join(cgroup.cpuLimit, 'cpu.cfs_period_us'), `${cpuPeriodUs}`);
    writeFileSync(join(cgroup.cpuLimit, 'cpu.cfs_quota_us'), `${quotaUs}`);
    writeFileSync(join(cgroup.memory, 'memory.limit_in_bytes'), `${offering.memoryBytes}`);
    /* Memory and swap together: swap is for what is frozen, not for more than was promised. Absent where the kernel has no swap accounting. */
    const both = join(cgroup.memory, 'memory.memsw.limit_in_bytes');
    if (existsSync(both)) writeFileSync(both, `${offering.memoryBytes}`);
  }
  writeFileSync(join(cgroup.pids, 'pids.max'), `${offering.pidsMax}`);
}

/** Version 2 limits swap by itself: an instance has none but while it is frozen. Version 1 limits the sum, and needs nothing. */
function allowSwap(cgroup: CgroupPaths, allowed: boolean): void {
  const file = join(cgroup.memory, 'memory.swap.max');
  if (cgroup.version === 2 && existsSync(file)) writeFileSync(file, allowed ? 'max' : '0');
}

/**
 * Asks the freezer to stop every process of the cgroup, or to let it run (freezer-subsystem.rst of version 1, cgroup-v2.rst). Stopping
 * takes a moment: `isFrozen` says when. Idempotent; throws when there is no such cgroup.
 */
export function setFrozen(cgroup: CgroupPaths, frozen: boolean): void {
  allowSwap(cgroup, frozen);
  if (cgroup.version === 2) writeFileSync(join(cgroup.freezer, 'cgroup.freeze'), frozen ? '1' : '0');
  else writeFileSync(join(cgroup.freezer, 'freezer.state'), frozen ? 'FROZEN' : 'THAWED');
}

/** `asked`: whether it was asked to stop; otherwise whether all of it has stopped. False when the cgroup is gone. */
export function isFrozen(cgroup: CgroupPaths, asked = false): boolean {
  try {
    if (cgroup.version === 2) {
      return asked ? readFileSync(join(cgroup.freezer, 'cgroup.freeze'), 'utf8').startsWith('1') : /^frozen 1$/m.test(readFileSync(join(cgroup.freezer, 'cgroup.events'), 'utf8'));
    }
    const state = readFileSync(join(cgroup.freezer, 'freezer.state'), 'utf8').trim();
    return state === 'FROZEN' || (asked && state === 'FREEZING');
  } catch {
    return false; // it is gone
  }
}

/**
 * The folders of a session, a command that its provider runs in the instance: those of the instance, but for one below its freezer, by which
 * all that the session has started is known. Nothing inside an instance can leave a cgroup.
 */
export function sessionCgroup(cgroup: InstanceCgroup, session: string): { readonly folders: readonly string[]; readonly own: string } {
  const own = join(cgroup.freezer, session);
  return { folders: [...cgroupFolders(cgroup).filter((folder) => folder !== cgroup.freezer), own], own };
}

const sessionPrefix = 'session-';

/** Of every session that has not been cleared away. Empty when the cgroup is gone. */
export function sessionFolders(cgroup: InstanceCgroup): string[] {
  try {
    return readdirSync(cgroup.freezer).filter((name) => name.startsWith(sessionPrefix)).map((name) => join(cgroup.freezer, name));
  } catch {
    return [];
  }
}

export function processesIn(folder: string): number[] {
  try {
    return readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  } catch {
    return []; // a cgroup that is gone holds no process
  }
}

/** Processes in any of its folders: one that is just entering them is not in all yet. Empty when it is not there. */
export function cgroupProcesses(cgroup: InstanceCgroup): number[] {
  return [...new Set([...cgroupFolders(cgroup), ...sessionFolders(cgroup)].flatMap(processesIn))];
}

/** Whether a thread of the cgroup runs, or waits for the processor or for memory: R and D of proc_pid_stat(5). */
export function runs(cgroup: InstanceCgroup): boolean {
  const threads = readFileSync(join(cgroup.freezer, cgroup.version === 2 ? 'cgroup.threads' : 'tasks'), 'utf8').split('\n').filter(Boolean);
  return threads.some((thread) => {
    try {
      return /\) [RD] /.test(readFileSync(`/proc/${thread}/stat`, 'utf8'));
    } catch {
      return false; // it has ended meanwhile
    }
  });
}

/**
 * Lets everything of an edgepoint's other instances go before this one, or takes that back: `cpu.idle` (cgroup-v2.rst; version 1 has the same file),
 * which whoever wakes interrupts at once. Idempotent. False where the kernel has none (before 5.15) or the cgroup is gone.
 */
export function setBehindOthers(cgroup: Pick<InstanceCgroup, 'cpuLimit'>, behind: boolean): boolean {
  try {
    const file = join(cgroup.cpuLimit, 'cpu.idle');
    if (!existsSync(file)) return false;
    writeFileSync(file, behind ? '1' : '0');
    return true;
  } catch (error) {
    if (['ENOENT', 'ENODEV'].includes(codeOf(error))) return false;
    throw error;
  }
}

function readOrZero(folder: string, file: string): string {
  try {
    return readFileSync(join(folder, file), 'utf8');
  } catch {
    return '0'; // gone: nothing more was used
  }
}

/** Processor time it has used, in nanoseconds; 0 when the cgroup is gone. */
export function readCpuNs(cgroup: Pick<CgroupPaths, 'version' | 'cpu'>): number {
  if (cgroup.version === 1) return Number(readOrZero(cgroup.cpu, 'cpuacct.usage'));
  return Number(/usage_usec (\d+)/.exec(readOrZero(cgroup.cpu, 'cpu.stat'))?.[1] ?? 0) * 1000;
}

/** What the kernel has counted; zeros when the cgroup is gone. */
export function readCounters(cgroup: InstanceCgroup): KernelCounters {
  return { cpuNs: readCpuNs(cgroup), memoryBytes: Number(readOrZero(cgroup.memory, cgroup.version === 2 ? 'memory.current' : 'memory.usage_in_bytes')) };
}

/** Removes the folders; true when all are gone (a dying process keeps one busy for a moment). */
export function removeCgroup(cgroup: InstanceCgroup): boolean {
  let gone = true;
  for (const folder of [...sessionFolders(cgroup), ...cgroupFolders(cgroup)]) {
    try {
      if (existsSync(folder)) rmdirSync(folder);
    } catch {
      gone = false; // EBUSY: the caller tries again
    }
  }
  return gone;
}
