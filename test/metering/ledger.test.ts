import fc from 'fast-check';
import t from 'tap';
import type { UsageTotals } from '../../kit/wire/usage.ts';
import { defaultLimits } from '../../metering/judge.ts';
import { openLedger } from '../../metering/ledger.ts';
import type { Ledger, UsageMessage } from '../../metering/ledger.ts';
import { wireTotals } from '../../metering/totals.ts';
import { openLedgerDatabase } from './database.ts';
import { aRecord, messageOf, storyOf, twin } from './records.ts';

const client = await openLedgerDatabase(t);

const openFresh = async (): Promise<Ledger> => {
  await client.batch(['DELETE FROM records', 'DELETE FROM instances', 'DELETE FROM refused'], 'write');
  return openLedger({ client, operator: 'us', limits: defaultLimits, wallMs: () => 5 });
};

const refusedRows = async () => (await client.execute('SELECT code, subject, payload, times FROM refused ORDER BY code')).rows;

async function totalsIn(ledger: Ledger, providers: readonly string[]): Promise<Map<string, UsageTotals>> {
  const sums = new Map<string, UsageTotals>();
  for (const provider of providers) {
    for (const { scope, app, totals } of await ledger.usage(provider, '')) sums.set(`${provider}.${scope}.${app}`, wireTotals(totals));
  }
  return sums;
}

t.test('any order, repetition and loss of all but the last records gives the totals of the twin', async (t) => {
  const stories = fc.integer({ min: 1, max: 5 }).chain((count) => fc.tuple(...Array.from({ length: count }, (_, place) => storyOf(place))));
  const arrivals = stories.chain((told) =>
    fc.record({
      told: fc.constant(told),
      // Some records arrive, some twice, all finals at least once, in any order and cut into any batches.
      some: fc.subarray(told.flat()),
      twice: fc.subarray(told.flat()),
      order: fc.array(fc.nat(), { minLength: 100, maxLength: 100 }),
      batch: fc.integer({ min: 1, max: 30 }),
    }),
  );
  await fc.assert(
    fc.asyncProperty(arrivals, async ({ told, some, twice, order, batch }) => {
      const ledger = await openFresh();
      const finals = told.map((story) => story.at(-1)).filter((record) => record !== undefined);
      const queue = [...some, ...twice, ...finals];
      const shuffled = queue.map((record, index) => ({ record, key: order[index % 100] ?? 0 })).toSorted((a, b) => a.key - b.key);
      const messages: UsageMessage[] = shuffled.map(({ record }) => messageOf(record));
      let counted = 0;
      for (let from = 0; from < messages.length; from += batch) {
        const outcome = await ledger.record(messages.slice(from, from + batch));
        if (outcome.refused.length > 0) throw new Error(`refused: ${outcome.refused[0]?.reason}`);
        counted += outcome.counted;
      }
      t.equal(counted, new Set(queue.map(({ id, edgepoint }) => `${edgepoint} ${id}`)).size);
      t.strictSame(await totalsIn(ledger, ['acme', 'bolt']), twin(told));
    }),
    { numRuns: Number(process.env['LONG'] ?? 0) > 0 ? 2000 : 120, verbose: 1 },
  );
});

t.test('the summary of instances can be made again from the records alone', async (t) => {
  const ledger = await openFresh();
  const stories = fc.sample(fc.tuple(storyOf(1), storyOf(2), storyOf(3)), { numRuns: 1, seed: 7 })[0] ?? [];
  await ledger.record(stories.flat().map(messageOf));
  const again = await client.execute('SELECT instance, max(cpu_ns) AS cpu_ns, count(*) AS records FROM records GROUP BY zone, edgepoint, instance ORDER BY instance');
  const kept = await client.execute('SELECT instance, cpu_ns, records FROM instances ORDER BY instance');
  t.strictSame(kept.rows.map((row) => ({ ...row })), again.rows.map((row) => ({ ...row })));
});

