import assert from 'node:assert/strict';
import { request } from 'node:http';
import fc from 'fast-check';
import t from 'tap';
import { chooseInstance } from '../../edgepoint/dispatcher/choose-instance.ts';
import type { Candidate } from '../../edgepoint/dispatcher/choose-instance.ts';
import { notAnOutlier, noteAnswer, outlierRules } from '../../edgepoint/dispatcher/outlier.ts';
import { shareMin, shareOfAge } from '../../edgepoint/dispatcher/slow-start.ts';
import { Switchboard } from '../../edgepoint/dispatcher/switchboard.ts';
import { exponential, openChance } from '../../simulator/chance.ts';
import { openInstance, openRig, routeOf, until } from './rig.ts';

const second = 1_000_000_000;
const terms = { concurrency: 16, slowStartNs: 10 * second, nowBootNs: 100 * second, wanted: null };
/** One that has served for so many seconds. */
const aged = (instance: string, seconds: number, outstanding: number, more: Partial<Candidate> = {}): Candidate => ({ instance, outstanding, unavailable: '', sinceBootNs: terms.nowBootNs - seconds * second, outlierUntilBootNs: 0, ...more });

t.test('the share of an instance by its age', async (t) => {
  const rows = [
    [0, 0, 1],
    [0, 10, shareMin],
    [0.5, 10, shareMin],
    [1, 10, 0.1],
    [5, 10, 0.5],
    [10, 10, 1],
    [1000, 10, 1],
    [-1, 10, shareMin],
  ] as const;
  for (const [age, slowStart, share] of rows) t.equal(shareOfAge(age * second, slowStart * second), share, `${age} s of ${slowStart} s`);
});

t.test('who is chosen while one has just come', async (t) => {
  const rows: readonly (readonly [label: string, candidates: readonly Candidate[], chosen: string | null, reason: RegExp])[] = [
    ['it is the only one', [aged('new', 0, 15)], 'new', /^least outstanding$/],
    ['those that serve have a few', [aged('old', 50, 4), aged('new', 0, 0)], 'old', /others have just begun/],
    ['those that serve have ten times as many', [aged('old', 50, 10), aged('new', 0, 0)], 'new', /^least outstanding$/],
    ['as many, for their shares', [aged('old', 50, 9), aged('new', 0, 0)], 'old', /just begun/],
    ['in the middle it has half of what the others have', [aged('old', 50, 6), aged('new', 5, 3)], 'old', /just begun/],
    ['less than half', [aged('old', 50, 6), aged('new', 5, 2)], 'new', /^least outstanding$/],
    ['those that serve are full', [aged('old', 50, 16), aged('new', 0, 15)], 'new', /^least outstanding$/],
    ['all have just come', [aged('one', 0, 3), aged('two', 0, 2)], 'two', /^least outstanding$/],
    ['it has come of age', [aged('old', 50, 4), aged('new', 10, 0)], 'new', /^least outstanding$/],
    ['an outlier beside it', [aged('old', 50, 0, { outlierUntilBootNs: 101 * second }), aged('new', 0, 15)], 'new', /^least outstanding$/],
    ['an outlier, and nobody else has room', [aged('old', 50, 2, { outlierUntilBootNs: 101 * second }), aged('new', 0, 16)], 'old', /no other has room/],
    ['an outlier whose time is over', [aged('old', 50, 0, { outlierUntilBootNs: 100 * second }), aged('two', 50, 1)], 'old', /^least outstanding$/],
    ['only outliers: the least busy', [aged('a', 50, 3, { outlierUntilBootNs: 101 * second }), aged('b', 50, 2, { outlierUntilBootNs: 101 * second })], 'b', /no other has room/],
  ];
  for (const [label, candidates, chosen, reason] of rows) {
    const choice = chooseInstance(candidates, terms);
    t.equal(choice.chosen?.instance ?? null, chosen, label);
    t.match(choice.reason, reason, label);
  }
  const returns = chooseInstance([aged('old', 50, 0), aged('new', 0, 5)], { ...terms, wanted: ({ instance }) => instance === 'new' });
  t.equal(returns.chosen?.instance, 'new', 'a client that returns to it does');
});

