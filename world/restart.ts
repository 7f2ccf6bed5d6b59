/** Pauses before the 1st, 2nd, ... start again; the last one repeats. The first is short: a wake may be waiting. */
const pausesMs = [10, 100, 400, 1000, 2000] as const;

/** One that ran this long is sound: its next failure counts as the first again. */
export const soundAfterMs = 10_000;

export interface RestartState {
  /** Ends in a row, each soon after its start. */
  readonly quickEnds: number;
}

export const freshRestartState: RestartState = { quickEnds: 0 };

export function planRestart(state: RestartState, ranMs: number): { readonly state: RestartState; readonly pauseMs: number; readonly reason: string } {
  const earlier = ranMs >= soundAfterMs ? 0 : state.quickEnds;
  const pauseMs = pausesMs[Math.min(earlier, pausesMs.length - 1)] ?? 2000;
  const reason = earlier === 0 ? 'its first end since it ran soundly' : `it ended soon after its start ${earlier} times in a row`;
  return { state: { quickEnds: earlier + 1 }, pauseMs, reason };
}
