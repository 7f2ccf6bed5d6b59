import { monthOf, spentMessage } from '../kit/wire/spending.ts';
import { spentKey } from '../kit/wire/subjects.ts';
import { encodeMessage } from '../kit/wire/version.ts';
import type { Charge } from './charges.ts';
import type { AppName, Ledger } from './ledger.ts';
import { invoiceLines, totalMicros } from './rating.ts';

export interface SpendingPorts {
  readonly ledger: Pick<Ledger, 'usageIn' | 'appsIn'>;
  readonly charges: readonly Charge[];
  readonly currency: string;
  wallMs(): number;
  /** Under the key of the bucket `spending`; durable when it resolves. */
  put(key: string, text: string): Promise<unknown>;
  /** Calls back once after so many milliseconds. */
  wakeIn(ms: number, callback: () => void): () => void;
  onFault(failure: unknown): void;
}

/** Tells what apps have cost in the month so far: those of which something was counted, and nobody else. */
export interface SpendingTeller {
  note(apps: readonly AppName[]): void;
  /** Whatever was told before may be lost. */
  tellAll(): void;
  /** False while what was counted could not be told. */
  readonly tells: boolean;
  stop(): Promise<void>;
}

/** An app that is busy is told of so often; also the wait after a failure. */
const gapMs = 500;

export function openSpendingTeller(ports: SpendingPorts): SpendingTeller {
  const { ledger, charges, currency } = ports;
  const dirty = new Map<string, AppName>();
  let all = false;
  let tells = true;
  let working: Promise<void> | null = null;
  let cancel: (() => void) | null = null;
  let stopped = false;

  async function tell(): Promise<void> {
    const month = monthOf(ports.wallMs());
    if (all) for (const app of await ledger.appsIn(month)) dirty.set(spentKey(app.provider, app.app), app);
    all = false;
    for (const [key, { provider, app }] of dirty) {
      if (stopped) return;
      dirty.delete(key);
      try {
        const micros = totalMicros(invoiceLines(await ledger.usageIn(month, provider, app), charges));
        await ports.put(key, encodeMessage(spentMessage, { provider, app, month, currency, micros }));
      } catch (failure) {
        dirty.set(key, { provider, app });
        throw failure;
      }
    }
  }

  function wake(): void {
    if (working !== null || cancel !== null || stopped || (dirty.size === 0 && !all)) return;
    working = tell()
      .then(() => {
        tells = true;
      })
      .catch((failure: unknown) => {
        tells = false;
        ports.onFault(failure);
      })
      .finally(() => {
        working = null;
        if (stopped) return;
        cancel = ports.wakeIn(gapMs, () => {
          cancel = null;
          wake();
        });
      });
  }

  return {
    note(apps) {
      for (const { provider, app } of apps) dirty.set(spentKey(provider, app), { provider, app });
      wake();
    },
    tellAll() {
      all = true;
      wake();
    },
    get tells() {
      return tells;
    },
    async stop() {
      stopped = true;
      cancel?.();
      await working;
    },
  };
}
