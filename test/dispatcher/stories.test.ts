import { request } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import t from 'tap';
import { openInstance, openRawClient, openRawInstance, openRig, owner, routeOf, until } from './rig.ts';

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

function ask(port: number, path: string, options: { host?: string; method?: string; body?: string } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { host = 'shop.test', method = 'GET', body } = options;
    const sent = request({ port, host: '127.0.0.1', path, method, headers: { host }, agent: false }, (response) => {
      let text = '';
      response.on('data', (bytes: Buffer) => (text += bytes.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

t.test('a request is held until an instance is there, and many waiters make one demand', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (request_, response) => response.end(`hello ${request_.url}`));
  await rig.route([]);
  const answers = Array.from({ length: 20 }, (_, index) => ask(rig.port, `/${index}`));
  await until('all 20 wait', () => rig.head.lastDemand?.waiting === 20);
  const first = rig.head.demands.findIndex(({ waiting }) => waiting > 0);
  t.equal(rig.head.demands[first]?.waiting, 1, 'the first waiter is told at once');
  t.ok(rig.head.demands.length - first <= 6, `the others are told together (${rig.head.demands.length - first} messages)`);
  await rig.route([shop]);
  const got = await Promise.all(answers);
  t.same(got.map(({ status, body }) => `${status} ${body}`).toSorted(), Array.from({ length: 20 }, (_, index) => `200 hello /${index}`).toSorted());
  await until('nobody waits', () => rig.head.lastDemand?.waiting === 0 && rig.head.lastDemand.instances[0]?.outstanding === 0);
  t.equal(rig.head.lastDemand?.traffic[0]?.requests, 20);
});

t.test('before the first table comes, requests are held, not refused', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('here'));
  const answer = ask(rig.port, '/');
  const unknown = ask(rig.port, '/', { host: 'nobody.test' });
  await new Promise((resolve) => setTimeout(resolve, 30));
  await rig.head.order('routes', [routeOf([shop])]);
  t.equal((await answer).body, 'here');
  t.equal((await unknown).status, 404);
});

t.test('hosts are matched without case, port or closing dot; an unknown one is named', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('here'));
  await rig.route([shop]);
  for (const host of ['shop.test', 'SHOP.Test', 'shop.test:8080', 'shop.test.', 'Shop.test.:80']) {
    t.equal((await ask(rig.port, '/', { host })).status, 200, host);
  }
  const answer = await ask(rig.port, '/', { host: 'other.test' });
  t.equal(answer.status, 404);
  t.match(answer.body, 'other.test');
});

t.test('each request of one connection goes where its Host says, and each app is told and counted by itself', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('<shop>'));
  const blog = await openInstance(t, 'blog-1', (_, response) => response.end('<blog>'));
  const blogOwner = { ...owner, app: 'blog' };
  await rig.head.order('routes', [routeOf([shop]), routeOf([blog], { owner: blogOwner, hosts: ['blog.test'] })]);
  const client = openRawClient(t, rig.port);
  const hosts = ['shop', 'blog', 'blog', 'shop', 'blog'];
  client.send(hosts.map((host) => `GET / HTTP/1.1\r\nHost: ${host}.test\r\n\r\n`).join(''));
  await client.until('five answers', (text) => (text.match(/<\w+>/g) ?? []).length === 5);
  t.same(client.text().match(/<\w+>/g), hosts.map((host) => `<${host}>`));
  const told = (app: string) => rig.head.demands.findLast((demand) => demand.owner.app === app)?.traffic[0];
  await until('both are counted', () => told('shop')?.requests === 2 && told('blog')?.requests === 3);
  await rig.head.order('removeRoute', blogOwner);
  t.equal((await ask(rig.port, '/', { host: 'blog.test' })).status, 404);
  t.equal((await ask(rig.port, '/')).status, 200, 'the other stays');
});

