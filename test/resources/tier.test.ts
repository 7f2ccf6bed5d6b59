import fc from 'fast-check';
import t from 'tap';
import { planApp } from '../../edgepoint/resources/plan/plan.ts';
import { planTier, savedMs, worthNs } from '../../edgepoint/resources/plan/tier.ts';
import type { TierView } from '../../edgepoint/resources/plan/tier.ts';
import type { AppView, RoomView } from '../../edgepoint/resources/plan/view.ts';
import { app, instance, nowBootNs, printPlan, second, serving } from './views.ts';

const mebibyte = 2 ** 20;
const zramAlone = { zramBytes: 1e10, pagerBytes: null };
const big: TierView = {
  idleNs: 15 * second,
  idleNsAllowed: 15 * second,
  wakeBy: 'template',
  wakeMs: 200,
  imageBytes: 400 * mebibyte,
  memoryBytes: 512 * mebibyte,
  gapsNs: [],
  load: 0,
  frozenRoom: zramAlone,
  others: false,
  frozen: false,
  cannotFreeze: false,
};
const small: TierView = { ...big, wakeMs: 20, imageBytes: 16 * mebibyte };
const minutes = (count: number): number => count * 60 * second;

const rows: readonly [string, TierView, string][] = [
  ['used a moment ago', { ...big, idleNs: 5 * second }, 'warm: used lately'],
  ['a big one', big, 'frozen: unused for 15.0 s; a wake from disk takes its next user 190 ms longer, which is worth 13 min 59 s of holding it'],
  ['a big one, frozen for a while', { ...big, frozen: true, idleNs: minutes(10) }, 'frozen: a wake from disk takes its next user 190 ms longer, which is worth 13 min 59 s of holding it'],
  ['a big one, frozen for long', { ...big, frozen: true, idleNs: minutes(15) }, 'asleep: unused for 15 min 0 s; holding it frozen costs more by now than that a wake from disk takes its next user 190 ms longer'],
  ['a big one while memory is scarce', { ...big, load: 0.9 }, 'frozen: unused for 15.0 s; a wake from disk takes its next user 190 ms longer, which is worth 83.9 s of holding it'],
  ['a big one that keeps its state, which a sleep would write', { ...big, wakeBy: 'keep' }, 'frozen: unused for 15.0 s; a wake from disk takes its next user 190 ms longer, which is worth 28 min 41 s of holding it'],
  ['a big one that wakes fast all the same', { ...big, wakeMs: 34 }, 'asleep: unused for 15.0 s'],
  ['a small one', small, 'asleep: unused for 15.0 s'],
  ['a small one, measured on a busy machine', { ...small, wakeMs: 900 }, 'asleep: unused for 15.0 s'],
  ['one of 120 MiB, measured on a busy machine', { ...big, imageBytes: 120 * mebibyte, wakeMs: 900 }, 'asleep: unused for 15.0 s'],
  ['one that boots slowly and cannot be restored', { ...small, wakeBy: 'cold', wakeMs: 4000, imageBytes: 0 }, 'frozen: unused for 15.0 s; a wake from disk takes its next user 4.0 s longer, which is worth 60 min 0 s of holding it'],
  ['one that boots fast and cannot be restored', { ...small, wakeBy: 'cold', wakeMs: 300, imageBytes: 0 }, 'asleep: unused for 15.0 s'],
  ['one that nobody has measured', { ...big, wakeMs: null }, 'asleep: unused for 15.0 s'],
  ['neither zram nor pagers', { ...big, frozenRoom: { zramBytes: null, pagerBytes: null } }, 'asleep: unused for 15.0 s'],
  ['zram is full', { ...big, frozenRoom: { zramBytes: 100 * mebibyte, pagerBytes: null } }, 'asleep: unused for 15.0 s; 400.0 MiB do not fit on zram any more'],
  ['it is on zram already', { ...big, frozen: true, frozenRoom: { zramBytes: 0, pagerBytes: null } }, 'frozen: a wake from disk takes its next user 190 ms longer, which is worth 13 min 59 s of holding it'],
  ['a pager would hold it, in less', { ...big, frozenRoom: { zramBytes: 1e10, pagerBytes: 1e10 } }, 'frozen: unused for 15.0 s; a wake from disk takes its next user 190 ms longer, which is worth 24 min 34 s of holding it'],
  ['pagers, and no zram', { ...big, frozenRoom: { zramBytes: null, pagerBytes: 1e10 } }, 'frozen: unused for 15.0 s; a wake from disk takes its next user 190 ms longer, which is worth 24 min 34 s of holding it'],
  ['pagers hold all they may', { ...big, frozenRoom: { zramBytes: 1e10, pagerBytes: 100 * mebibyte } }, 'asleep: unused for 15.0 s; 400.0 MiB are more than pagers may still take'],
  ['a pager holds it already', { ...big, frozen: true, frozenRoom: { zramBytes: null, pagerBytes: 0 } }, 'frozen: a wake from disk takes its next user 190 ms longer, which is worth 24 min 34 s of holding it'],
  ['too small for a pager, with zram', { ...big, wakeBy: 'cold', wakeMs: 1200, imageBytes: 32 * mebibyte, load: 0.99, frozenRoom: { zramBytes: 1e10, pagerBytes: 1e10 } }, 'frozen: unused for 15.0 s; a wake from disk takes its next user 1.2 s longer, which is worth 4 min 14 s of holding it'],
  ['too small for a pager, without zram', { ...big, wakeBy: 'cold', wakeMs: 1200, imageBytes: 32 * mebibyte, frozenRoom: { zramBytes: null, pagerBytes: 1e10 } }, 'asleep: unused for 15.0 s'],
  ['others of its app are there', { ...big, others: true }, 'asleep: unused for 15.0 s'],
  ['it could not be frozen', { ...big, cannotFreeze: true }, 'asleep: unused for 15.0 s; it cannot be frozen'],
  ['it is wanted every five minutes', { ...big, gapsNs: [minutes(4), minutes(5), minutes(90)] }, 'frozen: unused for 15.0 s; a wake from disk takes its next user 190 ms longer, which is worth 13 min 59 s of holding it'],
  ['it is wanted once an hour', { ...big, gapsNs: [minutes(60), minutes(1), minutes(60)] }, 'asleep: unused for 15.0 s; it is usually wanted again after 60 min 0 s, too long to be held frozen'],
];
for (const [story, view, expected] of rows) {
  t.test(story, async (t) => {
    const { tier, reason } = planTier(view);
    t.equal(`${tier}: ${reason}`, expected);
  });
}

