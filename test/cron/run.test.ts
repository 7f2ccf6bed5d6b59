import t from 'tap';
import type { Test } from 'tap';
import { Cron } from '../../edgepoint/cron/run.ts';
import type { ReleaseOrder } from '../../edgepoint/model/app.ts';
import type { TaskAnswer, TaskOrder } from '../../edgepoint/model/calls.ts';
import type { Happening } from '../../edgepoint/model/happening.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';

const here = 'north.one';
const owner = { provider: 'ann', scope: 'main', app: 'shop' };
const key = 'ann.main.shop';
const minuteMs = 60_000;
const beginMs = Date.parse('2026-11-29T10:00:30Z');
const everyMinute = { schedule: '* * * * *', path: '/tidy' };

function orderOf(cron: readonly object[], change: Partial<ReleaseOrder> = {}): ReleaseOrder {
  const manifest = manifestSchema.parse({ app: 'shop', command: ['x'], port: 80, cron });
  return { owner, release: 1, artefactDigest: `sha256:${'0'.repeat(64)}`, manifest, hosts: ['shop.test'], uidSlot: 1, deployId: 'd', sites: [here], cronSite: here, ...change };
}

/** A head's cron in virtual time, with a dispatcher that answers when the test says. */
function openWorld(t: Test, rows: readonly { app: string; task: string; dueWallMs: number }[] = []) {
  let nowMs = beginMs;
  let timer: { atMs: number; callback: () => void } | null = null;
  const asked: { order: TaskOrder; answer: (answer: Partial<TaskAnswer>) => Promise<void>; fail: () => Promise<void> }[] = [];
  const told: Happening[] = [];
  let stopped = '';
  const saved = new Map(rows.map(({ app, task, dueWallMs }) => [`${app} ${task}`, dueWallMs]));
  const settle = async (): Promise<void> => {
    for (let turns = 0; turns < 10; turns += 1) await Promise.resolve();
  };
  const cron = new Cron(
    {
      site: here,
      wallMs: () => nowMs,
      wakeIn: (ms, callback) => {
        const mine = { atMs: nowMs + ms, callback };
        timer = mine;
        return () => void (timer === mine && (timer = null));
      },
      ask: (order) =>
        new Promise<TaskAnswer>((resolve, reject) => {
          asked.push({
            order,
            answer: (answer) => (resolve({ status: 200, reason: '', tookMs: 12, ...answer }), settle()),
            fail: () => (reject(new Error('gone')), settle()),
          });
        }),
      saveDealt: async (app, task, dueWallMs) => void saved.set(`${app} ${task}`, dueWallMs),
      forgetDealt: async (app, task) => {
        for (const name of saved.keys()) if (task === null ? name.startsWith(`${app} `) : name === `${app} ${task}`) saved.delete(name);
      },
      stopped: () => stopped,
      tell: (happening) => void told.push(happening),
      changed: () => undefined,
      warn: (text) => t.fail(text),
    },
    rows,
  );
  /** Lets time pass up to then, timers and all. */
  const until = async (toMs: number): Promise<void> => {
    for (let turns = 0; timer !== null && timer.atMs <= toMs; turns += 1) {
      if (turns > 10_000) throw new Error('it looks again and again');
      const due: { atMs: number; callback: () => void } = timer;
      timer = null;
      nowMs = Math.max(nowMs, due.atMs);
      due.callback();
      await settle();
    }
    nowMs = toMs;
  };
  return { cron, asked, told, saved, until, settle, setClock: (ms: number) => (nowMs = ms), stop: (why: string) => (stopped = why), timer: () => timer };
}

const due = (asked: readonly { order: TaskOrder }[]): string[] => asked.map(({ order }) => new Date(order.dueWallMs).toISOString().slice(11, 16));

t.test('an app that is stopped is not asked, and what was due then is not made up for', async (t) => {
  const world = openWorld(t);
  const order = orderOf([{ schedule: '* * * * *', path: '/' }]);
  world.cron.wanted(order);
  world.cron.serves(order);
  world.cron.begin();
  world.stop('its spending cap is reached');
  await world.until(beginMs + 120_000);
  t.equal(world.asked.length, 0);
  t.match(world.told.at(-1), { kind: 'fault', code: 'cron-skipped', text: /not run: its spending cap is reached/ });
  world.stop('');
  await world.until(beginMs + 180_000);
  t.equal(world.asked.length, 1);
});

t.test('it asks on the minute, once, and says how it went', async (t) => {
  const { cron, asked, told, saved, until } = openWorld(t);
  cron.wanted(orderOf([everyMinute]));
  t.equal(cron.describe(key), null, 'nothing serves yet');
  cron.serves(orderOf([everyMinute]));
  cron.begin();
  t.match(cron.describe(key), [{ schedule: '* * * * *', path: '/tidy', method: 'POST', last: null }]);
  await until(beginMs + 29_000);
  t.equal(asked.length, 0);
  await until(beginMs + 31_000);
  t.match(asked, [{ order: { host: 'shop.test', method: 'POST', path: '/tidy', schedule: '* * * * *' } }]);
  t.same(due(asked), ['10:01']);
  t.equal(saved.size, 1, 'written down before it is answered');
  await asked[0]?.answer({});
  t.match(cron.describe(key), [{ last: { ok: true, text: 'it answered 200 after 12.0 ms' } }]);
  await until(beginMs + 2 * minuteMs);
  t.same(due(asked), ['10:01', '10:02']);
  t.equal(told.length, 0, 'no news is good news');
});

