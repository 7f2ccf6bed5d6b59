import { createClient } from '@libsql/client';
import fc from 'fast-check';
import { join } from 'node:path';
import t from 'tap';
import { ended, until } from './bench.ts';
import { messageOf, twin } from './records.ts';
import { consumed, query, stories, withBench } from './told.ts';

t.test('kill -9 at any moment in a stream of 5,000 records, three times: the totals are those of the twin', async (t) => {
  await withBench(async (bench) => {
    const told = stories(200, 25);
    const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
    t.comment(`seed ${seed}`);
    const [order] = fc.sample(fc.array(fc.nat(), { minLength: 5500, maxLength: 5500, size: 'max' }), { seed, numRuns: 1 });
    const all = told.flat();
    // 500 of them come twice; the order is chance.
    const queue = [...all, ...all.slice(0, 500)].map((record, index) => ({ record, key: order?.[index] ?? 0 })).toSorted((a, b) => a.key - b.key);
    const publishing = (async () => {
      for (let from = 0; from < queue.length; from += 100) {
        await Promise.all(queue.slice(from, from + 100).map(({ record }) => bench.publish(messageOf(record))));
      }
    })();
    const ledger = createClient({ url: `file:${join(bench.folder, 'metering.db')}` });
    const recorded = async (): Promise<number> => Number((await ledger.execute('SELECT count(*) AS n FROM records').catch(() => undefined))?.rows[0]?.['n'] ?? 0);
    try {
      for (const mark of [1, 1200, 3000]) {
        const metering = await bench.startMetering();
        await until(`${mark} records are in the ledger`, async () => (await recorded()) >= mark);
        metering.kill('SIGKILL');
        await ended(metering);
      }
      await publishing;
      const metering = await bench.startMetering();
      await until('all is consumed', () => consumed(bench));
      t.equal(await recorded(), 5000, 'each event once');
      const report = await query(bench, 'acme');
      t.strictSame(new Map(report.apps.map(({ app, totals }) => [`acme.main.${app}`, totals])), twin(told));
      t.equal(report.totalMicros, report.lines.reduce((sum, { amountMicros }) => sum + amountMicros, 0));
      metering.kill('SIGTERM');
      t.equal(await ended(metering), 0, 'SIGTERM ends it cleanly');
    } finally {
      ledger.close();
    }
  });
});