// ---- properties ----

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const numRuns = process.env['LONG'] ? 20_000 : 1500;
const roomBytes = fc.oneof(fc.constant(null), fc.integer({ min: 0, max: 8000 }).map((m) => m * mebibyte));
const views: fc.Arbitrary<TierView> = fc.record({
  idleNs: fc.integer({ min: 0, max: 7200 }).map((s) => s * second),
  idleNsAllowed: fc.integer({ min: 1, max: 600 }).map((s) => s * second),
  wakeBy: fc.constantFrom('template' as const, 'keep' as const, 'cold' as const),
  wakeMs: fc.oneof(fc.constant(null), fc.integer({ min: 1, max: 60_000 })),
  imageBytes: fc.integer({ min: 0, max: 4000 }).map((m) => m * mebibyte),
  memoryBytes: fc.constantFrom(512, 1024, 4096).map((m) => m * mebibyte),
  gapsNs: fc.array(fc.integer({ min: 0, max: 7200 }).map((s) => s * second), { maxLength: 8 }),
  load: fc.double({ min: 0, max: 1.5, noNaN: true }),
  frozenRoom: fc.record({ zramBytes: roomBytes, pagerBytes: roomBytes }),
  others: fc.boolean(),
  frozen: fc.boolean(),
  cannotFreeze: fc.boolean(),
});
const rank = { warm: 0, frozen: 1, asleep: 2 } as const;

function property(name: string, holds: (view: TierView, by: number) => boolean): void {
  t.test(`${name} (SEED=${seed})`, async () => {
    fc.assert(fc.property(views, fc.integer({ min: 1, max: 1000 }), holds), { seed, numRuns });
  });
}

