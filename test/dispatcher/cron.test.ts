import { request } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import t from 'tap';
import type { MessageOrder, TaskAnswer, TaskOrder } from '../../edgepoint/model/calls.ts';
import { openInstance, openRawInstance, openRig, until } from './rig.ts';

const order: TaskOrder = { host: 'shop.test', method: 'POST', path: '/tidy?all=1', schedule: '*/5 * * * *', dueWallMs: Date.parse('2026-11-29T10:05:00Z') };

t.test('a request of the edgepoint’s own', async (t) => {
  const rig = await openRig(t);
  const ask = (change: Partial<TaskOrder> = {}): Promise<TaskAnswer> => rig.head.order('ask', { ...order, ...change }) as Promise<TaskAnswer>;
  const seen: { method: string | undefined; url: string | undefined; headers: IncomingHttpHeaders }[] = [];
  const shop = await openInstance(t, 'shop-1', (asked, response) => {
    seen.push({ method: asked.method, url: asked.url, headers: asked.headers });
    if (asked.url === '/chunks') {
      response.write('one');
      setTimeout(() => response.end('two'), 20);
    } else if (asked.url === '/break') {
      response.writeHead(200, { 'content-length': '100' }).write('half');
      setTimeout(() => asked.socket.destroy(), 20);
    } else if (asked.url === '/moved') response.writeHead(302, { location: '/' }).end();
    else response.writeHead(asked.url === '/bad' ? 500 : 200).end('done');
  });

  await t.test('it is held until an instance is there, and the app knows what it is', async (t) => {
    await rig.route([]);
    const asking = ask();
    await until('it waits', () => rig.head.lastDemand?.waiting === 1);
    await rig.route([shop]);
    t.match(await asking, { status: 200, reason: '' });
    t.match(seen, [{ method: 'POST', url: '/tidy?all=1', headers: { host: 'shop.test', 'edgepoint-cron': '*/5 * * * *', 'edgepoint-cron-due': '2026-11-29T10:05:00.000Z', 'x-forwarded-for': '127.0.0.1', 'content-length': '0' } }]);
    await until('it is counted as any other', () => rig.head.lastDemand?.traffic[0]?.requests === 1);
  });

  await t.test('what the answers are', async (t) => {
    t.match(await ask({ method: 'GET', path: '/chunks' }), { status: 200, reason: '' });
    t.match(seen.at(-1)?.headers['content-length'], undefined);
    t.match(await ask({ path: '/bad' }), { status: 500, reason: '' });
    t.match(await ask({ path: '/moved' }), { status: 302, reason: '' });
    t.match(await ask({ path: '/break' }), { status: 200, reason: 'the answer broke off' });
    t.match(await ask({ host: 'nobody.test' }), { status: 404, reason: 'No application here has the name nobody.test.' });
    t.match(await ask({ path: '/a b' }), { status: 400 }, 'refused as an end user’s would be');
    t.match(await ask(), { status: 200 });
  });

  await t.test('a message of a queue comes as a POST with its body', async (t) => {
    const big = 'x'.repeat(128 * 1024);
    const bodies: string[] = [];
    const worker = await openInstance(t, 'shop-q', (asked, response) => {
      let text = '';
      asked.on('data', (bytes: Buffer) => (text += bytes.toString())).once('end', () => {
        bodies.push(text);
        seen.push({ method: asked.method, url: asked.url, headers: asked.headers });
        response.writeHead(202).end();
      });
    });
    await rig.route([worker]);
    for (const text of ['{"a":1}', '', big]) {
      const message: MessageOrder = { host: 'shop.test', path: '/jobs', queue: 'jobs', id: 'msg-1', attempt: 2, contentType: 'application/json', bodyBase64: Buffer.from(text).toString('base64') };
      t.match(await rig.head.order('ask', message), { status: 202, reason: '' });
      t.ok(bodies.at(-1) === text, `${text.length} bytes`);
      t.match(seen.at(-1), { method: 'POST', url: '/jobs', headers: { 'content-type': 'application/json', 'content-length': `${text.length}`, 'edgepoint-queue': 'jobs', 'edgepoint-message': 'msg-1', 'edgepoint-attempt': '2', 'user-agent': 'edgepoint-queue' } });
    }
    await rig.route([shop]);
  });

  await t.test('an end user cannot pretend to be it', async (t) => {
    const before = seen.length;
    for (const headers of [{ 'Edgepoint-Cron': '*/5 * * * *', 'edgepoint-cron-due': 'now', 'Edgepoint-Queue': 'q', 'edgepoint-message': 'm' }, { edgepoint_cron: 'x', Edgepoint_Cron_Due: 'x', edgepoint_attempt: '1' }]) {
      await new Promise<void>((resolve, reject) => {
        request({ port: rig.port, headers: { host: 'shop.test', ...headers } }, (response) => response.resume().once('end', resolve)).once('error', reject).end();
      });
    }
    const said = seen.slice(before).flatMap(({ headers }) => Object.keys(headers));
    t.equal(seen.length - before, 2);
    t.same(said.filter((name) => /cron|queue|message|attempt/i.test(name)), []);
  });

  await t.test('an app whose instance dies is asked again only where that cannot do it twice', async (t) => {
    let asked = 0;
    const dying = await openRawInstance(t, 'shop-2', (socket) => {
      socket.once('data', () => {
        asked += 1;
        socket.destroy();
      });
    });
    await rig.route([dying]);
    t.match(await ask(), { status: 502 });
    t.equal(asked, 1);
    // It may have taken a GET more than once; another instance answers it.
    const asking = ask({ method: 'GET' });
    await until('it was asked', () => asked >= 2);
    await rig.route([shop]);
    t.match(await asking, { status: 200 });
  });
});

t.test('a dispatcher that stops lets it end', async (t) => {
  const rig = await openRig(t);
  const slow = await openInstance(t, 'shop-1', (_asked, response) => void setTimeout(() => response.end('done'), 500));
  await rig.route([slow]);
  const asking = rig.head.order('ask', order) as Promise<TaskAnswer>;
  await until('it is under way', () => rig.head.lastDemand?.instances[0]?.outstanding === 1);
  rig.dispatcher().kill('SIGTERM');
  t.match(await asking, { status: 200, reason: '' });
});
