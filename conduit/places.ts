/** A bounded number of places, taken in the order in which they were asked for. */
export interface Places {
  /** True when a place was taken; false when none came free in `waitMs` milliseconds, or when too many wait already. */
  take(waitMs: number): Promise<boolean>;
  /** Gives a taken place back. */
  free(): void;
}

/** So many may wait for each place; whoever comes then is refused at once, for its turn would not come in time. */
const waitingPerPlace = 8;

export function openPlaces(max: number): Places {
  let taken = 0;
  const waiting = new Set<() => void>();
  return {
    async take(waitMs) {
      if (taken < max) {
        taken += 1;
        return true;
      }
      if (waiting.size >= max * waitingPerPlace) return false;
      return new Promise((resolve) => {
        const turn = (): void => {
          clearTimeout(timer);
          resolve(true);
        };
        const timer = setTimeout(() => {
          waiting.delete(turn);
          resolve(false);
        }, waitMs);
        waiting.add(turn);
      });
    },
    free() {
      const [next] = waiting;
      if (next === undefined) {
        taken -= 1;
        return;
      }
      // The place passes on: `taken` stays.
      waiting.delete(next);
      next();
    },
  };
}
