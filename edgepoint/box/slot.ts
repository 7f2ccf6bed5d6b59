import { existsSync, readdirSync } from 'node:fs';
import { dirname, basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertInvariant } from '../../kit/errors.ts';
import type { KernelCounters } from '../model/calls.ts';
import type { Offering } from '../model/offering.ts';
import { cgroupFolders, cgroupOf, cgroupProcesses, type InstanceCgroup, isFrozen, limitCgroup, makeCgroup, readCounters, removeCgroup, setFrozen } from './cgroup.ts';
import { linkOf, makeNetns, netnsNames, netnsPath, removeNetns } from './network.ts';

/**
 * A slot is what an instance needs and what is slow to make, made beforehand: a network namespace, its cgroups, and an
 * edgepoint-box that already stands in both, with CRIU started, and waits for its order. It serves one instance and is then removed.
 */
export interface Slot {
  readonly name: string;
  readonly cgroup: InstanceCgroup;
  /** Sets the limits, hands the order over and waits for the answer: stdout, or a throw with stderr. */
  run(offering: Offering, order: readonly string[], timeoutMs: number): Promise<{ ok: boolean; out: string; err: string }>;
}

export interface SlotPool {
  /** One that is nobody's; waits for the making of one when none is ready. */
  take(): Promise<Slot>;
  close(): void;
}

export interface SlotPlace {
  readonly world: string;
  readonly edgepoint: string;
  readonly boxProgram: string;
  /** The CRIU program. */
  readonly criu: string;
  readonly cgroupVersion: 1 | 2;
}

const removeTimeoutMs = 10_000;

export function slotCgroup(place: SlotPlace, name: string): InstanceCgroup {
  return cgroupOf(place.cgroupVersion, place.world, place.edgepoint, name);
}

/** Ends every process of the slot and takes its cgroups and namespace away; the last counters. Repeatable. */
export async function removeSlot(place: SlotPlace, name: string, onKill: () => void = () => undefined): Promise<KernelCounters> {
  const cgroup = slotCgroup(place, name);
  const deadline = performance.now() + removeTimeoutMs;
  for (let pids = cgroupProcesses(cgroup); pids.length > 0; pids = cgroupProcesses(cgroup)) {
    for (const pid of pids) killIfThere(pid);
    /* Killed first, so that nothing of it runs again: a frozen process of version 1 dies only when it thaws. */
    if (isFrozen(cgroup, true)) setFrozen(cgroup, false);
    onKill();
    if (performance.now() > deadline) throw new Error(`processes of ${name} do not end: ${pids.join(' ')}`);
    await sleep(1);
  }
  const counters = readCounters(cgroup);
  await removeNetns(name);
  while (!removeCgroup(cgroup)) {
    for (const pid of cgroupProcesses(cgroup)) killIfThere(pid); // an edgepoint-box may have entered only now
    onKill();
    if (performance.now() > deadline) throw new Error(`the cgroup of ${name} stays busy`);
    await sleep(1);
  }
  return counters;
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as { code?: string }).code !== 'ESRCH') throw error; // it had ended already
  }
}

/** Opens the pool: removes the slots an earlier process left that no record names, and makes `size` new ones. */
export async function openSlotPool(place: SlotPlace, options: { size: number; inUse: ReadonlySet<string> }): Promise<SlotPool> {
  const { world, edgepoint } = place;
  const prefix = `${world}-${edgepoint}-`;
  const parent = dirname(slotCgroup(place, 'any').cpu);
  const left = new Set([...(existsSync(parent) ? readdirSync(parent) : []), ...netnsNames()].filter((name) => name.startsWith(prefix)));
  let nextNumber = Math.max(0, ...[...left].map((name) => Number(basename(name).slice(prefix.length)) || 0)) + 1;
  for (const name of left) if (!options.inUse.has(name)) await removeSlot(place, name);

  const ready: Slot[] = [];
  let making: Promise<void> | null = null;
  let closed = false;

  async function make(count: number): Promise<void> {
    const numbers = Array.from({ length: count }, () => nextNumber++);
    await makeNetns(numbers.map((number) => ({ name: `${prefix}${number}`, link: linkOf(`${prefix}${number}`) })));
    for (const number of numbers) ready.push(openSlot(place, `${prefix}${number}`));
  }

  function refill(): Promise<void> {
    // Several takes may have asked for it.
    if (ready.length >= options.size) return Promise.resolve();
    making ??= make(options.size - ready.length).finally(() => {
      making = null;
    });
    return making;
  }
  await refill();

  return {
    async take(): Promise<Slot> {
      while (ready.length === 0) await refill();
      const slot = ready.shift() as Slot;
      /* A failure is met again, and told, by the next take that finds none. */
      if (!closed && ready.length <= options.size / 2) setTimeout(() => void refill().catch(() => undefined), refillDelayMs);
      return slot;
    },
    close(): void {
      closed = true;
    },
  };
}

/** After the wake that emptied it: making slots must not slow the wake down. */
const refillDelayMs = 100;

function openSlot(place: SlotPlace, name: string): Slot {
  const cgroup = slotCgroup(place, name);
  makeCgroup(cgroup);
  const argv = [place.boxProgram, 'slot', '--netns', netnsPath(name), '--criu', place.criu, '--link', linkOf(name), ...cgroupFolders(cgroup).flatMap((folder) => ['--cgroup', folder])];
  const child = Bun.spawn(argv, { stdin: 'pipe', stdout: 'pipe', stderr: 'pipe' });
  return {
    name,
    cgroup,
    async run(offering, order, timeoutMs) {
      assertInvariant(!order.some((word) => word.includes('\0')), 'no word of an order has a NUL, which would end it and begin another');
      limitCgroup(cgroup, offering);
      const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
      try {
        void child.stdin.write(order.map((word) => `${word}\0`).join(''));
        void child.stdin.end();
        const [status, out, err] = await Promise.all([child.exited, new Response(child.stdout).text(), new Response(child.stderr).text()]);
        return { ok: status === 0, out, err: err.trim() || (status === 0 ? '' : `ended with ${child.signalCode ?? `status ${status}`}`) };
      } finally {
        clearTimeout(timer);
      }
    },
  };
}
