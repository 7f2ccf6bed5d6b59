import fc from 'fast-check';
import t from 'tap';
import { addSample, addStorage, addTraffic, beginUsage, makeRecord } from '../../edgepoint/perf/usage.ts';
import type { UsageState } from '../../edgepoint/perf/usage.ts';

const owner = { provider: 'acme', scope: 'main', app: 'shop' };
const site = { zone: 'north', edgepoint: 'north-1' };
const begin = (restored = false): UsageState =>
  beginUsage({ instance: 'i-1', owner, release: 3, item: '', bootId: 'boot-1', bootNs: 10e9, restored });
const at = (seconds: number, cpuSeconds: number, memoryBytes: number) => ({ bootNs: seconds * 1e9, cpuNs: cpuSeconds * 1e9, memoryBytes });

t.test('memory is the area under straight lines between samples', async (t) => {
  const table = [
    { name: 'one sample has no area', samples: [at(10, 0, 100)], area: 0 },
    { name: 'level', samples: [at(10, 0, 100), at(12, 0, 100)], area: 200 },
    { name: 'rising', samples: [at(10, 0, 0), at(12, 0, 100)], area: 100 },
    { name: 'rising, then falling', samples: [at(10, 0, 0), at(12, 0, 100), at(13, 0, 0)], area: 150 },
    { name: 'a sample that is not later adds nothing', samples: [at(10, 0, 100), at(12, 0, 100), at(11, 0, 900)], area: 200 },
  ];
  for (const { name, samples, area } of table) {
    t.equal(samples.reduce(addSample, begin()).totals.memoryByteSeconds, area, name);
  }
});

t.test('cpu is the kernel\'s own total, whichever samples were missed, and never falls', async (t) => {
  t.equal([at(10, 1, 0), at(11, 2, 0), at(12, 5, 0)].reduce(addSample, begin()).totals.cpuNs, 5e9);
  t.equal([at(12, 5, 0)].reduce(addSample, begin()).totals.cpuNs, 5e9);
  t.equal([at(10, 5, 0), at(11, 2, 0)].reduce(addSample, begin()).totals.cpuNs, 5e9);
});

t.test('traffic counts the growth of each dispatcher\'s totals', async (t) => {
  let state = begin(true);
  const say = (epoch: string, requests: number) => (state = addTraffic(state, epoch, { requests, bytesIn: requests * 10, bytesOut: requests * 100 }));
  say('a', 3);
  say('a', 3);
  t.equal(state.totals.requests, 3, 'the same totals twice count once');
  say('a', 5);
  say('b', 2);
  t.equal(state.totals.requests, 7, 'a new dispatcher begins at zero');
  say('a', 6);
  t.equal(state.totals.requests, 8, 'the old one may still speak while it hands over');
  say('b', 1);
  t.equal(state.totals.requests, 8, 'totals that fell count nothing');
  t.match(state.totals, { bytesIn: 80, bytesOut: 800, wakes: 1 });
});

t.test('any samples and traffic, cut by restarts anywhere, give what an uninterrupted meter gives, and records only grow', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('sample' as const), seconds: fc.integer({ min: 0, max: 100 }), cpu: fc.nat(1e9), memoryBytes: fc.nat(1e9) }),
    fc.record({ kind: fc.constant('traffic' as const), epoch: fc.constantFrom('a', 'b', 'c'), requests: fc.nat(100) }),
    fc.record({ kind: fc.constant('restart' as const) }),
    fc.record({ kind: fc.constant('record' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let state = begin();
      let previous = makeRecord(state, { site, bootNs: 10e9, wallMs: 0, final: false }).record;
      // The dumb twin: sums written out longhand from the story itself.
      let nowSeconds = 10;
      let cpuNs = 0;
      let lastMemory: number | undefined;
      let area = 0;
      const heard = new Map<string, number>();
      for (const step of steps) {
        if (step.kind === 'sample') {
          nowSeconds += step.seconds;
          cpuNs += step.cpu;
          if (lastMemory !== undefined) area += ((lastMemory + step.memoryBytes) / 2) * step.seconds;
          lastMemory = step.memoryBytes;
          state = addSample(state, { bootNs: nowSeconds * 1e9, cpuNs, memoryBytes: step.memoryBytes });
        } else if (step.kind === 'traffic') {
          heard.set(step.epoch, Math.max(heard.get(step.epoch) ?? 0, step.requests));
          state = addTraffic(state, step.epoch, { requests: step.requests, bytesIn: 0, bytesOut: 0 });
        } else if (step.kind === 'restart') {
          state = JSON.parse(JSON.stringify(state));
        } else {
          const made = makeRecord(state, { site, bootNs: nowSeconds * 1e9, wallMs: -1, final: false });
          state = made.state;
          for (const name of Object.keys(previous.totals) as (keyof typeof previous.totals)[]) {
            if (made.record.totals[name] < previous.totals[name]) return false;
            if (!Number.isInteger(made.record.totals[name])) return false;
          }
          if (made.record.sequence !== state.sequence || made.record.sequence < previous.sequence) return false;
          previous = made.record;
        }
      }
      const requests = [...heard.values()].reduce((sum, count) => sum + count, 0);
      const areaAgrees = Math.abs(state.totals.memoryByteSeconds - area) <= 1e-9 * area;
      return state.totals.cpuNs === cpuNs && areaAgrees && state.totals.requests === requests;
    }),
    { numRuns: 300, verbose: 1 },
  );
});

t.test('what lies at rest is its size times its time, between moments at which it changed', async (t) => {
  let state = beginUsage({ instance: 'storage:x', owner, release: 3, item: 'template-3', bootId: 'boot-1', bootNs: 0, restored: false });
  state = addStorage(state, 1000, 0);
  state = addStorage(state, 500, 10e9);
  state = addStorage(state, 0, 14e9);
  state = addStorage(state, 0, 99e9);
  t.equal(state.totals.storageByteSeconds, 12_000);
  t.equal(addStorage(addStorage(state, 700, 100e9), 700, 50e9).totals.storageByteSeconds, 12_000, 'a clock that stands before the last change adds nothing');
});

t.test('a record names its instance, its place in the sequence and its span', async (t) => {
  const made = makeRecord(begin(true), { site, bootNs: 12e9, wallMs: 5, final: true });
  t.match(made.record, { id: 'i-1/1', sequence: 1, fromBootNs: 10e9, toBootNs: 12e9, final: true, zone: 'north', provider: 'acme', bootId: 'boot-1' });
  t.equal(makeRecord(made.state, { site, bootNs: 13e9, wallMs: 5, final: true }).record.id, 'i-1/2');
});
