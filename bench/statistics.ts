/** The value below which `part` (0 to 1) of the samples lie: nearest rank, on a sorted copy. */
export function percentile(samples: readonly number[], part: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const rank = Math.max(1, Math.ceil(part * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

export function median(samples: readonly number[]): number {
  return percentile(samples, 0.5);
}

/** The median of `peer[i] / ours[i]`: pairs were measured one after the other, so what slowed one slowed the other. */
export function medianRatio(peer: readonly number[], ours: readonly number[]): number {
  return median(ours.flatMap((value, index) => (peer[index] === undefined ? [] : [peer[index] / value])));
}

export function rounded(value: number, digits = 2): number {
  return Number(value.toFixed(digits));
}
