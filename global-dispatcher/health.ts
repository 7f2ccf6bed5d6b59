import type { Liveness } from './choose.ts';

/**
 * Whether an edgepoint is alive, from its heartbeats alone, against flapping. All times are our own boot clock in nanoseconds.
 *
 * Modes of an edgepoint: `alive` -> `silent` when `missedMax` intervals passed without a beat; `silent` -> `alive` after as many
 * beats in a row as its trust demands: 1 after the first silence, doubled for each further one within `calmIntervals`.
 * While the bus is away nobody's beats arrive, so nothing is decided; when it is back everybody has `missedMax` intervals anew.
 */
export interface HealthRules {
  readonly intervalNs: number;
  readonly missedMax: number;
  /** So many intervals alive without a silence, and earlier silences are forgotten. */
  readonly calmIntervals: number;
  readonly demandMax: number;
}
export const defaultRules: HealthRules = { intervalNs: 2_000_000_000, missedMax: 3, calmIntervals: 150, demandMax: 16 };

export interface Pulse {
  readonly liveness: Liveness;
  readonly lastBeatNs: number;
  /** Since when it has the liveness that it has. */
  readonly sinceNs: number;
  /** Silences not yet forgotten. */
  readonly silences: number;
  /** Beats in a row while silent, each within `missedMax` intervals of the one before. */
  readonly beatsInRow: number;
}

/** An edgepoint that we hear of for the first time counts as alive, and must beat within `missedMax` intervals. */
export function firstPulse(nowNs: number): Pulse {
  return { liveness: 'alive', lastBeatNs: nowNs, sinceNs: nowNs, silences: 0, beatsInRow: 0 };
}

export const beatsDemanded = (pulse: Pulse, rules: HealthRules): number => Math.min(rules.demandMax, 2 ** Math.max(0, pulse.silences - 1));

export function onBeat(pulse: Pulse, nowNs: number, rules: HealthRules): Pulse {
  if (pulse.liveness === 'alive') {
    const calm = nowNs - pulse.sinceNs > rules.calmIntervals * rules.intervalNs;
    return { ...pulse, lastBeatNs: nowNs, silences: calm ? 0 : pulse.silences };
  }
  const gapNs = nowNs - pulse.lastBeatNs;
  const beatsInRow = gapNs > rules.missedMax * rules.intervalNs ? 1 : pulse.beatsInRow + 1;
  if (beatsInRow < beatsDemanded(pulse, rules)) return { ...pulse, lastBeatNs: nowNs, beatsInRow };
  return { liveness: 'alive', lastBeatNs: nowNs, sinceNs: nowNs, silences: pulse.silences, beatsInRow: 0 };
}

/** To be called at least once an interval. `busUpSinceNs` is null while the bus is away. */
export function onTick(pulse: Pulse, nowNs: number, busUpSinceNs: number | null, rules: HealthRules): Pulse {
  if (busUpSinceNs === null || pulse.liveness === 'silent') return pulse;
  const quietNs = nowNs - Math.max(pulse.lastBeatNs, busUpSinceNs);
  if (quietNs <= rules.missedMax * rules.intervalNs) return pulse;
  return { ...pulse, liveness: 'silent', sinceNs: nowNs, silences: pulse.silences + 1, beatsInRow: 0 };
}
