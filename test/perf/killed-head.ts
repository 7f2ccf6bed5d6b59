/**
 * Run by Bun: what a head does with the meter, over a real database and a real cgroup: begins where the database says the last life
 * ended, and goes on until a line on stdin ends the instance. Arguments: database, cpu folder, memory folder.
 */
import { createClient } from '@libsql/client';
import { openClock } from '../../host/clock.ts';
import { readCounters } from '../../edgepoint/perf/counters.ts';
import { startMeter } from '../../edgepoint/perf/meter.ts';
import { openOutbox, usageTables } from '../../edgepoint/perf/outbox.ts';

const [database = '', cpu = '', memory = ''] = process.argv.slice(2);
const client = createClient({ url: `file:${database}` });
await client.execute('PRAGMA journal_mode = WAL');
await client.batch(usageTables.map((sql) => sql.replace('CREATE TABLE', 'CREATE TABLE IF NOT EXISTS')), 'write');
const outbox = openOutbox(client);
const cgroup = { version: 1, cpu, memory, pids: '', freezer: '' } as const;
const meter = startMeter({
  clock: openClock(), site: { zone: 'north', edgepoint: 'north-1' }, readCounters, outbox, seeds: await outbox.seeds(), sampleMs: 20, recordMs: 40,
  onFault: (failure) => {
    throw failure;
  },
});
const owner = { provider: 'acme', scope: 'main', app: 'shop' };
meter.adopt([{ instance: 'i-1', owner, release: 1, pid: 1, address: '', tookMs: 0, stepsMs: {}, cgroup, logPath: '', logStartBytes: 0, restored: true }], []);
// The dispatcher outlives the head and says the same totals again after each restart.
meter.traffic([{ instance: 'i-1', requests: 10, bytesIn: 100, bytesOut: 1000 }], 'dispatcher-1');
process.stdin.once('data', async () => {
  meter.instanceEnded('i-1', readCounters(cgroup));
  await meter.stop();
  process.exit(0);
});
