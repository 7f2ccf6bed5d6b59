import fc from 'fast-check';
import t from 'tap';
import { monthEndWallMs, monthOf, spentMessage } from '../../kit/wire/spending.ts';
import { parseMessage } from '../../kit/wire/version.ts';
import { charges } from '../../metering/charges.ts';
import { defaultLimits } from '../../metering/judge.ts';
import { openLedger } from '../../metering/ledger.ts';
import { openSpendingTeller } from '../../metering/spending.ts';
import { addTotals, wireTotals, zeroTotals } from '../../metering/totals.ts';
import { openLedgerDatabase } from './database.ts';
import { aRecord, messageOf, storyOf, twin } from './records.ts';

const client = await openLedgerDatabase(t);
let wallMs = 0;
const ledger = openLedger({ client, operator: 'us', limits: defaultLimits, wallMs: () => wallMs });
const emptied = (): Promise<unknown> => client.batch(['DELETE FROM records', 'DELETE FROM instances', 'DELETE FROM months'], 'write');

t.test('months begin and end in UTC', async (t) => {
  t.equal(monthOf(Date.UTC(2026, 11, 31, 23, 59, 59, 999)), '2026-12');
  t.equal(monthEndWallMs('2026-12'), Date.UTC(2027, 0, 1));
  t.equal(monthOf(monthEndWallMs('2028-02')), '2028-03');
});

t.test('each growth is in the month that took it in, and all months together are what was used', async (t) => {
  const told = fc.integer({ min: 1, max: 4 }).chain((count) => fc.tuple(...Array.from({ length: count }, (_, place) => storyOf(place))));
  const arrivals = told.chain((stories) =>
    fc.record({
      stories: fc.constant(stories),
      queue: fc.shuffledSubarray([...stories.flat(), ...stories.flat()]),
      // A clock that may also be set back.
      months: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 20, maxLength: 20 }),
      batch: fc.integer({ min: 1, max: 10 }),
    }),
  );
  await fc.assert(
    fc.asyncProperty(arrivals, async ({ stories, queue, months, batch }) => {
      await emptied();
      const messages = [...queue, ...stories.map((story) => story.at(-1)).filter((record) => record !== undefined)].map(messageOf);
      for (let from = 0; from < messages.length; from += batch) {
        wallMs = Date.UTC(2026, 10 + (months[(from / batch) % 20] ?? 0), 15);
        await ledger.record(messages.slice(from, from + batch));
      }
      const sums = new Map<string, typeof zeroTotals>();
      for (const month of ['2026-11', '2026-12', '2027-01', '2027-02']) {
        for (const { provider, app } of await ledger.appsIn(month)) {
          for (const { scope, totals } of await ledger.usageIn(month, provider, app)) {
            const key = `${provider}.${scope}.${app}`;
            sums.set(key, addTotals(sums.get(key) ?? zeroTotals, totals));
          }
        }
      }
      t.strictSame(new Map([...sums].map(([key, totals]) => [key, wireTotals(totals)])), twin(stories));
    }),
    { numRuns: 60 },
  );
});

t.test('what is told: each app that grew, at its cost in this month alone; again when it could not be told', async (t) => {
  await emptied();
  const put = new Map<string, unknown>();
  let away = true;
  const faults: unknown[] = [];
  let wake: (() => void) | null = null;
  const teller = openSpendingTeller({
    ledger,
    charges,
    currency: 'EUR',
    wallMs: () => wallMs,
    put: async (key, text) => {
      if (away) throw new Error('the bus is away');
      const parsed = parseMessage(spentMessage, text);
      put.set(key, parsed.ok ? parsed.value : parsed.reason);
    },
    wakeIn: (_ms, callback) => {
      wake = callback;
      return () => undefined;
    },
    onFault: (failure) => faults.push(failure),
  });
  const rested = async (): Promise<void> => {
    while (wake === null) await new Promise((resolve) => setImmediate(resolve));
  };
  const goesOn = async (): Promise<void> => {
    await rested();
    const callback = wake;
    wake = null;
    callback?.();
  };
  wallMs = Date.UTC(2026, 10, 30, 23);
  teller.note((await ledger.record([messageOf(aRecord({ totals: { cpuNs: 50e9, requests: 3 } }))])).apps);
  await rested();
  t.equal(teller.tells, false);
  t.equal(faults.length, 1);
  away = false;
  await goesOn();
  await rested();
  t.equal(teller.tells, true);
  t.strictSame([...put], [['acme.shop', { provider: 'acme', app: 'shop', month: '2026-11', currency: 'EUR', micros: 1001 }]]);
  put.clear();
  wallMs = Date.UTC(2026, 11, 1);
  teller.note((await ledger.record([messageOf(aRecord({ sequence: 2, totals: { cpuNs: 60e9, requests: 3 } }))])).apps);
  await goesOn();
  await rested();
  t.match(put.get('acme.shop'), { month: '2026-12', micros: 200 });
  put.clear();
  teller.tellAll();
  await goesOn();
  await rested();
  t.match([...put], [['acme.shop', { month: '2026-12', micros: 200 }]]);
  await teller.stop();
});
