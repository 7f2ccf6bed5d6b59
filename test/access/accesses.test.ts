import t from 'tap';
import { Accesses, accessesPerApp, cappedRunMs, sessionsPerApp } from '../../edgepoint/access/accesses.ts';
import type { DialPorts } from '../../edgepoint/access/accesses.ts';
import { Pace } from '../../edgepoint/access/pace.ts';
import { silentMsMax } from '../../kit/wire/access.ts';
import type { AccessClose, AccessFrame } from '../../kit/wire/access.ts';
import type { Route } from '../../edgepoint/model/calls.ts';

const owner = { provider: 'ada', scope: 'main', app: 'shop' };
const route = (instances: readonly string[], about: Partial<Route> = {}): Route => ({
  owner, hosts: [], status: 'ready', reason: '', concurrency: 1, holdMs: 60_000, instances: instances.map((instance) => ({ instance, address: '10.0.0.2', port: 3000 })), ...about,
});

/** Accesses with time and connections of the test's own; `said` is what they tell, in order. */
function open(first: Route | null) {
  const said: string[] = [];
  const dialled: { ports: DialPorts; taken: AccessFrame[] }[] = [];
  const timers: { atMs: number; callback: () => void }[] = [];
  let nowMs = 0;
  let now = first;
  const accesses = new Accesses({
    epoch: 'e',
    routeOf: () => now,
    tellUse: (_owner, { waiting, used }) => void said.push(`waits ${waiting}, uses ${[...used].join() || 'none'}`),
    tellTraffic: (_owner, { instance, epoch, bytesIn, bytesOut }) => void said.push(`${instance} ${epoch} ${bytesIn} in ${bytesOut} out`),
    send: (access, frame) => {
      if (frame.kind !== 'beat') said.push(`${access} ${frame.kind}${frame.kind === 'close' ? ` ${frame.close.code}` : ''}`);
      return true;
    },
    dial: (to, { port }, ports) => {
      said.push(to === null ? 'dial its own' : `dial ${to.address}:${port}`);
      const taken: AccessFrame[] = [];
      dialled.push({ ports, taken });
      const over = (close: AccessClose): void => {
        ports.send({ kind: 'close', close });
        ports.over(close);
      };
      return { take: (frame) => (frame.kind === 'close' ? ports.over(frame.close) : void taken.push(frame)), cut: over };
    },
    nowMs: () => nowMs,
    after: (ms, callback) => {
      const timer = { atMs: nowMs + ms, callback };
      timers.push(timer);
      return () => void (timers.includes(timer) && timers.splice(timers.indexOf(timer), 1));
    },
  });
  return {
    accesses, dialled,
    begin: (id: string) => accesses.take(id, 0, { kind: 'open', open: { ...owner, kind: 'connect', port: 5432 } }),
    route: (next: Route) => accesses.route((now = next)),
    /** What was told since the last time. */
    heard: () => said.splice(0),
    pass: (ms: number) => {
      nowMs += ms;
      for (let due = timers.find(({ atMs }) => atMs <= nowMs); due !== undefined; due = timers.find(({ atMs }) => atMs <= nowMs)) {
        timers.splice(timers.indexOf(due), 1);
        due.callback();
      }
    },
  };
}

const session = { command: ['ls'], terminal: null };

t.test('so many sessions of an app, beside its connections', async (t) => {
  const { accesses, heard } = open(route(['i-1']));
  for (let number = 0; number < sessionsPerApp; number += 1) accesses.take(`s${number}`, 0, { kind: 'open', open: { ...owner, kind: number % 2 === 0 ? 'ssh' : 'run', session } });
  heard();
  accesses.take('more', 0, { kind: 'open', open: { ...owner, kind: 'ssh', session } });
  t.strictSame(heard(), ['more close busy']);
  accesses.take('a', 0, { kind: 'open', open: { ...owner, kind: 'connect', port: 5432 } });
  t.ok(heard().includes('dial 10.0.0.2:5432'));
});

t.test('a run has an instance of its own: it wakes none, uses none, and outlives those that serve', async (t) => {
  const { accesses, dialled, route: tell, heard } = open(route([]));
  accesses.take('r', 0, { kind: 'open', open: { ...owner, kind: 'run', session } });
  t.strictSame(heard(), ['dial its own']);
  dialled[0]?.ports.opened('r-7');
  t.strictSame(heard(), ['r opened']);
  dialled[0]?.ports.counted(1, 2);
  tell(route(['i-1']));
  tell(route([]));
  t.notOk(heard().some((said) => said.startsWith('r close') || said.startsWith('dial')), 'routes are nothing to it');
  dialled[0]?.ports.over({ code: '', text: '' });
  t.equal(accesses.size, 0);
});

