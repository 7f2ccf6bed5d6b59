import type { Bus } from '../../host/bus.ts';
import type { Log } from '../../host/log.ts';
import { messageOf } from '../../kit/errors.ts';
import { newId } from '../../kit/ids.ts';
import type { RandomBytes } from '../../kit/ids.ts';
import { monthEndWallMs, monthOf, spendingBeatMessage, spentMessage } from '../../kit/wire/spending.ts';
import { buckets, meteringBeatSubject, spendingBeatSubject } from '../../kit/wire/subjects.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import type { AppStore } from '../store/apps.ts';
import type { CapStore } from '../store/caps.ts';
import { decideSpending } from './decide.ts';
import type { SpentInMonth } from './decide.ts';

export interface SpendingPorts {
  readonly bus: Pick<Bus, 'watchKv' | 'subscribe' | 'publish'>;
  readonly apps: Pick<AppStore, 'list'>;
  readonly caps: CapStore;
  readonly randomBytes: RandomBytes;
  wallMs(): number;
  readonly log: Log;
  /** Apps have been stopped or let go, or alerts made. */
  onChange(): void;
}

/** Judges by the caps of providers what metering tells of their apps. */
export interface Spending {
  /** By app, of whatever month it is. */
  spent(provider: string): ReadonlyMap<string, SpentInMonth>;
  /** The operator's, as metering told it last; empty before it told any. */
  readonly currency: string;
  /** Judges one provider's apps anew; resolves when that stands in the database. Nothing before all that metering told has come. */
  judge(provider: string): Promise<void>;
  /** The same of one who may have none. Never rejects. */
  judgeIfCapped(provider: string): Promise<void>;
  stop(): void;
}

/** The clock may be set: it is looked at again before the month is over. */
const lookAgainMs = 600_000;

export async function openSpending(ports: SpendingPorts): Promise<Spending> {
  const { bus, apps, caps, log } = ports;
  const told = new Map<string, Map<string, SpentInMonth>>();
  let currency = '';
  let ready = false;
  let judged = true;
  /** One after the other, and each provider but once. */
  const wanted = new Set<string>();
  let working: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  async function judgeOnce(provider: string): Promise<void> {
    if (!ready || stopped || !wanted.delete(provider)) return;
    try {
      const [theirs, own] = await Promise.all([caps.list(provider), apps.list(provider)]);
      const wallMs = ports.wallMs();
      const decision = decideSpending({ nowWallMs: wallMs, caps: theirs, spent: told.get(provider) ?? new Map(), apps: own.map(({ owner }) => owner.app) });
      const changed = await caps.apply(provider, decision, { currency, wallMs, newId: () => newId('alert', ports.randomBytes) });
      judged = true;
      if (changed) ports.onChange();
    } catch (thrown) {
      judged = false;
      wanted.add(provider);
      log.error('caps could not be judged', { provider, reason: messageOf(thrown) });
    }
  }
  const judge = (provider: string): Promise<void> => {
    wanted.add(provider);
    return (working = working.then(() => judgeOnce(provider)));
  };
  const judgeAll = async (): Promise<void> => {
    clearTimeout(timer);
    const wallMs = ports.wallMs();
    const providers = await caps.providers().catch((thrown: unknown) => {
      log.error('it is not known whose caps are to be judged', { reason: messageOf(thrown) });
      return [] as readonly string[];
    });
    for (const provider of providers) await judge(provider);
    if (!stopped) timer = setTimeout(() => void judgeAll(), Math.min(lookAgainMs, monthEndWallMs(monthOf(wallMs)) - wallMs));
  };

  const watch = await bus.watchKv(buckets.spending, '>', (key, text) => {
    const parsed = text === null ? null : parseMessage(spentMessage, text);
    if (parsed === null) return;
    if (!parsed.ok) return log.warn('what was spent is not understood', { key, reason: parsed.reason });
    const { provider, app, month, micros } = parsed.value;
    currency = parsed.value.currency;
    const theirs = told.get(provider) ?? new Map<string, SpentInMonth>();
    told.set(provider, theirs.set(app, { month, micros }));
    if (ready) return judgeIfCapped(provider);
  });
  const judgeIfCapped = async (provider: string): Promise<void> => {
    const some = await caps.list(provider).catch(() => null);
    // Who could not be asked about is judged.
    if (some === null || some.length > 0) await judge(provider);
  };
  void watch.ready.then(() => {
    ready = true;
    return judgeAll();
  });
  const beat = bus.subscribe(meteringBeatSubject, () => {
    if (!ready) return;
    // What could not be judged is tried again first.
    for (const provider of wanted) void judge(provider);
    if (judged) bus.publish(spendingBeatSubject, encodeMessage(spendingBeatMessage, {}));
  });
  return {
    spent: (provider) => told.get(provider) ?? new Map(),
    get currency() {
      return currency;
    },
    judge,
    judgeIfCapped,
    stop() {
      stopped = true;
      clearTimeout(timer);
      watch.stop();
      beat.stop();
    },
  };
}
