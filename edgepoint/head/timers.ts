import type { Clock } from '../../kit/clock.ts';
import { nsPerMs } from '../../kit/units.ts';

export const sleepMs = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Calls back once after so many milliseconds; the returned function forgets it. */
export function wakeIn(ms: number, callback: () => void): () => void {
  const timer = setTimeout(callback, ms);
  return () => clearTimeout(timer);
}

/** The same at or after that boot time. */
export function wakeAt(clock: Clock, bootNs: number, callback: () => void): () => void {
  const delayMsMax = 2 ** 31 - 1;
  return wakeIn(Math.min(delayMsMax, Math.max(0, Math.ceil((bootNs - clock.bootNs()) / nsPerMs))), callback);
}
