import { nsPerSecond } from '../../kit/units.ts';

/** An instance's own failures, as long as others of its app are there to compare with. Times are of the boot clock. */
export interface Outlier {
  /** Answers 500 and above, and attempts that ended without one, since the last better answer. */
  readonly failedInRow: number;
  /** Until then it is the last to be chosen; 0 when it never was one. */
  readonly untilBootNs: number;
  /** How often it has been put behind the others since it last answered well for as long as that took. */
  readonly times: number;
}

export const notAnOutlier: Outlier = { failedInRow: 0, untilBootNs: 0, times: 0 };

export const outlierRules = {
  failedInRow: 5,
  firstNs: 10 * nsPerSecond,
  mostNs: 300 * nsPerSecond,
} as const;

/**
 * What an answer (null: there was none) says of the instance that should have given it: five failures in a row, and it goes behind the
 * others for 10 s, each time for 10 s more. `others`: instances of its app that take requests besides, and how many of these are outliers
 * now: of all together never more than half are put behind, for what most of them do is the app's way and no instance's fault.
 */
export function noteAnswer(known: Outlier, status: number | null, others: { readonly able: number; readonly outliers: number }, nowBootNs: number): Outlier {
  if (status !== null && status < 500) return known.failedInRow === 0 && known.times === 0 ? known : forgive(known, nowBootNs);
  const failedInRow = known.failedInRow + 1;
  const most = Math.floor((others.able + 1) / 2);
  if (failedInRow < outlierRules.failedInRow || nowBootNs < known.untilBootNs || others.outliers + 1 > most) return { ...known, failedInRow };
  const times = known.times + 1;
  return { failedInRow: 0, times, untilBootNs: nowBootNs + Math.min(outlierRules.firstNs * times, outlierRules.mostNs) };
}

/** A good answer long after its last time ended lets that be forgotten. */
function forgive(known: Outlier, nowBootNs: number): Outlier {
  const longSince = nowBootNs >= known.untilBootNs + Math.min(outlierRules.firstNs * known.times, outlierRules.mostNs);
  return longSince ? notAnOutlier : { ...known, failedInRow: 0 };
}
