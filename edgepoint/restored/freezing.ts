import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../kit/clock.ts';
import { Failure } from '../../kit/errors.ts';
import { nsPerMs } from '../../kit/units.ts';
import { type InstanceCgroup, isFrozen, readCounters, runs, setFrozen } from '../box/cgroup.ts';
import type { FreezeTaken } from '../model/calls.ts';
import { pagerFromBytes } from '../model/frozen.ts';
import { isTooEarly, learnAfterMs, learnAgainAfterMs, learnHot, lookMs, rangeBytes, waitMs } from './hot-ranges.ts';
import type { PagerAtWork } from './pager.ts';
import type { Pagers } from './pagers.ts';

/** What can be frozen. */
export interface Freezable {
  readonly instance: string;
  readonly cgroup: InstanceCgroup;
  /** Of its first process. */
  readonly pid: number;
  /** A file of ours that lives as long as the instance, in which it is kept what of its memory a thaw needs. */
  readonly hotPath: string;
}

/** Freezes and thaws what lives in a slot's cgroups; one of both at a time for each, and a thaw need not wait for a freeze's end. */
export interface Freezing {
  freeze(one: Freezable): Promise<FreezeTaken>;
  thaw(one: Freezable): Promise<{ tookMs: number }>;
  /** From the moment a freeze is ordered until it is thawed. */
  frozen(cgroup: InstanceCgroup): boolean;
}

/** A process that is in the middle of a system call that cannot be broken off stands still only after it. */
const stopTimeoutMs = 2000;
/** Freezing mostly takes less than a millisecond; then the freezer is asked ever less often. */
const askAgainMs = [0, 0, 1, 2, 5];

/** Of one whose memory a pager holds already. */
const pagerAgainFromBytes = 2 * 2 ** 20;

interface UnderWay {
  readonly done: Promise<FreezeTaken>;
  readonly cut: AbortController;
}

export interface FreezingOptions {
  /** It pages out. */
  readonly boxProgram: string;
  readonly clock: Clock;
  /** Whether there is anything to page out to that gives memory back. */
  readonly swaps: () => boolean;
  readonly pagers: Pick<Pagers, 'take' | 'holds' | 'isLost'>;
}