t.test('neither a share nor an outlier ever has a request wait for which there is room', async () => {
  const candidate = fc.record({
    age: fc.integer({ min: 0, max: 20 }),
    outstanding: fc.nat(3),
    unavailable: fc.constantFrom('' as const, 'draining' as const, 'suspect' as const),
    outlier: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(candidate, { maxLength: 5 }), (some) => {
      const candidates = some.map(({ age, outstanding, unavailable, outlier }, index) => aged(`i-${index}`, age, outstanding, { unavailable, outlierUntilBootNs: outlier ? 200 * second : 0 }));
      const able = candidates.filter(({ unavailable, outstanding }) => unavailable === '' && outstanding < 3);
      const { chosen } = chooseInstance(candidates, { ...terms, concurrency: 3 });
      assert.equal(chosen !== null, able.length > 0);
      if (chosen !== null) assert.ok(able.includes(chosen));
    }),
  );
});

/**
 * A program that compiles as it runs, in virtual time: an instance works on one request at a time, on its first for 100 ms, over its first 40
 * ever less, and then for 10 ms. Two serve, and are busy nine tenths of their time; after a second a fresh one comes beside them. How long the
 * requests of the five seconds afterwards took.
 */
function latenciesMs(slowStartSeconds: number, seed: number): number[] {
  const chance = openChance(seed);
  const instances = ['one', 'two'].map((instance) => ({ ...aged(instance, 0, 0), sinceBootNs: -100 * second, done: 1000, freeAtMs: 0, outstanding: 0 }));
  let underWay: { endMs: number; of: (typeof instances)[number] }[] = [];
  const latencies: number[] = [];
  for (let nowMs = 0; nowMs < 6000; nowMs += exponential(chance, 1000 / 190)) {
    if (nowMs >= 1000 && instances.length === 2) instances.push({ ...aged('new', 0, 0), sinceBootNs: nowMs * 1_000_000, done: 0, freeAtMs: 0, outstanding: 0 });
    for (const { of } of underWay.filter(({ endMs }) => endMs <= nowMs)) of.outstanding -= 1;
    underWay = underWay.filter(({ endMs }) => endMs > nowMs);
    const { chosen } = chooseInstance(instances, { concurrency: 64, slowStartNs: slowStartSeconds * second, nowBootNs: nowMs * 1_000_000, wanted: null });
    assert.ok(chosen);
    chosen.freeAtMs = Math.max(nowMs, chosen.freeAtMs) + 10 + Math.max(0, 1 - chosen.done / 40) * 90;
    chosen.done += 1;
    chosen.outstanding += 1;
    underWay.push({ endMs: chosen.freeAtMs, of: chosen });
    if (nowMs >= 1000) latencies.push(chosen.freeAtMs - nowMs);
  }
  return latencies;
}

t.test('the slowest answers of a program that compiles as it runs are faster with a slow start', async (t) => {
  const seeds = Array.from({ length: 30 }, (_, index) => index + 1);
  const p99 = (slowStartSeconds: number): number => {
    const all = seeds.flatMap((seed) => latenciesMs(slowStartSeconds, seed)).toSorted((a, b) => a - b);
    return all[Math.floor(all.length * 0.99)] ?? 0;
  };
  const [none, two, five] = [p99(0), p99(2), p99(5)];
  t.comment(`p99 over the five seconds after it came: ${none.toFixed(0)} ms; with 2 s ${two.toFixed(0)} ms, with 5 s ${five.toFixed(0)} ms`);
  t.ok(two < none * 0.85, `${two} against ${none}`);
  t.ok(five < none * 0.7, `${five} against ${none}`);
});

