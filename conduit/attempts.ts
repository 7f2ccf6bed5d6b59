/**
 * Failed sign-ins, counted for each key over a window; bounded, and pure but for its own map. A key is an address alone
 * (many unknown tokens) or an address with the public part of one token (guesses at its secret), each with a limit of its own.
 */
export interface AttemptLimits {
  readonly failuresMax: number;
  readonly windowMs: number;
  readonly keysMax: number;
}

export interface Attempts {
  /** How long this key must wait before its next try; 0 when it may try now. */
  readonly waitMs: (key: string, nowMs: number) => number;
  readonly failed: (key: string, nowMs: number) => void;
}

export function openAttempts(limits: AttemptLimits): Attempts {
  const windows = new Map<string, { beganMs: number; failures: number }>();
  const current = (key: string, nowMs: number) => {
    const window = windows.get(key);
    return window && nowMs - window.beganMs < limits.windowMs ? window : undefined;
  };
  return {
    waitMs(key, nowMs) {
      const window = current(key, nowMs);
      return window && window.failures >= limits.failuresMax ? window.beganMs + limits.windowMs - nowMs : 0;
    },
    failed(key, nowMs) {
      const window = current(key, nowMs);
      if (window) window.failures += 1;
      else {
        windows.delete(key);
        windows.set(key, { beganMs: nowMs, failures: 1 });
      }
      // The oldest window goes first: a map keeps the order of insertion.
      for (const oldest of windows.keys()) {
        if (windows.size <= limits.keysMax) break;
        windows.delete(oldest);
      }
    },
  };
}
