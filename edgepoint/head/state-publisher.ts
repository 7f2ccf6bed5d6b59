/** Changes within this time are published together. */
const coalesceMs = 100;
/** Of what is published, on average: whoever hears of a state takes all of it in. */
const charactersPerMsMax = 500;
const retryMs = 1000;

/** How long changes are gathered before a state as long as the last one is put: the longer it is, the less often. */
export function gatherMs(characters: number): number {
  return Math.max(coalesceMs, characters / charactersPerMsMax);
}

/** Puts the edgepoint's state where others read it: only when it differs from what was put last, and again when the bus was away. */
export function openStatePublisher(options: { describe: () => string; put: (text: string) => Promise<void>; onFault: (failure: unknown) => void }): {
  changed(): void;
  /** The bus came back. */
  wake(): void;
  /** Publishes what is not published yet. */
  stop(): Promise<void>;
} {
  let published = '';
  let timer: ReturnType<typeof setTimeout> | null = null;
  let putting: Promise<void> | null = null;
  let stopped = false;

  const publish = async (): Promise<void> => {
    const text = options.describe();
    if (text === published) return;
    try {
      await options.put(text);
      published = text;
    } catch (failure) {
      options.onFault(failure);
      later(retryMs);
    }
  };
  const begin = (): void => {
    timer = null;
    if (putting !== null) return later(coalesceMs);
    putting = publish().finally(() => {
      putting = null;
    });
  };
  const later = (ms: number): void => {
    if (!stopped) timer ??= setTimeout(begin, ms);
  };
  return {
    changed: () => later(gatherMs(published.length)),
    wake: () => {
      if (timer !== null) clearTimeout(timer);
      begin();
    },
    stop: async () => {
      stopped = true;
      if (timer !== null) clearTimeout(timer);
      await putting;
      await publish();
    },
  };
}