t.test('failures and what is left out are told', async (t) => {
  const { cron, asked, told, until } = openWorld(t);
  cron.wanted(orderOf([everyMinute]));
  cron.serves(orderOf([everyMinute]));
  cron.begin();
  await until(beginMs + minuteMs);
  await until(beginMs + 2 * minuteMs);
  t.equal(asked.length, 1, 'the one before goes on');
  t.match(told, [{ kind: 'fault', code: 'cron-skipped', text: 'POST /tidy, due 2026-11-29T10:02:00.000Z: not run: the one before is still under way.' }]);
  await asked[0]?.answer({ status: 500 });
  t.match(told[1], { code: 'cron-failed', text: 'POST /tidy, due 2026-11-29T10:01:00.000Z: it answered 500 after 12.0 ms.' });
  await until(beginMs + 3 * minuteMs);
  await asked[1]?.answer({ status: 503, reason: 'The application was not ready within 30 s' });
  t.match(told[2], { text: /503: The application was not ready/ });
  await until(beginMs + 4 * minuteMs);
  await asked[2]?.fail();
  t.match(told[3], { text: /the local dispatcher was not there: gone/ });
  await until(beginMs + 5 * minuteMs);
  t.same(due(asked), ['10:01', '10:03', '10:04', '10:05'], 'and it goes on');
});

t.test('whose clock it is', async (t) => {
  const { cron, asked, until, timer } = openWorld(t);
  const other = orderOf([everyMinute], { cronSite: 'south.two' });
  cron.wanted(other);
  cron.serves(other);
  cron.begin();
  await until(beginMs + 2 * minuteMs);
  t.equal(asked.length, 0, 'not ours');
  t.equal(timer(), null, 'and nothing is looked for');
  cron.wanted(orderOf([everyMinute]));
  await until(beginMs + 3 * minuteMs);
  t.same(due(asked), ['10:03'], 'ours from then on; what was due before was the other’s');
  await asked[0]?.answer({});
  cron.wanted(other);
  t.equal(cron.describe(key), null);
  await until(beginMs + 9 * minuteMs);
  t.equal(asked.length, 1);
});

t.test('a new release, and the end of an app', async (t) => {
  const { cron, asked, saved, until, timer } = openWorld(t);
  cron.wanted(orderOf([everyMinute]));
  cron.serves(orderOf([everyMinute]));
  cron.begin();
  await until(beginMs + minuteMs);
  await asked[0]?.answer({});
  const second = orderOf([{ schedule: '*/5 * * * *', path: '/sweep', method: 'GET' }], { release: 2 });
  cron.wanted(second);
  cron.serves(second);
  await until(beginMs + 5 * minuteMs);
  t.match(asked.slice(1), [{ order: { method: 'GET', path: '/sweep' } }]);
  t.same([...saved.keys()], [`${key} GET /sweep */5 * * * *`], 'what is not there any more is forgotten');
  cron.removed(owner);
  t.equal(saved.size, 0);
  await until(beginMs + 60 * minuteMs);
  t.equal(asked.length, 2);
  t.equal(timer(), null);
});

t.test('a head that was away', async (t) => {
  const row = (agoMs: number) => ({ app: key, task: 'POST /tidy * * * * *', dueWallMs: beginMs - 30_000 - agoMs });
  const begun = async (rows: Parameters<typeof openWorld>[1]) => {
    const world = openWorld(t, rows);
    world.cron.serves(orderOf([everyMinute]));
    world.cron.wanted(orderOf([everyMinute]));
    world.cron.begin();
    await world.settle();
    return world;
  };
  t.same(due((await begun([row(3 * minuteMs)])).asked), ['10:00'], 'what was due meanwhile is done once');
  t.same(due((await begun([row(0)])).asked), [], 'nothing was');
  t.same(due((await begun([])).asked), [], 'it never was before');
  const ahead = await begun([row(-400 * 24 * 3_600_000)]);
  await ahead.until(beginMs + minuteMs);
  t.same(due(ahead.asked), ['10:01'], 'the clock of the last head was a year ahead');
});

t.test('what an earlier head dealt with is forgotten where the clock is another’s now', async (t) => {
  const row = { app: key, task: 'POST /tidy * * * * *', dueWallMs: beginMs - 90_000 };
  for (const [home, left] of [['south.two', 0], [here, 1]] as const) {
    const { cron, saved, settle } = openWorld(t, [row]);
    cron.serves(orderOf([everyMinute]));
    cron.wanted(orderOf([everyMinute], { cronSite: home }));
    // As one that the database knew, and nobody wants any more.
    cron.begin();
    await settle();
    t.equal(saved.size, left, home);
  }
});

t.test('the wall clock is set', async (t) => {
  const { cron, asked, until, setClock } = openWorld(t);
  cron.wanted(orderOf([everyMinute]));
  cron.serves(orderOf([everyMinute]));
  cron.begin();
  await until(beginMs + minuteMs);
  await asked[0]?.answer({});
  setClock(beginMs - 5 * minuteMs);
  await until(beginMs);
  t.same(due(asked), ['10:01'], 'back: none is done twice');
  setClock(beginMs + 24 * 60 * minuteMs);
  await until(beginMs + 24 * 60 * minuteMs + 31_000);
  t.ok(asked.length <= 3, 'ahead: what lies between is done once at most');
});
