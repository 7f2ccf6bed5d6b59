/** What the choice needs to know of one instance. */
export interface Candidate {
  readonly instance: string;
  readonly outstanding: number;
  /** '' or why it takes no exchange now. */
  readonly unavailable: '' | 'draining' | 'suspect';
}

export type Choice<C extends Candidate> =
  | { readonly chosen: C; readonly reason: string }
  | { readonly chosen: null; readonly reason: string };

/**
 * Least outstanding below the concurrency limit; among equals the first, so that a light load stays on few instances and the
 * others can go to sleep. One that is `wanted` goes before all others, if it can take the request.
 */
export function chooseInstance<C extends Candidate>(candidates: Iterable<C>, concurrency: number, wanted: ((candidate: C) => boolean) | null = null): Choice<C> {
  let best: C | null = null;
  let known = 0;
  let full = 0;
  for (const candidate of candidates) {
    known += 1;
    if (candidate.unavailable !== '') continue;
    if (candidate.outstanding >= concurrency) full += 1;
    else if (wanted?.(candidate) === true) return { chosen: candidate, reason: 'the client returns to it' };
    else if (best === null || candidate.outstanding < best.outstanding) best = candidate;
  }
  if (best !== null) return { chosen: best, reason: 'least outstanding' };
  if (known === 0) return { chosen: null, reason: 'no instance is awake' };
  if (full > 0) return { chosen: null, reason: `every instance has its ${concurrency} requests under way` };
  return { chosen: null, reason: 'every instance is about to sleep or could not be reached' };
}
