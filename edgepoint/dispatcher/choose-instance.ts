import { shareOfAge } from './slow-start.ts';

/** What the choice needs to know of one instance. Times are of the boot clock. */
export interface Candidate {
  readonly instance: string;
  readonly outstanding: number;
  /** '' or why it takes no exchange now. */
  readonly unavailable: '' | 'draining' | 'suspect';
  /** Since when it takes requests. */
  readonly sinceBootNs: number;
  /** Until then it is chosen only when no other can take the request (`outlier.ts`). */
  readonly outlierUntilBootNs: number;
}

export interface ChoiceTerms<C extends Candidate> {
  readonly concurrency: number;
  /** How long the share of an instance that has just come rises; 0: it has its whole share at once. */
  readonly slowStartNs: number;
  readonly nowBootNs: number;
  /** The client returns to it. */
  readonly wanted: ((candidate: C) => boolean) | null;
}

export type Choice<C extends Candidate> =
  | { readonly chosen: C; readonly reason: string }
  | { readonly chosen: null; readonly reason: string };

/**
 * Least outstanding below the concurrency limit, in proportion to the share that an instance of its age may have; among equals the first, so
 * that a light load stays on few instances and the others can go to sleep. One that is `wanted` goes before all others, if it can take the
 * request; an outlier behind all others. Neither of these, nor a share, ever has a request wait for which there is room.
 */
export function chooseInstance<C extends Candidate>(candidates: Iterable<C>, { concurrency, slowStartNs, nowBootNs, wanted }: ChoiceTerms<C>): Choice<C> {
  let best: C | null = null;
  let bestLoad = Infinity;
  let least: C | null = null;
  let outlier: C | null = null;
  let known = 0;
  let full = 0;
  for (const candidate of candidates) {
    known += 1;
    const { outstanding } = candidate;
    if (candidate.unavailable !== '') continue;
    if (outstanding >= concurrency) full += 1;
    else if (candidate.outlierUntilBootNs > nowBootNs) outlier = outlier === null || outstanding < outlier.outstanding ? candidate : outlier;
    else if (wanted?.(candidate) === true) return { chosen: candidate, reason: 'the client returns to it' };
    else {
      const load = (outstanding + 1) / shareOfAge(nowBootNs - candidate.sinceBootNs, slowStartNs);
      if (least === null || outstanding < least.outstanding) least = candidate;
      if (load >= bestLoad) continue;
      best = candidate;
      bestLoad = load;
    }
  }
  if (best !== null) return { chosen: best, reason: best === least ? 'least outstanding' : 'least outstanding for its share: others have just begun' };
  if (outlier !== null) return { chosen: outlier, reason: 'no other has room, though it failed several times in a row' };
  if (known === 0) return { chosen: null, reason: 'no instance is awake' };
  if (full > 0) return { chosen: null, reason: `every instance has its ${concurrency} requests under way` };
  return { chosen: null, reason: 'every instance is about to sleep or could not be reached' };
}
