import t from 'tap';
import { planApp } from '../../edgepoint/resources/plan/plan.ts';
import type { AppView, RoomView } from '../../edgepoint/resources/plan/view.ts';
import { app, instance, nowBootNs, printPlan, second, serving } from './views.ts';

const room: RoomView = { capacityBytes: 1e9, usedBytes: 0, leavingBytes: 0, frozenRoom: { zramBytes: null, pagerBytes: null }, idle: [] };
const busy = { outstanding: 16, lastActiveBootNs: nowBootNs };
const idleFor = (seconds: number) => ({ sinceBootNs: nowBootNs - 100 * second, lastActiveBootNs: nowBootNs - seconds * second });

/** One row for each thing the planner says; the plan is what a person would read in `edgepoint explain`. */
const rows: readonly [string, AppView, string][] = [
  ['asleep and unasked: nothing, ever', app(), ''],
  ['no release serves yet', app({ serving: null, waiting: 3 }), ''],
  ['the first request', app({ waiting: 1 }), 'wake template: 1 waiting and none warm'],
  ['the first request of an app that cannot be restored', app({ waiting: 1, serving: serving({ wakeBy: 'cold' }) }), 'wake cold: 1 waiting and none warm'],
  ['a wake is on its way', app({ waiting: 1, instances: [instance('i-1', { mode: 'restoring' })] }), ''],
  [
    'a crowd: as many as their number wants, at once',
    app({ waiting: 40 }),
    'wake template: 40 waiting and none warm\nwake template: 40 waiting and none warm\nwake template: 40 waiting and none warm',
  ],
  ['a crowd beyond the most allowed', app({ waiting: 4000, serving: serving({ max: 2 }) }), 'wake template: 4000 waiting and none warm\nwake template: 4000 waiting and none warm'],
  [
    'one is full and one request waits',
    app({ waiting: 1, instances: [instance('i-1', busy)] }),
    'wake template: 17 waiting or under way want 2 instances of 16 each, and there are 1',
  ],
  ['one is busy, but not full', app({ instances: [instance('i-1', { outstanding: 16, lastActiveBootNs: nowBootNs })] }), ''],
  ['at least two', app({ serving: serving({ min: 2 }) }), 'wake template: its manifest wants at least 2\nwake template: its manifest wants at least 2'],
  ['used a second ago', app({ instances: [instance('i-1')] }), 'look again in 14 s'],
  ['unused long enough', app({ instances: [instance('i-1', idleFor(15))] }), 'sleep i-1: unused for 15.0 s'],
  ['unused, but the least is one', app({ serving: serving({ min: 1 }), instances: [instance('i-1', idleFor(99))] }), ''],
  [
    'two unused: the longer one first, one by one',
    app({ instances: [instance('i-1', idleFor(20)), instance('i-2', idleFor(30))] }),
    'sleep i-2: unused for 30.0 s',
  ],
  [
    'one sleeps already',
    app({ instances: [instance('i-1', idleFor(20)), instance('i-2', { ...idleFor(30), mode: 'draining' })] }),
    'note: p.main.shop: one goes to sleep already; one by one',
  ],
  ['an open WebSocket counts as under way', app({ instances: [instance('i-1', { ...idleFor(99), tunnels: 1 })] }), ''],
  [
    'an open WebSocket sleeps with an app that keeps its state',
    app({ serving: serving({ state: 'keep', wakeBy: 'keep', alone: true }), instances: [instance('i-1', { ...idleFor(99), tunnels: 1 })] }),
    'sleep i-1: unused for 99.0 s',
  ],
  [
    'it cannot be snapshotted and keeps state: it stays',
    app({ serving: serving({ state: 'keep', wakeBy: 'cold', alone: true, staysAwake: 'its state cannot be kept' }), instances: [instance('i-1', idleFor(99))] }),
    'note: p.main.shop: stays awake: its state cannot be kept',
  ],
  [
    'spread thin for as long as the idle time: one too many goes',
    app({ surplusSinceBootNs: nowBootNs - 15 * second, instances: [instance('i-1', { outstanding: 1, ...idleFor(0) }), instance('i-2', idleFor(0))] }),
    'sleep i-2: 2 there and 1 wanted for 15.0 s',
  ],
  [
    'spread thin, but all have work',
    app({ surplusSinceBootNs: nowBootNs - 99 * second, instances: [instance('i-1', { outstanding: 1 }), instance('i-2', { outstanding: 1 })] }),
    '',
  ],
  [
    'after failures it waits',
    app({ waiting: 1, notBeforeBootNs: nowBootNs + 2 * second, notBeforeReason: 'it could not be started' }),
    'note: p.main.shop: wants 1 more, but it could not be started\nlook again in 2 s',
  ],
  [
    'a snapshot that failed is not tried again at once',
    app({ noSleepBeforeBootNs: nowBootNs + 5 * second, instances: [instance('i-1', idleFor(99))] }),
    'look again in 5 s',
  ],
  [
    'one at a time: a request during its sleep waits for the end of it',
    app({ waiting: 1, serving: serving({ alone: true, state: 'keep', wakeBy: 'keep' }), instances: [instance('i-1', { mode: 'draining' })] }),
    'note: p.main.shop: wants 1 more, but it runs one at a time and i-1 is draining',
  ],
  [
    'clones: a request during the sleep of one wakes another',
    app({ waiting: 1, instances: [instance('i-1', { mode: 'draining' })] }),
    'wake template: 1 waiting and none warm',
  ],
  [
    'a new release takes over from a busy one before that ends',
    app({ serving: serving({ release: 2 }), instances: [instance('i-1', busy)] }),
    'wake template: release 2 takes over from release 1',
  ],
  [
    'a new release has taken over',
    app({ serving: serving({ release: 2 }), instances: [instance('i-1', busy), instance('i-2', { release: 2 })] }),
    'end i-1: release 2 has replaced release 1',
  ],
  ['nobody uses the old one', app({ serving: serving({ release: 2 }), instances: [instance('i-1')] }), 'end i-1: release 2 has replaced release 1'],
  [
    'a release that writes the same volume prepares',
    app({ waiting: 1, paused: 'release 2 prepares on its volume', instances: [instance('i-1', busy)] }),
    'sleep i-1: release 2 prepares on its volume\nnote: p.main.shop: release 2 prepares on its volume',
  ],
  [
    'a release prepares, and the one that must sleep for it could not be drained just now',
    app({ paused: 'release 2 prepares on its volume', noSleepBeforeBootNs: nowBootNs + 2 * second, instances: [instance('i-1')] }),
    'note: p.main.shop: release 2 prepares on its volume\nlook again in 2 s',
  ],
  [
    'a spending cap is reached: what is under way is waited for',
    app({ waiting: 1, paused: 'its spending cap is reached', leaveByBootNs: nowBootNs + 1, serving: serving({ min: 2 }), instances: [instance('i-1', busy)] }),
    'sleep i-1: its spending cap is reached\nnote: p.main.shop: its spending cap is reached',
  ],
  [
    'a spending cap is reached, and something under way takes for ever',
    app({ paused: 'its spending cap is reached', leaveByBootNs: nowBootNs, instances: [instance('i-1', busy)] }),
    'sleep i-1, whatever is under way: its spending cap is reached\nnote: p.main.shop: its spending cap is reached',
  ],
  ['instances of a preparation are no concern of it', app({ waiting: 1, instances: [instance('p-1', { purpose: 'prepare' })] }), 'wake template: 1 waiting and none warm'],
];

for (const [story, view, expected] of rows) {
  t.test(story, async (t) => {
    t.equal(printPlan(planApp(view, nowBootNs, () => room)), expected);
  });
}
