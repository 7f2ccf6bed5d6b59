import { bytesPerMebibyte } from './units.ts';

/** What a daemon has done: milliseconds of processor time, and of the clock. */
export interface Work {
  readonly busyMs: number;
  /** The time in which it was so busy. */
  readonly passedMs: number;
  /** Processor time since it last gave memory back. */
  readonly sinceGivenMs: number;
  /** Resident memory beyond what it had then. */
  readonly grownBytes: number;
  /** It did so a while ago, when a burst seemed over, and is to do it once more. */
  readonly onceMore: boolean;
}

/** Less than this part of a processor: nothing much happens. */
const quietShare = 0.05;
/** Less work leaves little behind, and giving back costs some 20 ms itself. */
const workMsMin = 300;

/** A big piece of work may be done in less: one text of everything there is, say. */
const grownBytesMin = 4 * bytesPerMebibyte;

/**
 * Not even a burst may take more. The runtime lets garbage grow with what lives, and what stays then lies scattered among it. More than the 32 MB that it lets gather beside
 * next to nothing: a daemon under steady load must not be stopped for this again and again.
 */
const grownBytesMax = 64 * bytesPerMebibyte;

/** Whether what a burst of work has left in memory is to be given back: when the burst is over, or takes too much. */
export function shouldGiveBack({ busyMs, passedMs, sinceGivenMs, grownBytes, onceMore }: Work): boolean {
  if (grownBytes >= grownBytesMax) return true;
  return busyMs < passedMs * quietShare && (onceMore || sinceGivenMs >= workMsMin || grownBytes >= grownBytesMin);
}
