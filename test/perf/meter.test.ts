import t from 'tap';
import { PackedTexts } from '../../host/packed-texts.ts';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import type { KernelCounters } from '../../edgepoint/model/calls.ts';
import { startMeter } from '../../edgepoint/perf/meter.ts';
import type { Meter, MeterOptions } from '../../edgepoint/perf/meter.ts';
import type { OutboxEntry } from '../../edgepoint/perf/record-writer.ts';
import type { UsageState } from '../../edgepoint/perf/usage.ts';

const owner = { provider: 'acme', scope: 'main', app: 'shop' };
const site = { zone: 'north', edgepoint: 'north-1' };

/** An edgepoint's clock, kernel counters and database, as far as the meter sees them. */
class Bench {
  bootNs = 100e9;
  bootId = '11111111-boot';
  counters = new Map<string, KernelCounters>();
  entries: OutboxEntry[] = [];
  faults: unknown[] = [];
  databaseAway = false;

  options(changes: Partial<MeterOptions> = {}): MeterOptions {
    return {
      clock: { bootNs: () => this.bootNs, bootId: this.bootId, wallMs: () => 42 },
      site,
      readCounters: ({ cpu }) => this.counters.get(cpu) ?? null,
      outbox: {
        put: async (entries) => {
          if (this.databaseAway) throw new Error('disk full');
          this.entries.push(...entries);
        },
      },
      seeds: [],
      texts: new PackedTexts(),
      onFault: (failure) => this.faults.push(failure),
      ...changes,
    };
  }

  running(instance: string, restored = false): RunningInstance {
    return {
      instance, owner, release: 1, pid: 1, address: '10.0.0.2', tookMs: 1, stepsMs: {}, logPath: '/dev/null', logStartBytes: 0, restored,
      cgroup: { version: 1, cpu: instance, memory: instance, pids: instance, freezer: instance },
    };
  }

  /** What a head that starts now would find in its database. */
  seeds(): UsageState[] {
    const states = new Map<string, UsageState>();
    for (const { record, state } of this.entries) {
      if (state) states.set(record.instance, JSON.parse(JSON.stringify(state)));
      else states.delete(record.instance);
    }
    return [...states.values()];
  }

  last(instance: string) {
    return this.entries.findLast(({ record }) => record.instance === instance)?.record;
  }
}

/** Waits until something holds; the test fails by its own assertion when it does not within two seconds. */
async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 2000;
  while (!holds() && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 2));
}

const timers = (): number => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;

t.test('an instance has a record at its start, at intervals and at its end, and only running ones have a timer', async (t) => {
  const bench = new Bench();
  const before = timers();
  const meter = startMeter(bench.options({ sampleMs: 5, recordMs: 10 }));
  t.equal(timers(), before, 'nothing runs: no timer');
  bench.counters.set('i-1', { cpuNs: 1e6, memoryBytes: 1000 });
  meter.instanceStarted(bench.running('i-1', true));
  await until(() => bench.entries.length > 0);
  t.match(bench.last('i-1'), { id: 'i-1/1', final: false, totals: { cpuNs: 1e6, memoryByteSeconds: 0, wakes: 1 } });
  bench.bootNs += 10e9;
  bench.counters.set('i-1', { cpuNs: 3e6, memoryBytes: 1000 });
  await until(() => bench.entries.length > 1);
  t.match(bench.last('i-1'), { id: 'i-1/2', totals: { cpuNs: 3e6, memoryByteSeconds: 10_000 } });
  bench.bootNs += 1e9;
  meter.instanceEnded('i-1', { cpuNs: 9e6, memoryBytes: 3000 });
  meter.instanceEnded('i-1', { cpuNs: 9e6, memoryBytes: 3000 });
  await until(() => bench.last('i-1')?.final === true);
  t.match(bench.entries.at(-1), { state: null, record: { id: 'i-1/3', final: true, totals: { cpuNs: 9e6, memoryByteSeconds: 12_000 } } });
  t.equal(timers(), before, 'nothing runs any more: no timer');
  await meter.stop();
  t.equal(bench.entries.length, 3, 'an ended instance is recorded once');
});

t.test('traffic heard after the end is still counted', async (t) => {
  const bench = new Bench();
  const meter = startMeter(bench.options());
  meter.instanceStarted(bench.running('i-1'));
  meter.traffic([{ instance: 'i-1', requests: 4, bytesIn: 1, bytesOut: 2 }], 'd-1');
  meter.instanceEnded('i-1', { cpuNs: 1, memoryBytes: 0 });
  meter.traffic([{ instance: 'i-1', requests: 6, bytesIn: 1, bytesOut: 5 }, { instance: 'stranger', requests: 1, bytesIn: 1, bytesOut: 1 }], 'd-1');
  meter.traffic([{ instance: 'i-1', requests: 6, bytesIn: 1, bytesOut: 5 }], 'd-1');
  await meter.stop();
  t.match(bench.last('i-1'), { final: true, totals: { requests: 6, bytesIn: 1, bytesOut: 5 } });
});