t.test('poison is recorded once, with its reason, and the records beside it are counted', async (t) => {
  const ledger = await openFresh();
  const subject = 'usage.north.north-1.acme.main.shop';
  const poison: UsageMessage[] = [
    { subject, text: 'not json' },
    { subject, text: JSON.stringify({ v: '2.0', ...aRecord() }) },
    { subject, text: JSON.stringify({ ...aRecord() }) },
    { subject, text: JSON.stringify({ v: '1.0', ...aRecord({ totals: { cpuNs: -1 } }) }) },
  ];
  const outcome = await ledger.record([...poison, messageOf(aRecord({ totals: { cpuNs: 7 } })), messageOf(aRecord({ instance: 'i-2', totals: { cpuNs: 1e18 } }))]);
  t.match(outcome, { counted: 1, repeated: 0, refused: [{}, { reason: /version 2\.0 is not understood/ }, {}, { reason: /cpuNs/ }, { code: 'too-much-cpu' }] });
  t.match(await ledger.record(poison), { counted: 0, refused: { length: 4 } }, 'brought again');
  const rows = await refusedRows();
  t.strictSame(rows.map(({ code, times }) => [code, times]), [['not-understood', 2], ['not-understood', 2], ['not-understood', 2], ['not-understood', 2], ['too-much-cpu', 1]]);
  t.equal((await ledger.usage('acme', ''))[0]?.totals.cpuNs, 7n);
});

t.test('one edgepoint cannot use up or read as its own the ids and instances of another', async (t) => {
  const ledger = await openFresh();
  const mine = aRecord({ edgepoint: 'north-1', totals: { cpuNs: 5 } });
  const theirs = aRecord({ edgepoint: 'north-2', totals: { cpuNs: 9 } });
  t.match(await ledger.record([messageOf(theirs), messageOf(mine)]), { counted: 2, refused: [] });
  t.equal((await ledger.usage('acme', ''))[0]?.totals.cpuNs, 14n);
  t.match(await ledger.record([{ subject: messageOf(theirs).subject, text: messageOf(aRecord({ sequence: 2, totals: { cpuNs: 99 } })).text }]), { refused: [{ code: 'subject-mismatch' }] });
});

t.test('sums beyond 2^63 are exact', async (t) => {
  const ledger = await openFresh();
  const huge = aRecord({ toBootNs: 1e18, totals: { storageByteSeconds: 2 ** 62 } });
  const more = ['i-1', 'i-2', 'i-3'].map((instance) => messageOf({ ...huge, instance, id: `${instance}/1`, toBootNs: 1e18 }));
  t.match(await ledger.record(more), { counted: 3 });
  t.equal((await ledger.usage('acme', ''))[0]?.totals.storageByteSeconds, 3n * 2n ** 62n);
});

t.test('two processes on one ledger, each with a stale view, neither bill twice nor lower a total', async (t) => {
  const first = await openFresh();
  const second = openLedger({ client, operator: 'us', limits: defaultLimits, wallMs: () => 5 });
  const messages = Array.from({ length: 50 }, (_, index) => messageOf(aRecord({ sequence: index + 1, totals: { cpuNs: (index + 1) * 1000 } })));
  const outcomes = await Promise.all([first.record(messages), second.record(messages), first.record(messages.toReversed())]);
  t.equal(outcomes.reduce((sum, { counted }) => sum + counted, 0), 50);
  t.equal((await first.usage('acme', ''))[0]?.totals.cpuNs, 50_000n);
  const kept = await client.execute('SELECT records, sequence FROM instances');
  t.match(kept.rows[0], { records: 50, sequence: 50 });
});

t.test('lookups of a batch use the keys', async (t) => {
  const plan = await client.execute({ sql: 'EXPLAIN QUERY PLAN SELECT id FROM records WHERE (zone, edgepoint, id) IN (VALUES (?, ?, ?), (?, ?, ?))', args: ['a', 'b', 'c', 'a', 'b', 'd'] });
  t.match(plan.rows.map((row) => String(row['detail'])).join('\n'), /SEARCH records USING PRIMARY KEY/);
});
