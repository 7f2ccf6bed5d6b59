import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ended, until } from './bench.ts';
import { aRecord, messageOf, twin } from './records.ts';
import { consumed, query, stories, withBench } from './told.ts';

t.test('a full disk: health says so, nothing is acknowledged that is not in the ledger, and with room again the totals are the twin\'s', async (t) => {
  await withBench(async (bench) => {
    const disk = join(bench.folder, 'disk');
    mkdirSync(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=400k', 'edgepoint-test', disk]);
    try {
      const metering = await bench.startMetering(`file:${join(disk, 'metering.db')}`);
      const told = stories(100, 20);
      for (const story of told) {
        await Promise.all(story.map((record) => bench.publish(messageOf(record))));
      }
      await until('health says that the ledger cannot be written', async () => /"ledger":"[^"]*(full|I\/O)/i.test((await bench.get('/healthz')).body));
      t.match(await bench.get('/healthz'), { status: 503 });
      execFileSync('mount', ['-o', 'remount,size=64m', disk]);
      await until('all is consumed', () => consumed(bench));
      const report = await query(bench, 'acme');
      t.strictSame(new Map(report.apps.map(({ app, totals }) => [`acme.main.${app}`, totals])), twin(told));
      await until('health is good again', async () => (await bench.get('/healthz')).status === 200);
      metering.kill('SIGTERM');
      await ended(metering);
    } finally {
      await bench.endMetering();
      execFileSync('umount', [disk]);
    }
  });
});

t.test('answers, invoices, poison and health, as a person and a program meet them', async (t) => {
  await withBench(async (bench) => {
    t.match(await bench.run('invoice', 'acme', '--config', bench.configPath), { code: 1, stderr: /there is no ledger at .*metering\.db yet\n.*daemon first starts/ });
    const metering = await bench.startMetering();
    const good = messageOf(aRecord({ totals: { cpuNs: 2e9, memoryByteSeconds: 3 * 1024 ** 3, requests: 5, wakes: 1 } }));
    await bench.publish(good);
    await bench.publish({ ...good, text: 'poison' });
    await bench.publish({ ...good, text: JSON.stringify({ v: '9.0' }) });
    const absurd = messageOf(aRecord({ instance: 'i-2', totals: { cpuNs: 1e15 } }));
    await bench.publish(absurd);
    await until('all is consumed, poison too', () => consumed(bench));

    const report = await query(bench, 'acme', 'shop');
    t.match(report, { code: '', currency: 'EUR', apps: [{ app: 'shop', instances: 1, totals: { cpuNs: 2e9, requests: 5 } }], totalMicros: 52 });
    t.match(report.lines, [{ charge: 'cpu', amountMicros: 40 }, { charge: 'memory', amountMicros: 9 }, { charge: 'requests', amountMicros: 2 }, { charge: 'wakes', amountMicros: 1 }]);
    t.match(await query(bench, 'bolt'), { code: 'nothing-used', note: 'The provider bolt has used nothing yet, and owes nothing.', apps: [], lines: [], totalMicros: 0 });
    t.match(await query(bench, 'acme', 'shpo'), { code: 'unknown-app', note: /"shpo"\. It has used: shop\./ });
    t.match(await query(bench, ''), { code: 'bad-query', note: /names no provider/ });
    const bad = await bench.conduit.request('metering.query', 'what?', { timeout: 5000 });
    t.match(JSON.parse(bad.string()), { code: 'bad-query', note: /not JSON/ });

    t.match(await bench.get('/metrics'), { body: /metering_records_total\{[^}]*outcome="not-understood"[^}]*\} 2/ });
    t.match(await bench.get('/healthz'), { status: 200 });

    const printed = await bench.run('invoice', 'acme', '--config', bench.configPath);
    t.match(printed, { code: 0, stdout: /shop +cpu +2 CPU second +0\.000020 EUR +0\.000040 EUR/ });
    t.match(printed.stdout, /total +0\.000052 EUR/);
    const json = await bench.run('invoice', 'acme', '--json', '--config', bench.configPath);
    t.match(JSON.parse(json.stdout), { totalMicros: 52 });
    t.match(await bench.run('invoice', 'bolt', '--config', bench.configPath), { code: 0, stdout: 'The provider bolt has used nothing yet, and owes nothing.\n' });
    t.match(await bench.run('invoice', '--config', bench.configPath), { code: 2, stderr: /which provider/ });
    t.match(await bench.run('refused', '--config', bench.configPath), { code: 0, stdout: /1 +too-much-cpu +usage\.north\.north-1\.acme\.main\.shop +it claims 1000000 CPU seconds/ });
    t.match(await bench.run('--help'), { code: 0, stdout: /databaseUrl/ });
    metering.kill('SIGTERM');
    t.equal(await ended(metering), 0);
  });
});