t.test('a head that was killed goes on from the last stored totals: nothing twice, the sequence on', async (t) => {
  const bench = new Bench();
  const first = startMeter(bench.options());
  bench.counters.set('i-1', { cpuNs: 5e9, memoryBytes: 100 });
  bench.counters.set('i-2', { cpuNs: 1e9, memoryBytes: 100 });
  first.instanceStarted(bench.running('i-1', true));
  first.instanceStarted(bench.running('i-2'));
  first.traffic([{ instance: 'i-1', requests: 10, bytesIn: 100, bytesOut: 1000 }], 'd-1');
  await first.stop();
  t.equal(bench.last('i-1')?.totals.requests, 10);
  const sequence = bench.last('i-1')?.sequence ?? 0;

  bench.bootNs += 10e9;
  bench.counters.set('i-1', { cpuNs: 7e9, memoryBytes: 300 });
  const second = startMeter(bench.options({ seeds: bench.seeds() }));
  second.traffic([{ instance: 'i-1', requests: 12, bytesIn: 120, bytesOut: 1200 }], 'd-1');
  second.adopt([bench.running('i-1', true)], []);
  await second.stop();
  t.match(bench.last('i-1'), { final: false, totals: { cpuNs: 7e9, memoryByteSeconds: 2000, requests: 12, bytesIn: 120, bytesOut: 1200, wakes: 1 } });
  t.ok((bench.last('i-1')?.sequence ?? 0) > sequence);
  t.match(bench.last('i-2'), { final: true, totals: { cpuNs: 1e9 } }, 'what ended meanwhile is closed with what is known of it');
  const ids = bench.entries.map(({ record }) => record.id);
  t.equal(new Set(ids).size, ids.length, 'no id is used twice');
});

t.test('what lies at rest is counted between changes, across restarts, and not across a reboot', async (t) => {
  const bench = new Bench();
  const template = { owner, release: 3, item: 'template-3', bytes: 1000 };
  const first = startMeter(bench.options());
  first.adopt([], [template]);
  first.stored(template);
  bench.bootNs += 10e9;
  await first.stop();
  const instance = bench.entries[0]?.record.instance ?? '';
  t.match(instance, /^storage:shop:template-3:11111111-/);
  t.equal(bench.last(instance)?.totals.storageByteSeconds, 10_000);

  const second = startMeter(bench.options({ seeds: bench.seeds() }));
  bench.bootNs += 5e9;
  second.adopt([], [{ ...template, bytes: 2000 }]);
  bench.bootNs += 5e9;
  second.stored({ ...template, bytes: 0 });
  bench.bootNs += 5e9;
  second.stored(template);
  await second.stop();
  t.match(bench.last(instance), { final: true, totals: { storageByteSeconds: 25_000 } });
  const again = bench.entries.at(-1)?.record.instance ?? '';
  t.not(again, instance, 'the same item made again is counted anew');

  const seeds = bench.seeds();
  bench.bootNs = 1e9;
  bench.bootId = '22222222-boot';
  const third = startMeter(bench.options({ seeds }));
  third.adopt([], [template]);
  bench.bootNs += 1e9;
  await third.stop();
  t.match(bench.last(again), { final: true, bootId: '11111111-boot', totals: { storageByteSeconds: 0 } });
  t.match(bench.entries.at(-1)?.record, { bootId: '22222222-boot', totals: { storageByteSeconds: 1000 } });
  t.ok(bench.entries.every(({ record }) => record.toBootNs >= record.fromBootNs));
});

t.test('a database that is away loses nothing: the newest record of each instance is stored when it is back', async (t) => {
  const bench = new Bench();
  bench.databaseAway = true;
  const meter: Meter = startMeter(bench.options());
  bench.counters.set('i-1', { cpuNs: 5, memoryBytes: 0 });
  meter.instanceStarted(bench.running('i-1'));
  await until(() => bench.faults.length > 0);
  meter.instanceEnded('i-1', { cpuNs: 77, memoryBytes: 0 });
  t.equal(bench.entries.length, 0);
  bench.databaseAway = false;
  await until(() => bench.entries.length > 0);
  t.match(bench.last('i-1'), { final: true, totals: { cpuNs: 77 } });
  await meter.stop();
});

t.test('counters that cannot be read are told, and counting goes on', async (t) => {
  const bench = new Bench();
  const meter = startMeter(bench.options({ readCounters: () => { throw new Error('EACCES'); } }));
  meter.instanceStarted(bench.running('i-1'));
  t.equal(bench.faults.length, 1);
  meter.instanceEnded('i-1', { cpuNs: 77, memoryBytes: 0 });
  await meter.stop();
  t.match(bench.last('i-1'), { final: true, totals: { cpuNs: 77 } });
});
