import { readFileSync } from 'node:fs';
import { codeOf } from '../../kit/errors.ts';
import { nsPerSecond } from '../../kit/units.ts';
import { lookMs } from '../model/background.ts';
import type { KernelCounters, RunningInstance } from '../model/calls.ts';

/** Totals of an instance at one moment. */
export interface WorkSample {
  readonly bootNs: number;
  readonly cpuNs: number;
  /** Through its network interface, both ways; null where nobody can read it. */
  readonly bytes: number | null;
}

/**
 * Programs that wait use less of a processor (timers, the health of a pool, a virtual machine that looks after itself), and one that computes
 * gets so much also on a busy machine.
 */
const cpuShareLeast = 0.02;
/** Keepalives and pings of connections that rest are fewer. */
const bytesASecondLeast = 8192;

/** Pure: what the instance did between two samples beside waiting, as the end of "it ..."; empty when it waited. */
export function workBetween(before: WorkSample, now: WorkSample): string {
  const ns = now.bootNs - before.bootNs;
  if (ns <= 0) return '';
  if ((now.cpuNs - before.cpuNs) / ns >= cpuShareLeast) return 'goes on computing';
  const moved = now.bytes === null || before.bytes === null ? 0 : now.bytes - before.bytes;
  return (moved / ns) * nsPerSecond >= bytesASecondLeast ? 'goes on sending or receiving' : '';
}

/**
 * Bytes of all interfaces but `lo`, received and sent, of /proc/net/dev (proc_pid_net(5)): after the name, eight numbers of what was
 * received, the first of them bytes, and eight of what was sent.
 */
export function interfaceBytes(text: string): number {
  let bytes = 0;
  for (const line of text.split('\n')) {
    const [name = '', numbers] = line.split(':');
    if (numbers === undefined || name.trim() === 'lo') continue;
    const fields = numbers.trim().split(/\s+/).map(Number);
    bytes += (fields[0] ?? 0) + (fields[8] ?? 0);
  }
  return bytes;
}

/** Null when the process has ended. */
export function readInterfaceBytes(pid: number): number | null {
  try {
    return interfaceBytes(readFileSync(`/proc/${pid}/net/dev`, 'latin1'));
  } catch (failure) {
    if (['ENOENT', 'ESRCH', 'EINVAL', 'EACCES'].includes(codeOf(failure))) return null;
    throw failure;
  }
}

export interface BackgroundWorkPorts {
  bootNs(): number;
  readCounters(cgroup: RunningInstance['cgroup']): KernelCounters | null;
  /** Of the network that the process lives in. */
  readBytes(pid: number): number | null;
  /** Calls back until the returned function is called. */
  every(ms: number, callback: () => void): () => void;
  /** Told at each sample. `what`: as `workBetween` says. */
  works(instance: string, what: string): void;
  onFault(failure: unknown): void;
}

/** Looks four times a second whether instances go on working that nobody asks anything. With none to follow it has no timer. */
export class BackgroundWork {
  private readonly followed = new Map<string, { readonly running: RunningInstance; last: WorkSample | null }>();
  private readonly ports: BackgroundWorkPorts;
  private stopTimer: (() => void) | null = null;

  constructor(ports: BackgroundWorkPorts) {
    this.ports = ports;
  }

  follow(running: RunningInstance): void {
    this.followed.set(running.instance, { running, last: null });
    this.stopTimer ??= this.ports.every(lookMs, () => this.look());
  }

  forget(instance: string): void {
    if (this.followed.delete(instance) && this.followed.size === 0) this.stop();
  }

  stop(): void {
    this.stopTimer?.();
    this.stopTimer = null;
  }

  private look(): void {
    for (const [instance, about] of this.followed) {
      try {
        const counters = this.ports.readCounters(about.running.cgroup);
        if (counters === null) continue;
        const now = { bootNs: this.ports.bootNs(), cpuNs: counters.cpuNs, bytes: this.ports.readBytes(about.running.pid) };
        if (about.last !== null) this.ports.works(instance, workBetween(about.last, now));
        about.last = now;
      } catch (failure) {
        this.ports.onFault(failure);
      }
    }
  }
}
