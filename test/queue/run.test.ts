import t from 'tap';
import { Queues } from '../../edgepoint/queue/run.ts';
import type { ReleaseOrder } from '../../edgepoint/model/app.ts';
import type { MessageOrder, TaskAnswer } from '../../edgepoint/model/calls.ts';
import { Failure } from '../../kit/errors.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import { queueMessageMessage } from '../../kit/wire/queue.ts';
import type { QueueMessage } from '../../kit/wire/queue.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';

const owner = { provider: 'ann', scope: 'main', app: 'shop' };
const key = (place: number, queue = 'jobs'): string => `z.e.ann.main.shop.${queue}.${place}`;
const content = (id: string, more: Partial<QueueMessage> = {}): string =>
  encodeMessage(queueMessageMessage, { id, sentWallMs: 1, contentType: 'text/plain', bodyBase64: 'aGk=', attempts: 0, notBeforeWallMs: 0, reason: '', dead: false, ...more });

/** The queues of one app under a bus, a clock and a dispatcher that the test moves. */
function open(queue: readonly Record<string, unknown>[] = [{ name: 'jobs', path: '/jobs', attempts: 2 }]) {
  const manifest = manifestSchema.parse({ app: 'shop', command: ['node'], port: 1, queue });
  const order: ReleaseOrder = { owner, deployId: 'd', release: 1, artefactDigest: '', manifest, hosts: ['shop.test'], uidSlot: 1 };
  const world = {
    nowMs: 1000,
    serving: order as ReleaseOrder | null,
    stopped: '',
    busUp: true,
    /** What the bus has. */
    stored: new Map<string, string>(),
    places: new Map<string, number>(),
    place: 0,
    asked: [] as { order: MessageOrder; answer: (answer: TaskAnswer | Failure) => void }[],
    told: [] as string[],
    timers: new Set<{ atMs: number; run: () => void }>(),
  };
  const write = async (at: string, text: string | null, after: number): Promise<number> => {
    await Promise.resolve();
    if (!world.busUp) throw new Failure('bus-away', 'away');
    if ((world.places.get(at) ?? 0) !== after) throw new Failure('bus-refused', 'something else stands there');
    if (text === null) world.stored.delete(at);
    else world.stored.set(at, text);
    world.places.set(at, (world.place += 1));
    const { place } = world;
    queueMicrotask(() => queues.take(at, text, place));
    return place;
  };
  const queues: Queues = new Queues({
    wallMs: () => world.nowMs,
    wakeIn: (ms, run) => {
      const timer = { atMs: world.nowMs + ms, run };
      world.timers.add(timer);
      return () => void world.timers.delete(timer);
    },
    serving: () => world.serving,
    stopped: () => world.stopped,
    ask: (message) =>
      new Promise((resolve, reject) => {
        world.asked.push({ order: message, answer: (answer) => (answer instanceof Failure ? reject(answer) : resolve(answer)) });
      }),
    put: (at, text, after) => write(at, text, after),
    drop: (at, after) => write(at, null, after),
    tell: (happening) => void world.told.push(`${happening.code}: ${happening.text}`),
    warn: () => undefined,
  });
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
  };
  return {
    world,
    queues,
    settle,
    send: async (place: number, text: string, name = 'jobs'): Promise<void> => {
      await write(key(place, name), text, world.places.get(key(place, name)) ?? 0);
      await settle();
    },
    answer: async (index: number, status: number, reason = ''): Promise<void> => {
      world.asked[index]?.answer({ status, reason, tookMs: 1 });
      await settle();
    },
    pass: async (ms: number): Promise<void> => {
      world.nowMs += ms;
      for (const timer of Array.from(world.timers)) {
        if (timer.atMs > world.nowMs) continue;
        world.timers.delete(timer);
        timer.run();
      }
      await settle();
    },
    ids: (): string[] => world.asked.map(({ order: { id, attempt } }) => `${id} ${attempt}`),
  };
}

t.test('an app at its spending cap is sent none, which costs no attempt, and all of them afterwards', async (t) => {
  const { world, queues, send, answer, pass, ids } = open();
  await send(0, content('a'));
  world.stopped = 'its spending cap is reached';
  await answer(0, 503, 'it is stopped');
  await send(1, content('b'));
  for (let minute = 0; minute < 20; minute += 1) await pass(60_000);
  t.same(ids(), ['a 1']);
  t.equal(world.timers.size, 1, 'it is looked at again');
  world.stopped = '';
  await pass(2000);
  t.same(ids(), ['a 1', 'a 2']);
  await answer(1, 200);
  t.same(ids(), ['a 1', 'a 2', 'b 1']);
  await answer(2, 200);
  t.equal(world.stored.size, 0);
  t.equal(world.timers.size, 0, 'and nothing is looked at when nothing waits');
  queues.stop();
});

