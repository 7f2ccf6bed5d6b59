/**
 * What is in memory so long after a thaw is what the first answers needed, and stays in memory at the next freeze (decision 111). When it is
 * more than the larger of the bounds, everything goes once more, and it is learnt anew. When ever more is asked for, it is in the middle of
 * something else, and what was learnt before holds. On a busy machine the question may not have come yet, or the answer wait for the
 * processor: the first look waits for both. A second finds what came a little later.
 */
export const learnAfterMs = 100;
export const learnAgainAfterMs = 200;
export const lookMs = 50;
export const waitMs = 50;
const waitsMax = 20;
const askedBytes = 2 ** 18;
const grownBytesMax = 2 ** 20;
const hotBytesMax = 12 * 2 ** 20;
const hotShareMax = 1 / 8;

export interface Look {
  /** What is in memory: ranges as `edgepoint-box resident` prints them. */
  readonly ranges: string;
  /** Of the instance, and by how much it grew in `lookMs`. */
  readonly memoryBytes: number;
  readonly grownBytes: number;
  /** What the first look has found; null: this is the first. */
  readonly learntBytes: number | null;
}

/**
 * Whether it is too early for the first look. `grownBytes`: since the thaw; what needed next to nothing need not be learnt. `runs`: a thread of
 * it runs, or waits for the processor or for memory. `waits`: so often was it too early; one that never rests is looked at all the same.
 */
export function isTooEarly({ grownBytes, runs, waits }: { readonly grownBytes: number; readonly runs: boolean; readonly waits: number }): boolean {
  return waits < waitsMax && (runs || grownBytes < askedBytes);
}

/** Whether it stays, and why not. */
export function learnHot({ ranges, memoryBytes, grownBytes, learntBytes }: Look): 'stays' | 'is-too-much' | 'is-at-work' {
  if (learntBytes !== null && rangeBytes(ranges) - learntBytes > grownBytesMax) return 'is-at-work';
  if (rangeBytes(ranges) > Math.max(hotBytesMax, memoryBytes * hotShareMax)) return 'is-too-much';
  return grownBytes > grownBytesMax ? 'is-at-work' : 'stays';
}

/** Bytes in the ranges that `edgepoint-box resident` prints: a line each, a process id and two addresses in hexadecimal. */
export function rangeBytes(ranges: string): number {
  let bytes = 0;
  for (const [, start, end] of ranges.matchAll(/^\w+ (\w+) (\w+)$/gm)) bytes += Number.parseInt(end as string, 16) - Number.parseInt(start as string, 16);
  return bytes;
}
