import t from 'tap';
import { Demands, KernelPathLink, Ways } from '../../edgepoint/head/ways.ts';
import type { Demand, Route } from '../../edgepoint/model/calls.ts';

const owner = { provider: 'ada', scope: 'main', app: 'echo' };

function demand(about: { epoch: string; waiting?: number; outstanding?: number; at?: number }): Demand {
  return { owner, waiting: about.waiting ?? 0, instances: [{ instance: 'i-1', outstanding: about.outstanding ?? 0, tunnels: 1, lastActiveBootNs: about.at ?? 0 }], epoch: about.epoch, traffic: [] };
}

t.test('what both ways tell of an app is added', async (t) => {
  const demands = new Demands();
  t.match(demands.note('shared', demand({ epoch: 's', waiting: 2, outstanding: 1, at: 5 }), true), { waiting: 2, instances: [{ outstanding: 1 }] });
  t.match(demands.note('own', demand({ epoch: 'o', waiting: 1, outstanding: 3, at: 4 }), true), { epoch: 'o', waiting: 3, instances: [{ outstanding: 4, tunnels: 2, lastActiveBootNs: 5 }] });
  t.match(demands.note('shared', demand({ epoch: 's' }), true), { waiting: 1, instances: [{ outstanding: 3 }] }, 'the newest of each');
  demands.forget('own');
  t.match(demands.note('shared', demand({ epoch: 's', outstanding: 1 }), true), { waiting: 0, instances: [{ outstanding: 1 }] });
});

t.test('of an app without an address of its own nothing is remembered', async (t) => {
  const demands = new Demands();
  demands.note('shared', demand({ epoch: 's', waiting: 9 }), false);
  t.match(demands.note('own', demand({ epoch: 'o', waiting: 1 }), true), { waiting: 1 });
  demands.note('own', demand({ epoch: 'o' }), false);
  t.match(demands.note('shared', demand({ epoch: 's', waiting: 2 }), true), { waiting: 2 }, 'of one that gave it up neither');
});

const way = (answer: boolean, calls: string[], name: string) => ({
  route: () => void calls.push(`${name} route`),
  removeRoute: () => void calls.push(`${name} remove`),
  drain: () => Promise.resolve(answer),
  unpark: () => Promise.resolve(void calls.push(`${name} unpark`)),
});

t.test('an instance is drained when both ways say so; otherwise both take it up again', async (t) => {
  for (const [shared, own, drained, again] of [[true, true, true, false], [true, false, false, true], [false, true, false, true], [false, false, false, false]] as const) {
    const calls: string[] = [];
    const ways = new Ways(way(shared, calls, 'shared'), way(own, calls, 'own'));
    t.equal(await ways.drain({ instance: 'i-1', park: false, timeoutMs: 1 }), drained);
    t.strictSame(calls, again ? ['shared unpark', 'own unpark'] : []);
  }
});

t.test('the kernel path is told of apps with addresses of their own, when all are known, and all again when it was away', async (t) => {
  const calls: [string, unknown][] = [];
  const link = new KernelPathLink({ up: true, call: (method, params) => Promise.resolve(void calls.push([method, params])) }, (method, failure) => t.fail(`${method}: ${String(failure)}`));
  const route = (app: string, own?: Route['own']): Route => ({ owner: { ...owner, app }, hosts: [], status: 'ready', reason: '', concurrency: 1, holdMs: 1, instances: [{ instance: `i-${app}`, address: '10.0.0.2', port: 1 }], ...(own === undefined ? {} : { own }) });
  const own = { ipv4: '192.0.2.5', ipv6: '', ports: [], idleMs: 1 };
  link.route(route('one', own));
  link.route(route('plain'));
  t.strictSame(calls, [], 'nothing yet');
  link.begin();
  t.match(calls, [['ownRoutes', [{ owner: { app: 'one' } }]]]);
  link.route(route('two', own));
  link.route(route('plain'));
  t.match(calls.slice(1), [['ownRoute', { owner: { app: 'two' } }]]);
  link.route(route('two'));
  t.match(calls.slice(2), [['ownRoute', { owner: { app: 'two' } }]], 'one that gives it up is told once');
  link.removeRoute({ ...owner, app: 'plain' });
  link.pause();
  link.removeRoute({ ...owner, app: 'one' });
  link.route(route('three', own));
  link.begin();
  t.equal(calls.length, 4);
  t.match(calls[3], ['ownRoutes', [{ owner: { app: 'three' } }]]);
  t.equal(await link.drain({ instance: 'i-plain', park: false, timeoutMs: 1 }), true, 'an instance that it does not lead to is drained');
});