t.test('a run of an app that has reached its cap is cut in the end, and not when the cap is lifted', async (t) => {
  const stop = { code: 'spending-cap-reached', untilWallMs: 1 } as const;
  for (const lifted of [false, true]) {
    const { accesses, dialled, route: tell, heard, pass } = open(route([]));
    accesses.take('r', 0, { kind: 'open', open: { ...owner, kind: 'run', session } });
    dialled[0]?.ports.opened('r-7');
    tell(route([], { status: 'failed', reason: 'capped', stop }));
    if (lifted) tell(route([]));
    for (let ms = 0; ms < cappedRunMs; ms += 5000) {
      pass(5000);
      accesses.take('r', 1 + ms / 5000, { kind: 'beat' });
    }
    t.equal(heard().includes('r close spending-cap-reached'), !lifted);
    t.equal(accesses.size, lifted ? 1 : 0);
  }
});

t.test('one that finds the app asleep wakes it, is connected, and counts as use until it ends', async (t) => {
  const { accesses, dialled, begin, route: tell, heard } = open(route([]));
  begin('a');
  t.strictSame(heard(), ['waits 1, uses none']);
  tell(route(['i-1']));
  t.strictSame(heard(), ['dial 10.0.0.2:5432', 'waits 0, uses i-1']);
  dialled[0]?.ports.opened('i-1');
  accesses.take('a', 1, { kind: 'data', bytes: Uint8Array.of(1) });
  t.equal(dialled[0]?.taken.length, 1);
  dialled[0]?.ports.counted(1, 0);
  dialled[0]?.ports.counted(0, 5);
  accesses.take('a', 2, { kind: 'close', close: { code: '', text: '' } });
  t.strictSame(heard(), ['a opened', 'i-1 access/e/1 1 in 5 out', 'waits 0, uses none']);
  t.equal(accesses.size, 0);
});

t.test('why one cannot be', async (t) => {
  const stories: readonly [string, Route | null, string][] = [
    ['no such app here', null, 'app-away'],
    ['it cannot wake', route([], { status: 'failed', reason: 'no memory' }), 'wake-failed'],
  ];
  for (const [story, first, code] of stories) {
    const { begin, heard, accesses } = open(first);
    begin('a');
    t.ok(heard().includes(`a close ${code}`), story);
    t.equal(accesses.size, 0);
  }
  const late = open(route([]));
  late.begin('a');
  late.heard();
  for (let at = 0; at < 60_000; at += 5000) {
    late.accesses.take('a', 1 + at / 5000, { kind: 'beat' });
    late.pass(5000);
  }
  t.ok(late.heard().includes('a close wake-failed'), 'no instance came in time');
  const many = open(route(['i-1']));
  for (let count = 0; count <= accessesPerApp; count += 1) many.begin(`a${count}`);
  t.ok(many.heard().includes(`a${accessesPerApp} close busy`), 'too many of one app');
  t.equal(many.accesses.size, accessesPerApp);
});

t.test('a hole in the numbers, what nobody knows, and a conduit that is silent', async (t) => {
  const { accesses, begin, heard, pass } = open(route(['i-1']));
  begin('a');
  accesses.take('a', 2, { kind: 'end' });
  t.ok(heard().includes('a close access-cut'), 'a hole');
  accesses.take('b', 7, { kind: 'beat' });
  t.strictSame(heard(), ['b close access-cut'], 'of a head that was killed');
  accesses.take('b', 8, { kind: 'close', close: { code: '', text: '' } });
  t.strictSame(heard(), [], 'nothing answers a close');
  begin('c');
  heard();
  for (let ms = 0; ms <= silentMsMax; ms += 5000) pass(5000);
  t.ok(heard().includes('c close conduit-away'));
  t.equal(accesses.size, 0);
});

t.test('an instance with an access is not drained; one that drains is given none', async (t) => {
  const { accesses, begin, heard, pass, route: tell, dialled } = open(route(['i-1']));
  begin('a');
  const first = accesses.drain({ instance: 'i-1', owner, timeoutMs: 2000 });
  pass(2000);
  t.equal(await first, false);
  const second = accesses.drain({ instance: 'i-1', owner, timeoutMs: 2000 });
  dialled[0]?.ports.over({ code: '', text: '' });
  t.equal(await second, true);
  heard();
  begin('b');
  t.strictSame(heard(), ['waits 1, uses none'], 'it waits for another');
  accesses.unpark('i-1');
  t.strictSame(heard(), ['dial 10.0.0.2:5432', 'waits 0, uses i-1'], 'or for this one, when it does not go after all');
  tell(route([]));
  t.ok(heard().includes('b close instance-ended'));
  accesses.removeRoute(owner);
  t.equal(accesses.size, 0);
});

t.test('the pace of all together', async (t) => {
  const pace = new Pace(1000);
  t.equal(pace.waitMs(500, 10_000), 500);
  t.equal(pace.waitMs(500, 10_000), 1000, 'who comes next waits for both');
  t.equal(pace.waitMs(500, 20_000), 500, 'nothing is saved up');
});
