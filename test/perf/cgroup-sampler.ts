/**
 * Run by Bun: meters the cgroup whose folders are the arguments until a line comes on stdin, then ends the instance with the
 * counters it reads at that moment, and prints the records as one line of JSON.
 */
import type { UsageRecord } from '../../kit/wire/usage.ts';
import { openClock } from '../../host/clock.ts';
import { readCounters } from '../../edgepoint/perf/counters.ts';
import { startMeter } from '../../edgepoint/perf/meter.ts';

const [version = '1', cpu = '', memory = ''] = process.argv.slice(2);
const cgroup = { version: version === '2' ? 2 : 1, cpu, memory, pids: '', freezer: '' } as const;
const records: UsageRecord[] = [];
const meter = startMeter({
  clock: openClock(),
  site: { zone: 'north', edgepoint: 'north-1' },
  readCounters,
  outbox: { put: async (entries) => void records.push(...entries.map(({ record }) => record)) },
  seeds: [],
  onFault: (failure) => {
    throw failure;
  },
  sampleMs: 100,
  recordMs: 500,
});
meter.instanceStarted({
  instance: 'i-1', owner: { provider: 'acme', scope: 'main', app: 'shop' }, release: 1, pid: 1, address: '', tookMs: 0, stepsMs: {}, cgroup, logPath: '', logStartBytes: 0, restored: false,
});
console.log('metering');
process.stdin.once('data', async () => {
  meter.instanceEnded('i-1', readCounters(cgroup));
  await meter.stop();
  console.log(JSON.stringify(records));
  process.exit(0);
});
