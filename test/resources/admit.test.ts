import t from 'tap';
import { planApp, planEdgepoint } from '../../edgepoint/resources/plan/plan.ts';
import { planEvict } from '../../edgepoint/resources/plan/evict.ts';
import { planPlace } from '../../edgepoint/resources/plan/place.ts';
import type { AppView } from '../../edgepoint/resources/plan/view.ts';
import { app, instance, nowBootNs, printPlan, second, serving } from './views.ts';

/** Four instances have room. */
const capacityBytes = 2048;
const idle = (id: string, seconds: number) => instance(id, { lastActiveBootNs: nowBootNs - seconds * second });
const busy = (id: string) => instance(id, { outstanding: 1 });
const other = (name: string, about: Partial<AppView>) => app({ app: `p.main.${name}`, ...about });
const asks = app({ app: 'p.main.asks', waiting: 1 });

const rows: readonly [string, readonly AppView[], string][] = [
  ['there is room', [asks, other('a', { instances: [busy('i-1'), busy('i-2'), busy('i-3')] })], 'wake template: 1 waiting and none warm'],
  [
    'full: the one unused longest makes room',
    [asks, other('a', { instances: [busy('i-1'), idle('i-2', 3)] }), other('b', { instances: [idle('i-3', 9), busy('i-4')] })],
    'sleep i-3: its memory is wanted for p.main.asks\nnote: p.main.asks: makes room by putting 1 unused to sleep',
  ],
  [
    'full, but one is leaving already',
    [asks, other('a', { instances: [busy('i-1'), busy('i-2'), busy('i-3'), instance('i-4', { mode: 'draining' })] })],
    'note: p.main.asks: others are on their way to sleep\nnote: p.main.a: one goes to sleep already; one by one',
  ],
  [
    'full of work: refused, honestly',
    [asks, other('a', { instances: ['i-1', 'i-2', 'i-3', 'i-4'].map(busy) })],
    'refuse: this edgepoint is full: 512 B wanted, 0 B of 2.0 KiB free, and nobody is unused\n' +
      'note: p.main.asks: this edgepoint is full: 512 B wanted, 0 B of 2.0 KiB free, and nobody is unused\nlook again in 1 s',
  ],
  [
    'full of work, and somebody has been waiting for a second: perhaps one is done soon',
    [app({ app: 'p.main.asks', waiting: 1, waitingSinceBootNs: nowBootNs - second }), other('a', { instances: ['i-1', 'i-2', 'i-3', 'i-4'].map(busy) })],
    'note: p.main.asks: this edgepoint is full: 512 B wanted, 0 B of 2.0 KiB free, and nobody is unused\nlook again in 9 s',
  ],
  [
    'full of work for ten seconds: refused after all',
    [app({ app: 'p.main.asks', waiting: 1, waitingSinceBootNs: nowBootNs - 10 * second }), other('a', { instances: ['i-1', 'i-2', 'i-3', 'i-4'].map(busy) })],
    'refuse: this edgepoint is full: 512 B wanted, 0 B of 2.0 KiB free, and nobody is unused\n' +
      'note: p.main.asks: this edgepoint is full: 512 B wanted, 0 B of 2.0 KiB free, and nobody is unused\nlook again in 1 s',
  ],
  [
    'full, and the unused one is another’s least',
    [asks, other('a', { serving: serving({ min: 1 }), instances: [idle('i-1', 9)] }), other('b', { instances: ['i-2', 'i-3', 'i-4'].map(busy) })],
    'refuse: this edgepoint is full: 512 B wanted, 0 B of 2.0 KiB free, and nobody is unused\n' +
      'note: p.main.asks: this edgepoint is full: 512 B wanted, 0 B of 2.0 KiB free, and nobody is unused\nlook again in 1 s',
  ],
];

for (const [story, apps, expected] of rows) {
  t.test(story, async (t) => {
    // The others would not sleep by themselves.
    const patient = apps.map((view) => ({ ...view, serving: view.serving && { ...view.serving, idleNs: 1e15 } }));
    const plan = planEdgepoint({ nowBootNs, capacityBytes, frozenRoom: { zramBytes: null, pagerBytes: null }, apps: patient });
    const soon = plan.lookAgainBootNs !== null && plan.lookAgainBootNs < nowBootNs + 60 * second;
    t.equal(printPlan({ ...plan, lookAgainBootNs: soon ? plan.lookAgainBootNs : null }), expected);
  });
}

t.test('one that has some instances is not refused for want of more', async (t) => {
  const view = app({ waiting: 1, instances: [instance('i-1', { outstanding: 16 })] });
  const plan = planApp(view, nowBootNs, () => ({ capacityBytes: 512, usedBytes: 512, leavingBytes: 0, frozenRoom: { zramBytes: null, pagerBytes: null }, idle: [] }));
  t.strictSame(plan.steps, []);
  t.match(plan.notes[0], /full/);
});

t.test('nobody is disturbed when it would not help', async (t) => {
  const candidate = (id: string, memoryBytes: number, frozen = false) => ({ app: 'p.main.a', id, memoryBytes, lastActiveBootNs: 1, frozen });
  t.equal(planEvict([candidate('i-1', 10), candidate('i-2', 10)], 30, 'p.main.b'), null);
  t.strictSame(planEvict([candidate('i-1', 10), candidate('i-2', 10)], 15, 'p.main.b')?.map(({ id }) => id), ['i-1', 'i-2']);
  t.equal(planEvict([candidate('i-1', 10)], 5, 'p.main.a'), null, 'an app does not evict itself');
  t.strictSame(planEvict([candidate('i-1', 10), candidate('i-2', 10, true)], 5, 'p.main.b')?.map(({ id }) => id), ['i-2'], 'frozen ones go first');
});

t.test('the freest module is chosen', async (t) => {
  t.equal(planPlace([{ name: 'a', freeBytes: 5 }, { name: 'b', freeBytes: 9 }], 4)?.module, 'b');
  t.equal(planPlace([{ name: 'b', freeBytes: 9 }, { name: 'a', freeBytes: 9 }], 4)?.module, 'a');
  t.equal(planPlace([{ name: 'a', freeBytes: 3 }], 4), null);
});