t.test('idleness is exact: the last byte of a long answer is told, also of an instance that left the table', async (t) => {
  const rig = await openRig(t);
  let finish = (): void => {};
  const shop = await openInstance(t, 'shop-1', (_, response) => {
    response.write('begun ');
    finish = () => response.end('ended');
  });
  await rig.route([shop]);
  const client = openRawClient(t, rig.port);
  client.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await client.until('it has begun', (text) => text.includes('begun'));
  await until('it is under way', () => rig.head.lastDemand?.instances[0]?.outstanding === 1);
  const begunNs = rig.head.lastDemand?.instances[0]?.lastActiveBootNs ?? 0;
  await rig.route([]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(rig.head.lastDemand?.instances[0]?.instance, 'shop-1', 'it is told while its exchange is under way');
  finish();
  await client.until('it has ended', (text) => text.includes('ended'));
  await until('it has nothing under way any more', () => rig.head.lastDemand?.instances.length === 0);
  const told = rig.head.demands.findLast(({ instances }) => instances.length > 0)?.instances[0];
  t.ok((told?.lastActiveBootNs ?? 0) > begunNs || told?.outstanding === 1, 'activity was told until the end');
  t.match(rig.head.lastDemand?.traffic[0], { instance: 'shop-1', requests: 1 }, 'and what it did is still told, for the bill');
});

t.test('health and metrics say what is going on', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('ok'));
  await rig.route([shop]);
  await ask(rig.port, '/');
  await ask(rig.port, '/', { host: 'nobody.test' });
  const read = (path: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const sent = request({ socketPath: `${rig.folder}/health.sock`, path, agent: false }, (response) => {
        let text = '';
        response.on('data', (bytes: Buffer) => (text += bytes.toString()));
        response.on('end', () => resolve(text));
      });
      sent.on('error', reject);
      sent.end();
    });
  t.match(JSON.parse(await read('/healthz')), { ok: true });
  const metrics = await read('/metrics');
  t.match(metrics, /edgepoint_dispatcher_requests_total\{app="ann\.main\.shop",class="2xx",daemon="dispatcher"\} 1/);
  t.match(metrics, /edgepoint_dispatcher_requests_total\{app="",class="4xx",daemon="dispatcher"\} 1/);
});

t.test('what is not answered in time, has failed, or is gone is refused with the reason', async (t) => {
  const rig = await openRig(t);
  await rig.route([], { holdMs: 100 });
  const late = await ask(rig.port, '/');
  t.equal(late.status, 503);
  t.ok(Number(late.headers['retry-after']) > 0);
  t.match(late.body, 'no instance is awake');
  await rig.route([], { holdMs: 100, status: 'preparing' });
  t.match((await ask(rig.port, '/')).body, 'first release is being prepared');
  await rig.route([], { status: 'failed', reason: 'it exits at once' });
  const failed = await ask(rig.port, '/');
  t.equal(failed.status, 503);
  t.match(failed.body, 'it exits at once');
  await rig.route([]);
  const held = ask(rig.port, '/');
  await until('it waits', () => rig.head.lastDemand?.waiting === 1);
  await rig.head.order('removeRoute', owner);
  t.equal((await held).status, 404);
});

t.test('a waiter whose client goes away leaves', async (t) => {
  const rig = await openRig(t);
  await rig.route([]);
  const reset = openRawClient(t, rig.port);
  reset.send('GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  const closed = openRawClient(t, rig.port);
  closed.send('GET /b HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await until('both wait', () => rig.head.lastDemand?.waiting === 2);
  reset.socket.resetAndDestroy();
  await until('the one that reset has left', () => rig.head.lastDemand?.waiting === 1);
  closed.socket.destroy();
  await until('the one that closed has left', () => rig.head.lastDemand?.waiting === 0);
  t.pass('both left');
});

t.test('a client that ended its side but still reads gets its answer', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('late but whole'));
  await rig.route([]);
  const client = openRawClient(t, rig.port);
  client.socket.end('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await client.until('it was asked whether it is there', (text) => text.includes('102 Processing'));
  await rig.route([shop]);
  t.match(await client.untilClosed(), /102 Processing\r\n\r\nHTTP\/1\.1 200 OK[\s\S]*late but whole$/);
});

t.test('requests above the limit of one instance wait for their turn; a second instance takes them', async (t) => {
  const rig = await openRig(t);
  const open: (() => void)[] = [];
  const first = await openInstance(t, 'shop-1', (_, response) => void open.push(() => response.end('first')));
  const second = await openInstance(t, 'shop-2', (_, response) => response.end('second'));
  await rig.route([first], { concurrency: 2 });
  const answers = [1, 2, 3].map((number) => ask(rig.port, `/${number}`));
  await until('two at work, one waiting', () => open.length === 2 && rig.head.lastDemand?.waiting === 1);
  await rig.route([first, second], { concurrency: 2 });
  t.equal((await Promise.race(answers)).body, 'second');
  for (const end of open) end();
  t.same((await Promise.all(answers)).map(({ body }) => body).toSorted(), ['first', 'first', 'second']);
});

t.test('an instance that refuses is told as suspect and another answers', async (t) => {
  const rig = await openRig(t);
  const dead = await openInstance(t, 'dead', (_, response) => response.end());
  dead.kill();
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('alive'));
  await rig.route([dead, shop]);
  t.equal((await ask(rig.port, '/', { method: 'POST', body: 'order' })).body, 'alive');
  await until('it is told', () => rig.head.suspects.length > 0);
  t.equal(rig.head.suspects[0]?.instance, 'dead');
});