export function openFreezing(options: FreezingOptions): Freezing {
  const { clock } = options;
  const underWay = new Map<string, UnderWay>();
  const learning = new Map<string, ReturnType<typeof setTimeout>>();

  async function stopAll(cgroup: InstanceCgroup): Promise<void> {
    setFrozen(cgroup, true);
    const deadlineNs = clock.bootNs() + stopTimeoutMs * nsPerMs;
    for (let asked = 0; !isFrozen(cgroup); asked += 1) {
      if (clock.bootNs() > deadlineNs) throw new Failure('cannot-freeze', `it did not stand still within ${stopTimeoutMs} ms`);
      await sleep(askAgainMs[Math.min(asked, askAgainMs.length - 1)]);
    }
  }

  async function pageOut(cgroup: InstanceCgroup, hotPath: string, cut: AbortSignal): Promise<void> {
    if (cut.aborted || !options.swaps()) return;
    const child = Bun.spawn([options.boxProgram, 'page-out', cgroup.memory, ...(existsSync(hotPath) ? [hotPath] : [])], { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' });
    const kill = (): void => child.kill('SIGKILL');
    cut.addEventListener('abort', kill);
    const [status, why] = await Promise.all([child.exited, new Response(child.stderr).text()]);
    cut.removeEventListener('abort', kill);
    if (status !== 0 && !cut.aborted) throw new Failure('cannot-page-out', why.trim() || `edgepoint-box page-out ended with ${child.signalCode ?? status}`);
  }

  /** Until the next freeze. */
  function learnLater(one: Freezable, ms: number, learn: () => Promise<void>): void {
    const look = (): void => {
      learning.delete(one.cgroup.freezer);
      /* It may have ended meanwhile, and its folder with it. Without it the next thaw is slower, that is all. */
      void learn().catch(() => undefined);
    };
    learning.set(one.cgroup.freezer, setTimeout(look, ms));
  }

  /** `thawedBytes`: what it had in memory at its thaw. */
  async function learnFirst(one: Freezable, thawedBytes: number, waits: number): Promise<void> {
    const grownBytes = readCounters(one.cgroup).memoryBytes - thawedBytes;
    if (isTooEarly({ grownBytes, runs: runs(one.cgroup), waits })) return learnLater(one, waitMs, () => learnFirst(one, thawedBytes, waits + 1));
    const learntBytes = await learn(one, null);
    if (learntBytes !== null) learnLater(one, learnAgainAfterMs, async () => void (await learn(one, learntBytes)));
  }

  /** `learntBytes`: what an earlier look has found. Returns what stays, null when nothing was learnt. */
  async function learn({ cgroup, hotPath }: Freezable, learntBytes: number | null): Promise<number | null> {
    const { memoryBytes } = readCounters(cgroup);
    const child = Bun.spawn([options.boxProgram, 'resident', cgroup.memory], { stdin: 'ignore', stdout: 'pipe', stderr: 'ignore' });
    const [status, ranges] = await Promise.all([child.exited, new Response(child.stdout).text(), sleep(lookMs)]);
    if (status !== 0 || underWay.has(cgroup.freezer)) return null;
    const grownBytes = readCounters(cgroup).memoryBytes - memoryBytes;
    const learnt = learnHot({ ranges, memoryBytes, grownBytes, learntBytes });
    if (learnt === 'is-too-much') rmSync(hotPath, { force: true });
    if (learnt !== 'stays') return null;
    writeFileSync(`${hotPath}.new`, ranges, { mode: 0o600 });
    renameSync(`${hotPath}.new`, hotPath);
    return rangeBytes(ranges);
  }

  /** Before the freezer stops it, because what stands still in the freezer can make no system calls for the pager. */
  async function takeByPager(one: Freezable, memoryBytes: number, cut: AbortSignal): Promise<PagerAtWork | null> {
    if (cut.aborted || memoryBytes < (options.pagers.holds(one.instance) ? pagerAgainFromBytes : pagerFromBytes) || isFrozen(one.cgroup, true)) return null;
    return options.pagers.take({ ...one, memoryCgroup: one.cgroup.memory }, cut);
  }

  async function freezeNow(one: Freezable, cut: AbortSignal): Promise<FreezeTaken> {
    const { cgroup, hotPath } = one;
    const begunNs = clock.bootNs();
    const { memoryBytes } = readCounters(cgroup);
    try {
      const pager = await takeByPager(one, memoryBytes, cut);
      try {
        if (!cut.aborted) await stopAll(cgroup);
      } finally {
        await pager?.letGo();
      }
      const stoppedNs = pager?.stoppedNs ?? clock.bootNs();
      await pageOut(cgroup, hotPath, cut);
      return {
        memoryBytes,
        givenBackBytes: Math.max(0, memoryBytes - readCounters(cgroup).memoryBytes),
        stoppedMs: (stoppedNs - begunNs) / nsPerMs,
        tookMs: (clock.bootNs() - begunNs) / nsPerMs,
      };
    } catch (error) {
      /* One whose memory is lost is killed before it is thawed: pagers.ts. */
      if (isFrozen(cgroup, true) && !options.pagers.isLost(one.instance)) setFrozen(cgroup, false);
      throw error;
    }
  }

  return {
    freeze(one): Promise<FreezeTaken> {
      const { cgroup } = one;
      const first = underWay.get(cgroup.freezer);
      if (first) return first.done;
      clearTimeout(learning.get(cgroup.freezer));
      const cut = new AbortController();
      const done = freezeNow(one, cut.signal).finally(() => underWay.delete(cgroup.freezer));
      underWay.set(cgroup.freezer, { done, cut });
      return done;
    },

    async thaw(one): Promise<{ tookMs: number }> {
      const { instance, cgroup } = one;
      const begunNs = clock.bootNs();
      const freeze = underWay.get(cgroup.freezer);
      if (freeze) {
        freeze.cut.abort();
        await freeze.done.catch(() => undefined); // its failure was told to who ordered it
      }
      if (options.pagers.isLost(instance)) throw new Failure('no-such-instance', `${instance} is being ended: its pager was killed`);
      if (isFrozen(cgroup, true)) {
        setFrozen(cgroup, false);
        const { memoryBytes } = readCounters(cgroup);
        if (!freeze) learnLater(one, learnAfterMs, () => learnFirst(one, memoryBytes, 0));
      }
      return { tookMs: (clock.bootNs() - begunNs) / nsPerMs };
    },

    frozen: (cgroup) => underWay.has(cgroup.freezer) || isFrozen(cgroup, true),
  };
}
