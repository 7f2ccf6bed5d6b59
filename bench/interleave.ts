/** One way to do the work that is measured: `run` does it once and returns milliseconds. */
export interface Contender {
  readonly name: string;
  readonly run: () => Promise<number>;
}

/**
 * Runs the contenders in turn, `rounds` times, each round in another order, so that neither what the machine does meanwhile nor
 * who runs after whom favours one. The first round is not counted: it warms caches for all alike. Stops early at the deadline.
 */
export async function interleave(contenders: readonly Contender[], options: { rounds: number; deadlineMs: number }): Promise<Map<string, number[]>> {
  const samples = new Map<string, number[]>(contenders.map((contender) => [contender.name, []]));
  const endMs = performance.now() + options.deadlineMs;
  for (let round = 0; round <= options.rounds; round += 1) {
    if (round > 1 && performance.now() > endMs) break;
    const shift = round % contenders.length;
    for (const contender of [...contenders.slice(shift), ...contenders.slice(0, shift)]) {
      const tookMs = await contender.run();
      if (round > 0) samples.get(contender.name)?.push(tookMs);
    }
  }
  return samples;
}