t.test('an instance that dies before its first byte: GET is answered by another, POST is not sent twice', async (t) => {
  const rig = await openRig(t);
  const seen: string[] = [];
  const dying = await openRawInstance(t, 'dying', (socket) => socket.once('data', (bytes) => (seen.push(bytes.toString().slice(0, 4)), socket.resetAndDestroy())));
  const shop = await openInstance(t, 'shop-1', (request_, response) => (seen.push(`shop ${request_.method}`), void response.end('alive')));
  await rig.route([dying, shop]);
  t.equal((await ask(rig.port, '/')).body, 'alive');
  await rig.route([dying]);
  const posted = await ask(rig.port, '/', { method: 'POST', body: 'order' });
  t.equal(posted.status, 502);
  t.match(posted.body, 'POST may not be repeated');
  t.same(seen, ['GET ', 'shop GET', 'POST']);
});

t.test('an idle connection that the instance closed does not cost the next request', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('ok'));
  await rig.route([shop]);
  for (let round = 0; round < 20; round += 1) {
    t.equal((await ask(rig.port, '/')).status, 200);
    for (const socket of shop.sockets) socket.destroy();
  }
  t.equal(rig.head.suspects.length, 0, 'and says nothing against it');
});

t.test('bodies stream both ways, larger than any buffer, to a slow reader', async (t) => {
  const rig = await openRig(t);
  /** More than the kernel's buffers of all four sockets take. */
  const size = 96 * 1024 * 1024;
  const shop = await openInstance(t, 'shop-1', (request_, response) => {
    request_.pipe(response);
  });
  await rig.route([shop]);
  const client = openRawClient(t, rig.port);
  let got = 0;
  client.socket.removeAllListeners('data');
  client.socket.on('data', (bytes) => (got += bytes.length));
  client.socket.pause();
  client.send(`POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: ${size}\r\nConnection: close\r\n\r\n`);
  const piece = Buffer.alloc(1024 * 1024, 'x');
  let sent = 0;
  const pump = (): void => {
    while (sent < size) {
      sent += piece.length;
      if (!client.socket.write(piece)) return void client.socket.once('drain', pump);
    }
  };
  pump();
  const rssBytes = async (): Promise<number> => {
    const { readFile } = await import('node:fs/promises');
    const status = await readFile(`/proc/${rig.dispatcher().pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
  };
  let lastSent = -1;
  while (lastSent !== client.socket.bytesWritten) {
    lastSent = client.socket.bytesWritten;
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
  t.ok(sent < size, 'the sender is held back while the reader does not read');
  t.ok((await rssBytes()) < 160 * 1024 * 1024, 'the dispatcher does not keep the body');
  client.socket.resume();
  await until('all came back', () => got > size, 15_000);
  t.pass(`${got} bytes`);
});

t.test('100-continue, interim answers, HEAD, HTTP/1.0 and answers that end with the connection', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (request_, response) => {
    if (request_.url === '/close') return void request_.socket.end('HTTP/1.1 200 OK\r\n\r\nuntil the end');
    if (request_.url === '/hints') response.writeEarlyHints({ link: '</a.css>; rel=preload' });
    if (request_.method === 'HEAD') return void response.end();
    let text = '';
    request_.on('data', (bytes: Buffer) => (text += bytes.toString()));
    request_.on('end', () => (response.write('got '), response.end(text)));
  });
  await rig.route([shop]);
  const client = openRawClient(t, rig.port);
  client.send('PUT /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n');
  await client.until('it may continue', (text) => text.includes('100 Continue\r\n\r\n'));
  client.send('body');
  await client.until('the answer', (text) => text.endsWith('0\r\n\r\n'));
  client.send('HEAD /b HTTP/1.1\r\nHost: shop.test\r\n\r\nGET /hints HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await client.until('both answers', (text) => text.includes('103 Early Hints') && text.endsWith('0\r\n\r\n'));
  client.send('GET /close HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  t.match(await client.untilClosed(), /Connection: close\r\n\r\nuntil the end$/);
  const old = openRawClient(t, rig.port);
  old.send('GET /old HTTP/1.0\r\nHost: shop.test\r\n\r\n');
  t.match(await old.untilClosed(), /Connection: close\r\n\r\ngot $/, 'chunks are taken off for HTTP/1.0');
});

t.test('the application sees who the client is, and nothing a client pretends', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (request_, response) => response.end(JSON.stringify(request_.headers)));
  await rig.route([shop]);
  const client = openRawClient(t, rig.port);
  client.send(
    'GET / HTTP/1.1\r\nHost: Shop.test:80\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n' +
      'Connection: keep-alive, X-Secret, X-Forwarded-For\r\nX-Secret: 1\r\nTE: trailers\r\nCookie: a=b\r\nX-Other: y\r\n\r\n',
  );
  const text = await client.until('an answer', (text) => text.endsWith('}'));
  const headers = JSON.parse(text.slice(text.indexOf('{'))) as Record<string, string>;
  t.same(headers, {
    host: 'Shop.test:80',
    cookie: 'a=b',
    'x-other': 'y',
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-proto': 'http',
    'x-forwarded-host': 'Shop.test:80',
    forwarded: 'for=127.0.0.1;host="Shop.test:80";proto=http',
  });
});