t.test('a message is delivered once, and gone when it is taken', async (t) => {
  const { world, send, answer, ids } = open();
  await send(0, content('a'));
  await send(1, content('b', { sentWallMs: 2 }));
  t.match(world.asked[0]?.order, { host: 'shop.test', path: '/jobs', queue: 'jobs', id: 'a', attempt: 1, contentType: 'text/plain', bodyBase64: 'aGk=' });
  t.same(ids(), ['a 1'], 'one after the other');
  await answer(0, 200);
  t.same(ids(), ['a 1', 'b 1']);
  await answer(1, 204);
  t.equal(world.stored.size, 0);
  t.equal(world.timers.size, 0, 'an empty queue has nothing to wait for');
  await send(0, content('c'));
  t.same(ids(), ['a 1', 'b 1', 'c 1'], 'its place is taken by another');
});

t.test('one that fails is tried again after a pause, and then put aside', async (t) => {
  const { world, send, answer, pass, ids } = open();
  await send(0, content('a'));
  await answer(0, 500);
  const parsed = parseMessage(queueMessageMessage, world.stored.get(key(0)) ?? '');
  t.match(parsed, { ok: true, value: { id: 'a', attempts: 1, notBeforeWallMs: 3000, reason: 'it answered 500', dead: false } }, 'which is written down');
  await pass(1999);
  t.same(ids(), ['a 1']);
  await pass(1);
  t.same(ids(), ['a 1', 'a 2']);
  await answer(1, 0, 'it broke off');
  t.match(parseMessage(queueMessageMessage, world.stored.get(key(0)) ?? ''), { ok: true, value: { attempts: 2, dead: true } });
  t.same(world.told, ['message-dead: Message a of the queue jobs was tried 2 times and is put aside: no answer: it broke off.']);
  await pass(1_000_000);
  t.same(ids(), ['a 1', 'a 2']);
  await send(0, content('a'));
  t.same(ids(), ['a 1', 'a 2', 'a 1'], 'its provider has it tried again');
});

t.test('a head that begins anew counts on from what is written', async (t) => {
  const { send, ids, pass } = open();
  await send(0, content('a', { attempts: 1, notBeforeWallMs: 5000 }));
  t.same(ids(), []);
  await pass(4000);
  t.same(ids(), ['a 2']);
});

t.test('a dispatcher that is away is no attempt', async (t) => {
  const { world, send, pass, settle, ids } = open();
  await send(0, content('a'));
  world.asked[0]?.answer(new Failure('peer-gone', 'gone'));
  await settle();
  await pass(1000);
  t.same(ids(), ['a 1', 'a 1']);
});

t.test('what is taken while the bus is away is not delivered again, and told when it is back', async (t) => {
  const { world, send, answer, pass, ids } = open();
  await send(0, content('a'));
  world.busUp = false;
  await answer(0, 200);
  await pass(60_000);
  t.same([ids(), world.stored.size], [['a 1'], 1]);
  world.busUp = true;
  await pass(1000);
  t.same([ids(), world.stored.size], [['a 1'], 0]);
});

t.test('a message that is deleted while it is tried stays deleted', async (t) => {
  const { world, queues, send, answer, pass, ids } = open();
  await send(0, content('a'));
  world.stored.delete(key(0));
  world.places.set(key(0), (world.place += 1));
  queues.take(key(0), null, world.place);
  await answer(0, 500);
  await pass(1_000_000);
  t.same([ids(), world.stored.size], [['a 1'], 0]);
});

t.test('who is not asked: an app that does not serve, or has no such queue; until it does', async (t) => {
  const { world, queues, send, settle, ids } = open();
  const order = world.serving;
  world.serving = null;
  await send(0, content('a'));
  await send(0, content('b'), 'others');
  t.same(ids(), []);
  world.serving = order;
  queues.serves('ann.main.shop');
  await settle();
  t.same(ids(), ['a 1']);
  queues.take('what is that', content('c'), 99);
  queues.take(key(7), 'no message', 99);
  t.same(ids(), ['a 1'], 'what is not understood is passed over');
});

t.test('as many at once as the queue says', async (t) => {
  const { send, answer, ids } = open([{ name: 'jobs', path: '/jobs', concurrency: 3 }]);
  for (let place = 0; place < 5; place += 1) await send(place, content(`m${place}`, { sentWallMs: place }));
  t.same(ids(), ['m0 1', 'm1 1', 'm2 1']);
  await answer(1, 200);
  t.same(ids(), ['m0 1', 'm1 1', 'm2 1', 'm3 1']);
});
