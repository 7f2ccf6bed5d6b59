import t from 'tap';
import { bytesPerGibibyte } from '../../kit/units.ts';
import { liveOneDay } from '../../simulator/day.ts';
import type { DayOptions, DayResult } from '../../simulator/day.ts';
import { arrivalsOf, planDemand } from '../../simulator/demand.ts';
import type { SimulatedApp } from '../../simulator/demand.ts';
import { plotPanels } from '../../simulator/plot.ts';
import { VirtualTime } from '../../simulator/virtual-time.ts';

const seconds = 1800;
const day = (about: Partial<DayOptions> & { seed?: number } = {}): Promise<DayResult> => {
  const { seed = 7 } = about;
  return liveOneDay({
    apps: planDemand({ seed, apps: 40, meanRate: 12, hours: 1 }),
    arrivals: (app, index) => arrivalsOf(app, seconds, seed * 1000 + index),
    seconds,
    stretchSeconds: 300,
    capacityBytes: 8 * bytesPerGibibyte,
    frozenBytes: 2 * bytesPerGibibyte,
    fixed: null,
    ...about,
  });
};

t.test('the same seed is the same day, another seed another', async (t) => {
  const [one, again, other] = [await day(), await day(), await day({ seed: 8 })];
  const text = (lived: DayResult): string => JSON.stringify(lived);
  t.ok(text(again) === text(one));
  t.not(text(other).length, text(one).length);
});

t.test('every request is served or refused, and none is counted twice', async (t) => {
  for (const seed of [1, 2, 3]) {
    const lived = await day({ seed });
    const waiting = lived.requests - lived.refused - lived.waitsMs.length;
    t.ok(waiting >= 0 && waiting < 20, `seed ${seed}: ${waiting} of ${lived.requests} wait at the end`);
    t.ok(lived.requests > 1000);
  }
});

t.test('apps that nobody wants sleep; what is fixed does not', async (t) => {
  const quiet: SimulatedApp[] = planDemand({ seed: 1, apps: 5, meanRate: 1, hours: 1 }).map((app) => ({ ...app, provider: 'quiet' }));
  const once = function* () {
    yield { second: 1, serviceMs: 50 };
  };
  const asleep = await day({ apps: quiet, arrivals: once });
  t.equal(asleep.requests, 5);
  t.equal(asleep.wakes, 5);
  t.ok(asleep.stretches.slice(1).every(({ instances, frozen }) => instances + frozen === 0), 'after five minutes all are asleep');
  t.ok(asleep.waitsMs.every((ms) => ms >= 27 && ms < 300), `each waited for its restore: ${[...asleep.waitsMs].map(Math.round).join()}`);
  const fixed = await day({ apps: quiet, arrivals: once, fixed: () => 2, capacityBytes: Infinity });
  t.ok(fixed.stretches.slice(1).every(({ instances }) => Math.round(instances) === 10), 'two of each, all the time');
  t.ok(fixed.waitsMs.every((ms) => ms === 0), 'and nobody waits');
  t.ok(fixed.costMicros > asleep.costMicros);
});

t.test('a full edgepoint puts the unused to sleep before it refuses', async (t) => {
  const [app] = planDemand({ seed: 1, apps: 1, meanRate: 1, hours: 1 });
  if (app === undefined) throw new Error('no app');
  const apps = ['a', 'b', 'c'].map((name) => ({ ...app, name, concurrency: 1, max: 1 }));
  const at = (second: number, serviceMs: number) => [{ second, serviceMs }];
  const room = { apps, capacityBytes: bytesPerGibibyte };
  const evicting = await day({ ...room, arrivals: (_, index) => at(1 + index, 10) });
  t.same([evicting.refused, evicting.waitsMs.length], [0, 3], 'two have room; the third waits until one of them sleeps');
  const full = await day({ ...room, arrivals: (_, index) => at(1 + index, 60_000) });
  t.same([full.refused, full.waitsMs.length], [1, 2], 'nobody is unused: the third is refused');
});

t.test('time waits for whoever awaits', async (t) => {
  const time = new VirtualTime();
  const seen: string[] = [];
  const walk = async (name: string, ms: number): Promise<void> => {
    for (let step = 0; step < 3; step += 1) {
      await time.pass(ms);
      seen.push(`${name}${time.nowNs / 1_000_000}`);
    }
  };
  void walk('a', 10);
  void walk('b', 15);
  time.at(20_000_000, () => seen.push('c20'));
  const forget = time.at(21_000_000, () => seen.push('never'));
  forget();
  await time.runUntil(40_000_000);
  t.same(seen, ['a10', 'b15', 'c20', 'a20', 'b30', 'a30']);
  await time.runUntil(50_000_000);
  t.equal(seen.at(-1), 'b45');
});

t.test('the plot is an SVG whose lines stay inside, also of nothing and of much', async (t) => {
  for (const values of [[0, 0, 0], [1, 1e9, 3], [0.001, 0.002]]) {
    for (const logarithmic of [false, true]) {
      const svg = plotPanels('a < b & c', 24, [{ title: 'x', unit: 'ms', logarithmic, series: [{ label: 'one', colour: '#000', values }] }]);
      t.match(svg, /a &lt; b &amp; c/);
      const points = [...svg.matchAll(/points="([^"]+)"/g)].flatMap(([, text]) => (text ?? '').split(' ').map((point) => point.split(',').map(Number)));
      t.equal(points.length, values.length);
      t.ok(points.every(([x = NaN, y = NaN]) => x > 0 && x < 960 && y > 0 && y < 400), JSON.stringify(points));
    }
  }
});
