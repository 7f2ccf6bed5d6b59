import { nsPerSecond } from '../../kit/units.ts';

/**
 * What an instance may still use of the processor before others go first: a bucket of processor time that fills while real time passes, and
 * that its use empties. Who answers requests uses little and is never without; who computes all the time is, within a second, and then
 * computes with what the others leave.
 *
 * Modes: `ahead` (as everybody begins, and as a restore begins) and `behind`; `nextCredit` is the one door.
 * Invariant: 0 <= creditNs <= `limitsOf(...).mostNs`.
 */
export interface Credit {
  readonly mode: 'ahead' | 'behind';
  readonly creditNs: number;
  /** Of the kernel's counters, and when they were read. */
  readonly cpuNs: number;
  readonly bootNs: number;
}

export interface CreditLimits {
  /** Of a processor: so much may be used for good without going behind. */
  readonly share: number;
  readonly mostNs: number;
}

/** Of what it could use at most. An app that needs more all the time is one that others wait for. */
const freeShare = 0.25;
/** A full bucket, in seconds of its filling: a wake, a burst of requests and the start of most runtimes fit in. */
const burstSeconds = 2;

/** An instance can use its offering, but no more than the machine has. */
export function limitsOf(about: { readonly cpuMillis: number; readonly processors: number }): CreditLimits {
  const share = Math.min(about.cpuMillis / 1000, about.processors) * freeShare;
  return { share, mostNs: share * burstSeconds * nsPerSecond };
}

export function fullCredit(limits: CreditLimits, seen: { readonly cpuNs: number; readonly bootNs: number }): Credit {
  return { mode: 'ahead', creditNs: limits.mostNs, ...seen };
}

/**
 * After another look at the counters. One that was behind comes back when its bucket is half full, so that it does not change at each look; so one
 * that gets nothing at all because the others take everything comes back too, and has its share until the bucket is empty again.
 */
export function nextCredit(before: Credit, limits: CreditLimits, seen: { readonly cpuNs: number; readonly bootNs: number }): { readonly credit: Credit; readonly reason: string } {
  const usedNs = Math.max(0, seen.cpuNs - before.cpuNs);
  const passedNs = Math.max(0, seen.bootNs - before.bootNs);
  const creditNs = Math.min(limits.mostNs, Math.max(0, before.creditNs + passedNs * limits.share - usedNs));
  const mode = before.mode === 'ahead' ? (creditNs === 0 ? 'behind' : 'ahead') : creditNs >= limits.mostNs / 2 ? 'ahead' : 'behind';
  const used = passedNs === 0 ? 0 : usedNs / passedNs;
  const reason = `it used ${used.toFixed(2)} processors where ${limits.share.toFixed(2)} are free for good, and may use ${(creditNs / nsPerSecond).toFixed(2)} of ${(limits.mostNs / nsPerSecond).toFixed(2)} s more`;
  return { credit: { mode, creditNs, ...seen }, reason };
}
