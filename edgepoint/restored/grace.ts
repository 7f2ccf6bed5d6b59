import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../kit/clock.ts';
import { nsPerMs } from '../../kit/units.ts';

const termBit = 1n << 14n;

/**
 * Whether the first process of an instance has a handler for SIGTERM. Without one it does not end of it, being the first of its pid
 * namespace (pid_namespaces(7)), and waiting for it would be in vain. SigCgt is a mask, bit 0 for signal 1 (proc(5)).
 */
export function heedsTerm(pid: number): boolean {
  try {
    const mask = /^SigCgt:\t([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0';
    return (BigInt(`0x${mask}`) & termBit) !== 0n;
  } catch {
    return false; // it has ended
  }
}

const lookMs = 5;
/**
 * A program that has given its handler up may still be closing its files or telling somebody outside; one that then does nothing for so
 * long is not. Only what it writes to a volume outlives it: then it is waited for longer.
 */
const quietMs = { withVolume: 500, without: 100 };

/**
 * Sends SIGTERM and waits until the instance has ended, or nothing speaks for its ending any more. Node has a handler of its own that
 * puts the default back and raises the signal again, which the first process of a pid namespace does not notice: it works on as if
 * nothing had happened, and would be waited for in vain each time it sleeps.
 */
export async function askToEnd(about: { pid: number; graceMs: number; hasVolume: boolean; ended: () => boolean; cpuNs: () => number; clock: Clock }): Promise<void> {
  const { pid, ended, cpuNs, clock } = about;
  process.kill(pid, 'SIGTERM');
  const quietNs = (about.hasVolume ? quietMs.withVolume : quietMs.without) * nsPerMs;
  const deadlineNs = clock.bootNs() + about.graceMs * nsPerMs;
  let worked = { cpuNs: -1, bootNs: 0 };
  while (!ended() && clock.bootNs() < deadlineNs) {
    await sleep(lookMs);
    if (heedsTerm(pid)) continue;
    const now = { cpuNs: cpuNs(), bootNs: clock.bootNs() };
    if (now.cpuNs !== worked.cpuNs) worked = now;
    else if (now.bootNs - worked.bootNs > quietNs) return;
  }
}