property('the longer unused, the lower the tier', (view, by) => rank[planTier({ ...view, idleNs: view.idleNs + by * second }).tier] >= rank[planTier(view).tier]);
property('a slower wake is worth no less', (view, by) => view.wakeMs === null || worthNs({ ...view, wakeMs: view.wakeMs + by }) >= worthNs(view));
property('a fuller edgepoint is worth no more', (view, by) => worthNs({ ...view, load: view.load + by / 1000 }) <= worthNs(view));
property('an app that loses nothing by sleeping sleeps', (view) => savedMs(view) > 0 || planTier(view).tier !== 'frozen');
property('nothing is frozen that its holder has no room for', (view) => {
  const { zramBytes, pagerBytes } = view.frozenRoom;
  const roomBytes = pagerBytes !== null && (view.imageBytes || view.memoryBytes) >= 64 * mebibyte ? pagerBytes : zramBytes;
  return view.frozen || planTier(view).tier !== 'frozen' || (roomBytes !== null && roomBytes >= view.imageBytes);
});
property('where pagers are, holding it is worth no less', (view) => worthNs({ ...view, frozenRoom: { zramBytes: 1, pagerBytes: 1 } }) >= worthNs({ ...view, frozenRoom: { zramBytes: 1, pagerBytes: null } }));
property('a choice that is looked at again when it says so, is another then', (view) => {
  const { tier, forNs } = planTier(view);
  return forNs === null ? tier === 'asleep' : forNs > 0 && planTier({ ...view, idleNs: view.idleNs + forNs, frozen: tier === 'frozen' || view.frozen }).tier !== tier;
});

// ---- in the plan of an app ----

const room: RoomView = { capacityBytes: 1e12, usedBytes: 0, leavingBytes: 0, frozenRoom: zramAlone, idle: [] };
const slow = serving({ wakeMs: 200, imageBytes: 400 * mebibyte });
const unused = { sinceBootNs: nowBootNs - 100 * second, lastActiveBootNs: nowBootNs - 15 * second };
const frozen = (id: string) => instance(id, { ...unused, mode: 'frozen' });

const plans: readonly [string, AppView, string][] = [
  [
    'unused: frozen, and looked at again when that is not worth it any more',
    app({ serving: slow, instances: [instance('i-1', unused)] }),
    'freeze i-1: unused for 15.0 s; a wake from disk takes its next user 190 ms longer, which is worth 13 min 59 s of holding it\nlook again in 838.6',
  ],
  ['one more than one is not held', app({ serving: slow, instances: [instance('i-1', unused), instance('i-2', { outstanding: 1 })] }), 'sleep i-1: unused for 15.0 s'],
  [
    'the last one, wanted by nobody for as long as its idle time though it was used since',
    app({ serving: slow, surplusSinceBootNs: nowBootNs - 15 * second, instances: [instance('i-1')] }),
    'freeze i-1: unused for 15.0 s',
  ],
  ['frozen and wanted', app({ serving: slow, waiting: 1, instances: [frozen('i-1')] }), 'thaw i-1: 1 waiting and none warm'],
  ['frozen and wanted by many', app({ serving: slow, waiting: 20, instances: [frozen('i-1')] }), 'thaw i-1: 20 waiting and none warm\nwake template: 20 waiting and none warm'],
  ['one at a time, frozen and wanted', app({ serving: { ...slow, alone: true }, waiting: 1, instances: [frozen('i-1')] }), 'thaw i-1: 1 waiting and none warm'],
  ['wanted while it is thawed', app({ serving: slow, waiting: 1, instances: [instance('i-1', { mode: 'restoring' })] }), ''],
  [
    'wanted while it is about to be frozen',
    app({ serving: slow, waiting: 1, instances: [instance('i-1', { mode: 'draining', freezing: true })] }),
    'note: p.main.shop: wants 1 more, but i-1 is just being frozen, and is back sooner than another',
  ],
  ['frozen, on an edgepoint that is drained', app({ serving: { ...slow, leaves: true }, instances: [frozen('i-1')] }), 'sleep i-1: the edgepoint is drained'],
  ['unused there, whatever it would be worth', app({ serving: { ...slow, leaves: true, idleNs: second }, instances: [instance('i-1')] }), 'sleep i-1: the edgepoint is drained'],
  ['in use there', app({ serving: { ...slow, leaves: true, idleNs: second }, instances: [instance('i-1', { outstanding: 1 })] }), ''],
  ['wanted there all the same', app({ serving: { ...slow, leaves: true }, waiting: 1 }), 'wake template: 1 waiting and none warm'],
  ['frozen, and a newer release serves', app({ serving: { ...slow, release: 2 }, instances: [frozen('i-1')] }), 'end i-1: release 2 has replaced release 1'],
  ['frozen, and nothing of it may run now', app({ serving: slow, paused: 'release 2 prepares on its volume', instances: [frozen('i-1')] }), 'sleep i-1: release 2 prepares on its volume\nnote: p.main.shop: release 2 prepares on its volume'],
];
for (const [story, view, expected] of plans) {
  t.test(story, async (t) => {
    t.ok(printPlan(planApp(view, nowBootNs, () => room)).startsWith(expected), printPlan(planApp(view, nowBootNs, () => room)));
  });
}
