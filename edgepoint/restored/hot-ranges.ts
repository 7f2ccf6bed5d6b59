/**
 * What is in memory so long after a thaw is what the first answers needed, and stays in memory at the next freeze (decision 111). When it is
 * more than the larger of the bounds, everything goes once more, and it is learnt anew. When ever more is asked for, it is in the middle of
 * something else, and what was learnt before holds. On a busy machine the answer may not be out at the first look, so there is a second.
 */
export const learnAfterMs = 100;
export const learnAgainAfterMs = 200;
export const lookMs = 50;
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
