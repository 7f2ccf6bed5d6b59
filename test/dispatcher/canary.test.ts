import { request } from 'node:http';
import t from 'tap';
import { chooseRelease } from '../../edgepoint/dispatcher/choose-release.ts';
import { limits } from '../../edgepoint/dispatcher/limits.ts';
import type { Route } from '../../edgepoint/model/calls.ts';
import { openInstance, openRawInstance, openRig, owner, routeOf, until } from './rig.ts';
import type { Rig, TestInstance } from './rig.ts';

const canary = { ...owner, scope: 'canary' };

t.test('which release has a request', async (t) => {
  const rows = [
    [{ percent: 10, canary: 'ready', chance: 0 }, true, false],
    [{ percent: 10, canary: 'ready', chance: 0.0999 }, true, false],
    [{ percent: 10, canary: 'ready', chance: 0.1 }, false, false],
    [{ percent: 99, canary: 'ready', chance: 0.9899 }, true, false],
    [{ percent: 99, canary: 'ready', chance: 0.9999 }, false, false],
    [{ percent: 10, canary: 'failed', chance: 0 }, false, true],
    [{ percent: 10, canary: 'failed', chance: 0.5 }, false, false],
    [{ percent: 10, canary: 'away', chance: 0 }, false, false],
    [{ percent: 10, canary: 'preparing', chance: 0 }, false, false],
    [{ percent: 99, canary: 'ready', returnsTo: 'serving', chance: 0 }, false, false],
    [{ percent: 1, canary: 'ready', returnsTo: 'canary', chance: 0.99 }, true, false],
    [{ percent: 1, canary: 'failed', returnsTo: 'canary', chance: 0.99 }, false, false],
  ] as const;
  for (const [input, takes, missed] of rows) {
    const choice = chooseRelease({ returnsTo: null, ...input });
    t.same([choice.canary, choice.missed], [takes, missed], `${JSON.stringify(input)}: ${choice.reason}`);
  }
});

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly cookie: string;
}

function ask(port: number, method = 'GET', cookie = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ port, host: '127.0.0.1', path: '/', method, headers: { host: 'shop.test', ...(cookie === '' ? {} : { cookie }) }, agent: false }, (response) => {
      let body = '';
      response.on('data', (bytes: Buffer) => (body += bytes.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body, cookie: (response.headers['set-cookie']?.[0] ?? '').split(';')[0] ?? '' }));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** The table: the app with a canary that gets that part, and the canary's own route. */
const table = (rig: Rig, about: { serving: readonly TestInstance[]; canary: readonly TestInstance[]; percent: number; change?: Partial<Route> }) =>
  rig.head.order('routes', [
    routeOf(about.serving, { canary: { owner: canary, percent: about.percent } }),
    routeOf(about.canary, { owner: canary, hosts: [], ...about.change }),
  ]);

const told = (rig: Rig, scope: string) => rig.head.demands.findLast((demand) => demand.owner.scope === scope);

t.test('a canary gets about its part of the requests, and the part can be changed', async (t) => {
  const rig = await openRig(t);
  const old = await openInstance(t, 'old-1', (_, response) => response.end('old'));
  const fresh = await openInstance(t, 'new-1', (_, response) => response.end('new'));
  const count = 2000;
  const lanes = 8;
  const share = async (): Promise<number> => {
    let hits = 0;
    const lane = async (): Promise<void> => {
      for (let asked = 0; asked < count / lanes; asked += 1) {
        const { status, body } = await ask(rig.port);
        if (status !== 200) t.fail(`${status}: ${body}`);
        if (body === 'new') hits += 1;
      }
    };
    await Promise.all(Array.from({ length: lanes }, lane));
    return hits / count;
  };
  // 2,000 draws at 20 % leave 10 to 30 % once in more than 10^20 times (11 standard deviations).
  await table(rig, { serving: [old], canary: [fresh], percent: 20 });
  const twenty = await share();
  t.ok(twenty > 0.1 && twenty < 0.3, `${twenty * 100} % of 20 %`);
  await table(rig, { serving: [old], canary: [fresh], percent: 80 });
  const eighty = await share();
  t.ok(eighty > 0.7 && eighty < 0.9, `${eighty * 100} % of 80 %`);
  await until('both are told and counted by themselves', () => {
    const counts = ['main', 'canary'].map((scope) => told(rig, scope)?.answers);
    return counts.reduce((sum, one) => sum + (one?.answered ?? 0), 0) === 2 * count && counts.every((one) => one?.failed === 0);
  });
  await rig.head.order('routes', [routeOf([old]), routeOf([fresh], { owner: canary, hosts: [] })]);
  for (let asked = 0; asked < 50; asked += 1) t.equal((await ask(rig.port)).body, 'old', 'without a share it gets nothing');
});

