import type { Test } from 'tap';

/** Numbers from 0 up to 1 that a printed seed repeats: set SEED to see a failure again (mulberry32). */
export function chance(t: Test): () => number {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32);
  t.comment(`SEED=${seed}`);
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A moment at random: the kill must come anywhere in what is under way. */
export function moment(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** How many rounds of a story with chance in it: LONG=1 for many. */
export function rounds(few: number, many: number): number {
  return process.env['LONG'] ? many : few;
}
