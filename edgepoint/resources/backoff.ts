import { nsPerMs } from '../../kit/units.ts';
import type { Backoff } from './state.ts';

const firstDelayMs = 250;
const delayMsMax = 60_000;
/** An instance that served longer than this before it ended did not fail to start. */
export const steadyMs = 10_000;

/** The pause after one more failure in a row: none after the first crash of a started one, then doubling. */
export function nextBackoff(previous: Backoff | null, about: { nowBootNs: number; reason: string; free: boolean }): Backoff {
  const failures = (previous?.failures ?? 0) + 1;
  const doublings = about.free ? failures - 2 : failures - 1;
  const delayMs = doublings < 0 ? 0 : Math.min(delayMsMax, firstDelayMs * 2 ** Math.min(20, doublings));
  return { failures, untilBootNs: about.nowBootNs + delayMs * nsPerMs, reason: about.reason };
}
