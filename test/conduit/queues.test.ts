import t from 'tap';
import type { QueuesAnswer } from '../../conduit/api/answers.ts';
import { queueBodyBytesMax, queueBytesMax, queueMessageMessage } from '../../kit/wire/queue.ts';
import { buckets, queuePlaceOf } from '../../kit/wire/subjects.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import { siteA, until } from '../host/nats.ts';
import { appFolder, plainManifest, startConduit, startEdgepoint } from './rig.ts';

t.test('messages are taken in, listed, tried again and deleted', async (t) => {
  const world = await startConduit(t, { sites: [siteA] });
  await startEdgepoint(t, world.nats, siteA);
  const edgepoint = await world.nats.bus('north.one');
  const token = await world.token('ada');
  const cli = (words: readonly string[], input = ''): ReturnType<typeof world.cli> => world.cli(words, { token, input });
  const withQueue = appFolder(t, `${plainManifest('shop')}\n[[queue]]\nname = "jobs"\npath = "/jobs"\n`);
  t.equal((await world.cli(['deploy', withQueue], { token })).code, 0);
  /** What stands in the edgepoint's part of the bucket, by key. */
  const stored = new Map<string, { text: string; place: number }>();
  const watch = await edgepoint.watchKv(buckets.queues, 'north.one.>', (key, text, place) => void (text === null ? stored.delete(key) : stored.set(key, { text, place })));
  t.teardown(() => watch.stop());
  const send = (body: string, queue = 'jobs', headers: Record<string, string> = { 'content-type': 'text/plain' }): Promise<Response> => world.ask(token, `/apps/shop/queues/${queue}/messages`, { method: 'POST', body, headers });
  const list = async (): Promise<QueuesAnswer['queues']> => ((await (await world.ask(token, '/apps/shop/queues')).json()) as QueuesAnswer).queues;
  const [empty] = await list();
  t.same(empty, { name: 'jobs', waiting: 0, dead: 0, messages: [] });

  const sent = await cli(['queue', 'send', 'jobs', '--app', 'shop', '--type', 'application/json'], '{"a":1}');
  t.match(sent, { code: 0, stdout: /^msg-\w+ waits in jobs for shop at north\.one\.\n$/ });
  const id = sent.stdout.split(' ')[0] ?? '';
  await until('the edgepoint hears of it', () => stored.size === 1);
  const [key = '', first] = [...stored][0] ?? [];
  t.same(queuePlaceOf(key), { site: 'north.one', app: 'ada.main.shop', queue: 'jobs', place: 0 });
  t.match(parseMessage(queueMessageMessage, first?.text ?? ''), { ok: true, value: { id, contentType: 'application/json', bodyBase64: Buffer.from('{"a":1}').toString('base64'), attempts: 0 } });

  t.match(await (await send('x', 'others')).json(), { code: 'queue-unknown', remedy: 'It has: jobs.' });
  t.match(await (await send('x'.repeat(queueBodyBytesMax + 1))).json(), { code: 'message-too-big' });
  t.match(await cli(['queue', 'delete', 'jobs', 'msg-none', '--app', 'shop']), { code: 5, stderr: /no message "msg-none" waits/ });
  t.match(await cli(['queue', 'retry', 'jobs', id, '--app', 'shop']), { code: 5, stderr: /has not been put aside/ });
  t.equal((await world.ask('wrong', '/apps/shop/queues')).status, 401);
  const other = await world.token('eve');
  t.match(await (await world.ask(other, '/apps/shop/queues/jobs/messages', { method: 'POST', body: 'x' })).json(), { code: 'app-unknown' }, 'nobody else may');

  await t.test('a conduit that is killed knows them again, and gives none of their places away', async (t) => {
    await world.kill('SIGKILL');
    await world.start();
    t.equal((await send('second')).status, 201);
    await until('both are there', () => stored.size === 2);
    t.equal(stored.get(key)?.text, first?.text);
    t.match(await list(), [{ waiting: 2, dead: 0, messages: [{ id, site: 'north.one', bytes: 7 }, { bytes: 6 }] }]);
  });

  await t.test('one that was put aside is tried again; one that was taken leaves its place', async (t) => {
    const parsed = parseMessage(queueMessageMessage, first?.text ?? '');
    if (!parsed.ok || first === undefined) throw new Error('no message');
    const dead = await edgepoint.putKv(buckets.queues, key, encodeMessage(queueMessageMessage, { ...parsed.value, attempts: 5, dead: true, reason: 'it answered 500' }), first.place);
    await t.rejects(edgepoint.putKv(buckets.queues, key, 'stale', first.place), { code: 'bus-refused' }, 'what was written since is not written over');
    await until('the conduit hears of it', async () => (await list())[0]?.dead === 1);
    t.match(await cli(['queue', 'list', '--app', 'shop']), { code: 0, stdout: /jobs {2}1 waiting, 1 put aside\n {2}msg-.*put aside, tried 5 times: it answered 500/ });
    t.match(await cli(['queue', 'retry', 'jobs', id, '--app', 'shop']), { code: 0 });
    await until('it waits again', () => (stored.get(key)?.place ?? 0) > dead);
    t.match(parseMessage(queueMessageMessage, stored.get(key)?.text ?? ''), { ok: true, value: { id, attempts: 0, dead: false } });
    await edgepoint.deleteKv(buckets.queues, key, stored.get(key)?.place);
    await until('the conduit hears that it is taken', async () => (await list())[0]?.waiting === 1);
    t.equal((await send('third')).status, 201);
    await until('its place is used again', () => stored.has(key));
    t.equal(stored.size, 2);
  });

  await t.test('the queues of an app are bounded, and go with it', async (t) => {
    const body = 'x'.repeat(queueBodyBytesMax);
    const room = Math.floor(queueBytesMax / queueBodyBytesMax);
    let refused: unknown = null;
    for (let count = 0; count <= room && refused === null; count += 1) {
      const answer = await send(body);
      if (answer.status !== 201) refused = await answer.json();
    }
    t.match(refused, { code: 'queue-full', message: /messages of \d+ bytes would wait/ });
    t.equal((await world.cli(['delete', 'shop', '--yes'], { token })).code, 0);
    await until('nothing is left of them', () => stored.size === 0);
  });
});
