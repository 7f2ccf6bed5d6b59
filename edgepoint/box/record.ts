import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BoxOrder, RunningInstance } from '../model/calls.ts';
import { boxPlaces, recordPath } from './folders.ts';

/**
 * The journal of instances, one file each, written before anything of the instance is made and removed after everything of it
 * is gone: whoever comes after a kill -9 knows from it what to adopt and what to take away.
 *
 *   making -> running
 */
export interface InstanceRecord {
  readonly state: 'making' | 'running';
  readonly order: BoxOrder;
  /** The slot it lives in: the name of its network namespace and cgroups. */
  readonly slot: string;
  readonly address: string;
  /** Names the base root below it. */
  readonly baseRoot?: string;
  /** The unpacked snapshot whose disk is a layer below its own: it must stay while this lives. */
  readonly layer?: string;
  /** While running: what restored tells about it, and when its first process began (field 22 of /proc/PID/stat, in clock ticks). */
  readonly running: RunningInstance | null;
  readonly startTicks: number;
}

export function writeRecord(runFolder: string, record: InstanceRecord): void {
  const path = recordPath(runFolder, record.order.instance);
  mkdirSync(boxPlaces(runFolder).instances, { recursive: true });
  writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Null when there is no such record. */
export function readRecord(runFolder: string, instance: string): InstanceRecord | null {
  try {
    return JSON.parse(readFileSync(recordPath(runFolder, instance), 'utf8')) as InstanceRecord;
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return null;
    throw error;
  }
}

export function removeRecord(runFolder: string, instance: string): void {
  rmSync(recordPath(runFolder, instance), { force: true });
}

export function allRecords(runFolder: string): InstanceRecord[] {
  const folder = boxPlaces(runFolder).instances;
  mkdirSync(folder, { recursive: true });
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as InstanceRecord);
}

/** Start time of a process in clock ticks since boot, or 0 when it is gone or only waits to be reaped: with the pid it names one process for ever (proc(5)). */
export function processStartTicks(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? 0 : Number(fields[19]);
  } catch {
    return 0; // no such process
  }
}