t.test('the switchboard goes by the age of instances, and by the clock it is given', async (t) => {
  let nowBootNs = 100 * second;
  const news = { demandChanged: () => undefined, suspect: () => undefined, outlier: () => undefined, held: () => undefined };
  const switchboard = new Switchboard(news, { nowMs: () => nowBootNs / 1_000_000, nowBootNs: () => nowBootNs, nowWallMs: () => nowBootNs / 1_000_000, chance: () => 0 });
  const route = (...names: readonly string[]) => ({ ...routeOf([]), slowStartMs: 10_000, concurrency: 4, instances: names.map((instance) => ({ instance, address: '127.0.0.1', port: 1 })) });
  const given = (): string => {
    let name = '';
    switchboard.submit({ host: 'shop.test', hostName: 'shop.test', hold: null, drawn: false, quiet: false, assign: (_, { instance }) => void (name = instance), refuse: () => undefined, elsewhere: () => null, isHealthCheck: () => false, affinity: () => '' });
    return name;
  };
  await switchboard.routes([route('one')]);
  t.equal(given(), 'one', 'it is the only one');
  nowBootNs += 3600 * second;
  await switchboard.route(route('one', 'two'));
  t.same([given(), given(), given()], ['one', 'one', 'one'], 'the newcomer has a tenth of its share');
  t.same([given(), given()], ['two', 'two'], 'the other is full');
  nowBootNs += 10 * second;
  t.same([given(), given()], ['two', 'two'], 'its share is whole');
  t.equal(given(), '', 'and both are full');
});

t.test('five failures in a row put an instance behind the others', async (t) => {
  const nowNs = 1000 * second;
  const others = { able: 1, outliers: 0 };
  const after = (statuses: readonly (number | null)[], beside = others, from = notAnOutlier) => statuses.reduce((known, status) => noteAnswer(known, status, beside, nowNs), from);
  t.same(after([500, 500, 500, 500]), { failedInRow: 4, untilBootNs: 0, times: 0 });
  t.same(after([500, 502, null, 503, 500]), { failedInRow: 0, untilBootNs: nowNs + outlierRules.firstNs, times: 1 });
  t.same(after([500, 500, 500, 500, 404, 500]), { failedInRow: 1, untilBootNs: 0, times: 0 }, 'one good answer begins the count anew');
  t.equal(after([500, 500, 500, 500, 500, 500], { able: 0, outliers: 0 }).untilBootNs, 0, 'one that is alone is compared with nobody');
  t.equal(after([500, 500, 500, 500, 500], { able: 1, outliers: 1 }).untilBootNs, 0, 'never more than half of them');
  t.equal(after([500, 500, 500, 500, 500], { able: 3, outliers: 1 }).times, 1);
  const once = { failedInRow: 0, untilBootNs: nowNs, times: 1 };
  t.equal(after([500, 500, 500, 500, 500], others, once).untilBootNs, nowNs + 2 * outlierRules.firstNs, 'the second time for twice as long');
  t.equal(after([500, 500, 500, 500, 500], others, { ...once, times: 1000 }).untilBootNs, nowNs + outlierRules.mostNs);
  t.same(noteAnswer(once, 200, others, nowNs), once, 'a good answer soon afterwards forgives nothing');
  t.same(noteAnswer(once, 200, others, nowNs + outlierRules.firstNs), notAnOutlier, 'one later does');
  t.equal(noteAnswer(notAnOutlier, 200, others, nowNs), notAnOutlier);
});

const ask = (port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    request({ port, path: '/', headers: { host: 'shop.test' }, agent: false }, (response) => {
      let text = '';
      response.on('data', (bytes: Buffer) => (text += bytes.toString())).once('end', () => resolve(`${response.statusCode} ${text}`));
    }).once('error', reject).end();
  });

t.test('through a dispatcher: one that only fails gets nothing while others serve', async (t) => {
  const rig = await openRig(t);
  let failing = true;
  const sick = await openInstance(t, 'sick', (_, response) => void response.writeHead(failing ? 500 : 200).end('sick'));
  const well = await openInstance(t, 'well', (_, response) => void response.end('well'));
  await rig.route([sick, well]);
  for (let count = 0; count < outlierRules.failedInRow; count += 1) t.equal(await ask(rig.port), '500 sick');
  await until('its failures are told', () => rig.said().includes('instance sick failed several times in a row'));
  t.equal(await ask(rig.port), '200 well', 'sick is the first of two idle ones, and yet it is not chosen');
  failing = false;
  await rig.route([sick]);
  t.equal(await ask(rig.port), '200 sick', 'alone it has the requests: nobody waits on its account');
});
