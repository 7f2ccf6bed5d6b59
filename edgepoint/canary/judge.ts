import type { AnswerCounts } from '../model/calls.ts';

/** What both releases answered in the same time. */
export interface Compared {
  readonly canary: AnswerCounts;
  readonly serving: AnswerCounts;
}

export interface Verdict {
  readonly stop: boolean;
  /** A sentence that goes on from "the canary is (not) stopped: ". */
  readonly reason: string;
}

export const rules = {
  /** Before so many answers, and so many of them failed, nothing is said. */
  answersMin: 20,
  failedMin: 5,
  /** A smaller part of failures than this is never held against it. */
  failedShareMin: 0.05,
  /** By so many standard deviations its share must lie above that of the release that serves. */
  deviationsMin: 3,
} as const;

/**
 * Whether a canary fails so much more often than the release that serves that it is to get no request any more. What fails for both (a
 * database that is away) is not its fault. The comparison is the two-proportion z-test with pooled variance; while the release that serves
 * has answered nothing there is nothing to compare with, and its share counts as 0. `other`: what `serving` is called in the reason.
 */
export function judgeCanary({ canary, serving }: Compared, other: 'the release that serves' | 'the release before' = 'the release that serves'): Verdict {
  const said = `${countText(canary)} failed; of ${other}, ${countText(serving)}`;
  const go = (why: string): Verdict => ({ stop: false, reason: `${why}: ${said}` });
  if (canary.answered < rules.answersMin || canary.failed < rules.failedMin) return go('too few to judge by');
  if (shareOf(canary) < rules.failedShareMin) return go(`less than ${rules.failedShareMin * 100} % failed`);
  if (serving.answered > 0 && deviations(canary, serving) < rules.deviationsMin) return go('it is not clearly worse');
  return { stop: true, reason: said };
}

const shareOf = ({ answered, failed }: AnswerCounts): number => (answered === 0 ? 0 : failed / answered);

/** How far the canary's share of failures lies above the other's, in standard deviations of that difference if both were alike. */
function deviations(canary: AnswerCounts, serving: AnswerCounts): number {
  const pooled = (canary.failed + serving.failed) / (canary.answered + serving.answered);
  const deviation = Math.sqrt(pooled * (1 - pooled) * (1 / canary.answered + 1 / serving.answered));
  return deviation === 0 ? 0 : (shareOf(canary) - shareOf(serving)) / deviation;
}

const countText = (counts: AnswerCounts): string => `${counts.failed} of ${counts.answered} (${(shareOf(counts) * 100).toFixed(1)} %)`;