t.test('what a canary cannot take, the release that serves has', async (t) => {
  const rig = await openRig(t);
  const old = await openInstance(t, 'old-1', (_, response) => response.end('old'));
  const failed = (): number => told(rig, 'canary')?.answers?.failed ?? 0;
  /** Asks until a request was drawn for the canary: at 99 %, that is at once. */
  const drawn = async (): Promise<void> => {
    const before = failed();
    for (let asked = 0; failed() === before; asked += 1) {
      t.same(await ask(rig.port), { status: 200, body: 'old', cookie: '' });
      await until('it is told', () => failed() > before, 200).catch(() => undefined);
      if (asked > 50) throw new Error('no request was drawn for the canary');
    }
  };
  const dead = await openInstance(t, 'dead-1', (_, response) => response.end('dead'));
  dead.kill();
  await t.test('an instance that cannot be reached', async () => {
    await table(rig, { serving: [old], canary: [dead], percent: 99 });
    await drawn();
  });
  await t.test('one that dies over it', async () => {
    const dying = await openRawInstance(t, 'dying-1', (socket) => socket.once('data', () => socket.resetAndDestroy()));
    await table(rig, { serving: [old], canary: [dying], percent: 99 });
    await drawn();
  });
  await t.test('a wake that fails', async () => {
    await table(rig, { serving: [old], canary: [], percent: 99, change: { status: 'failed', reason: 'it does not start' } });
    await drawn();
  });
  await t.test('one that takes too long', async () => {
    await table(rig, { serving: [old], canary: [], percent: 99, change: { holdMs: 100 } });
    await drawn();
    t.ok(limits.canaryHoldMs < 60_000, 'by itself it holds for less than the app');
  });
  await t.test('there is no such canary', async () => {
    await rig.head.order('routes', [routeOf([old], { canary: { owner: canary, percent: 99 } })]);
    for (let asked = 0; asked < 20; asked += 1) t.equal((await ask(rig.port)).body, 'old');
  });
});

t.test('requests that wait for a canary are answered when it fails, and when it is taken away', async (t) => {
  const rig = await openRig(t);
  const old = await openInstance(t, 'old-1', (_, response) => response.end('old'));
  for (const end of ['failed', 'gone'] as const) {
    await table(rig, { serving: [old], canary: [], percent: 99 });
    const answers = Array.from({ length: 20 }, () => ask(rig.port, 'POST'));
    await until('some wait for the canary', () => (told(rig, 'canary')?.waiting ?? 0) > 0);
    if (end === 'failed') await rig.head.order('route', routeOf([], { owner: canary, hosts: [], status: 'failed', reason: 'it does not start' }));
    else await rig.head.order('removeRoute', canary);
    t.same(await Promise.all(answers), Array.from({ length: 20 }, () => ({ status: 200, body: 'old', cookie: '' })), end);
  }
});

t.test('what was under way in a canary is answered by it, also after it has lost its share', async (t) => {
  const rig = await openRig(t);
  const old = await openInstance(t, 'old-1', (_, response) => response.end('old'));
  const finish: (() => void)[] = [];
  const fresh = await openInstance(t, 'new-1', (_, response) => void finish.push(() => response.end('new')));
  await table(rig, { serving: [old], canary: [fresh], percent: 99 });
  let answered = 0;
  const answers = Array.from({ length: 4 }, () => ask(rig.port, 'POST').finally(() => (answered += 1)));
  await until('the canary has what is not answered', () => finish.length > 0 && finish.length + answered === 4);
  await rig.head.order('route', routeOf([old]));
  await rig.head.order('route', routeOf([fresh], { owner: canary, hosts: [], status: 'failed', reason: 'it is taken away' }));
  const drained = rig.head.order('drain', { instance: 'new-1', park: false, timeoutMs: 10_000 });
  const count = finish.length;
  for (const end of finish) end();
  t.same(await drained, { drained: true });
  const got = await Promise.all(answers);
  t.same(got.map(({ status }) => status), [200, 200, 200, 200]);
  t.equal(got.filter(({ body }) => body === 'new').length, count);
});

t.test('5xx of the application are told as failed, of either release; a request of a schedule is never the canary’s', async (t) => {
  const rig = await openRig(t);
  const old = await openInstance(t, 'old-1', (_, response) => response.end('old'));
  const asked: string[] = [];
  const fresh = await openInstance(t, 'new-1', (request_, response) => {
    asked.push(request_.url ?? '');
    response.writeHead(500).end('new');
  });
  await table(rig, { serving: [old], canary: [fresh], percent: 99 });
  let bad = 0;
  for (let count = 0; count < 60; count += 1) if ((await ask(rig.port)).status === 500) bad += 1;
  t.ok(bad > 0, `${bad} of 60`);
  await until('they are told', () => told(rig, 'canary')?.answers?.failed === bad && told(rig, 'canary')?.answers?.answered === bad);
  await until('and those of the other', () => told(rig, 'main')?.answers?.answered === 60 - bad && told(rig, 'main')?.answers?.failed === 0);
  const before = asked.length;
  for (let count = 0; count < 20; count += 1) {
    t.match(await rig.head.order('ask', { host: 'shop.test', method: 'GET', path: '/tidy', schedule: '* * * * *', dueWallMs: 0 }), { status: 200 });
  }
  t.equal(asked.length, before);
});

t.test('where clients return to an instance, they stay with its release', async (t) => {
  const rig = await openRig(t);
  const old = await openInstance(t, 'old-1', (_, response) => response.end('old'));
  const fresh = await openInstance(t, 'new-1', (_, response) => response.end('new'));
  await rig.head.order('routes', [
    routeOf([old], { sticky: true, canary: { owner: canary, percent: 50 } }),
    routeOf([fresh], { owner: canary, hosts: [], sticky: true }),
  ]);
  const cookies = new Map<string, string>();
  for (let asked = 0; asked < 100; asked += 1) {
    const { body, cookie } = await ask(rig.port);
    cookies.set(body, cookie);
  }
  t.same([...cookies.keys()].toSorted(), ['new', 'old']);
  for (const [release, cookie] of cookies) for (let asked = 0; asked < 30; asked += 1) t.match(await ask(rig.port, 'GET', cookie), { body: release, cookie: '' });
  await rig.head.order('removeRoute', canary);
  t.match(await ask(rig.port, 'GET', cookies.get('new')), { body: 'old', cookie: cookies.get('old') }, 'until it is gone');
});
