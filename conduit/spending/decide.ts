import { monthEndWallMs, monthOf } from '../../kit/wire/spending.ts';

/** What a provider wants not to spend more than in a month. */
export interface Cap {
  /** Empty: all apps of the provider together. */
  readonly app: string;
  /** Millionths of the operator's currency, above 0. */
  readonly micros: number;
}

/** What an app has cost in a month, as metering told it last. */
export interface SpentInMonth {
  readonly month: string;
  readonly micros: number;
}

export interface SpendingView {
  readonly nowWallMs: number;
  /** Of one provider. */
  readonly caps: readonly Cap[];
  /** By app, deleted ones too. */
  readonly spent: ReadonlyMap<string, SpentInMonth>;
  /** Those there are now. */
  readonly apps: readonly string[];
}

export const alertPercents = [50, 80, 100] as const;

/** A part of a cap that has been spent. */
export interface Reached extends Cap {
  readonly month: string;
  readonly percent: (typeof alertPercents)[number];
  readonly spentMicros: number;
}

export interface Stopped {
  /** For the provider. */
  readonly reason: string;
  /** When the next month begins. */
  readonly untilWallMs: number;
}

export interface SpendingDecision {
  readonly month: string;
  /** Apps that are not served until then. */
  readonly stopped: ReadonlyMap<string, Stopped>;
  readonly reached: readonly Reached[];
}

/**
 * What caps mean now. What counts as this month's is what metering said of it, or of a later one: its clock may go before ours, and neither
 * makes money disappear. A cap is reached when all of it is spent.
 */
export function decideSpending({ nowWallMs, caps, spent, apps }: SpendingView): SpendingDecision {
  const month = monthOf(nowWallMs);
  const untilWallMs = monthEndWallMs(month);
  const stopped = new Map<string, Stopped>();
  const reached: Reached[] = [];
  for (const cap of caps) {
    const spentMicros = spentOf(spent, month, cap.app);
    for (const percent of alertPercents) {
      // As whole numbers: a product with 0.8 would not be.
      if (BigInt(spentMicros) * 100n >= BigInt(cap.micros) * BigInt(percent)) reached.push({ ...cap, month, percent, spentMicros });
    }
    if (spentMicros < cap.micros) continue;
    const whose = cap.app === '' ? 'your spending cap for all apps' : 'its spending cap';
    for (const app of apps) if (cap.app === '' || cap.app === app) stopped.set(app, { reason: `${whose} for ${month} is reached`, untilWallMs });
  }
  return { month, stopped, reached };
}

/** What an app, or with an empty name all of them, cost in that month so far, in micros. */
export function spentOf(spent: ReadonlyMap<string, SpentInMonth>, month: string, app: string): number {
  const those = app === '' ? [...spent.values()] : [spent.get(app)];
  return those.reduce((sum, one) => sum + (one !== undefined && one.month >= month ? one.micros : 0), 0);
}
