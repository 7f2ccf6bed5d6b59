import t from 'tap';
import WebSocket, { WebSocketServer } from 'ws';
import { openInstance, openRawClient, openRawInstance, openRig, until } from './rig.ts';
import type { Rig, TestInstance } from './rig.ts';

/** An instance that echoes WebSocket messages and can be paused as a sleeping one is: it reads nothing and writes nothing. */
async function openEcho(t: Parameters<typeof openInstance>[0], instance: string): Promise<{ echo: TestInstance; heard: string[]; say: (text: string) => void }> {
  const heard: string[] = [];
  const sockets = new WebSocketServer({ noServer: true });
  const echo = await openInstance(t, instance, (_, response) => response.end('http'));
  echo.server.on('upgrade', (request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (client) => {
      client.on('message', (data) => {
        heard.push(String(data));
        client.send(`echo ${String(data)}`);
      });
    });
  });
  t.teardown(() => sockets.close());
  return { echo, heard, say: (text) => sockets.clients.forEach((client) => client.send(text)) };
}

async function openSocket(t: Parameters<typeof openInstance>[0], rig: Rig): Promise<{ socket: WebSocket; got: string[] }> {
  const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/live`, { headers: { host: 'shop.test' } });
  const got: string[] = [];
  socket.on('message', (data) => got.push(String(data)));
  t.teardown(() => socket.terminate());
  await new Promise<void>((resolve, reject) => socket.once('open', () => resolve()).once('error', reject));
  return { socket, got };
}

t.test('a keep-alive connection stays open while the app sleeps, and its next request wakes it', async (t) => {
  const rig = await openRig(t);
  const first = await openInstance(t, 'shop-1', (_, response) => response.end('one'));
  const second = await openInstance(t, 'shop-2', (_, response) => response.end('two'));
  await rig.route([first]);
  const client = openRawClient(t, rig.port);
  client.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await client.until('the first answer', (text) => text.endsWith('one'));
  t.same(await rig.head.order('drain', { instance: 'shop-1', park: false, timeoutMs: 500 }), { drained: true });
  await until('its idle connections are closed', () => first.sockets.size === 0);
  first.kill();
  await rig.route([]);
  client.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await until('the request wakes it', () => rig.head.lastDemand?.waiting === 1);
  await rig.route([second]);
  await client.until('the second answer on the same connection', (text) => text.endsWith('two'));
  t.notOk(client.closed());
});

t.test('a WebSocket sleeps and wakes with its instance: nothing is written to it meanwhile, nothing is lost', async (t) => {
  const rig = await openRig(t);
  const { echo, heard, say } = await openEcho(t, 'shop-1');
  await rig.route([echo]);
  const { socket, got } = await openSocket(t, rig);
  socket.send('a');
  await until('the echo', () => got.includes('echo a'));
  await until('the tunnel is told', () => rig.head.lastDemand?.instances[0]?.tunnels === 1);
  t.equal(rig.head.lastDemand?.instances[0]?.outstanding, 0, 'a tunnel is no exchange under way');

  t.same(await rig.head.order('drain', { instance: 'shop-1', park: false, timeoutMs: 50 }), { drained: false }, 'without parking it cannot sleep');
  t.same(await rig.head.order('drain', { instance: 'shop-1', park: true, timeoutMs: 500 }), { drained: true });
  say('last words before the freeze');
  await until('they still reach the client', () => got.includes('last words before the freeze'));
  t.equal(rig.head.lastDemand?.waiting, 0, 'an idle tunnel does not wake it');

  const bytesBefore = [...echo.sockets].reduce((sum, each) => sum + each.bytesRead, 0);
  socket.send('b');
  socket.send('c');
  await until('what the client sends is demand', () => (rig.head.lastDemand?.waiting ?? 0) === 1);
  await rig.route([]);
  t.equal([...echo.sockets].reduce((sum, each) => sum + each.bytesRead, 0), bytesBefore, 'no byte was written to the sleeping instance');
  t.same(heard, ['a']);
  await rig.route([echo]);
  await rig.head.order('unpark', { instance: 'shop-1' });
  await until('all is delivered in order', () => got.includes('echo c'));
  t.same(heard, ['a', 'b', 'c']);
  await until('no more demand', () => rig.head.lastDemand?.waiting === 0);
});

t.test('a client that floods a parked tunnel is held back, and all of it arrives after the wake', async (t) => {
  const rig = await openRig(t);
  let got = 0;
  const raw = await openRawInstance(t, 'shop-1', (socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n');
      socket.on('data', (bytes) => (got += bytes.length));
    });
  });
  await rig.route([raw]);
  const client = openRawClient(t, rig.port);
  client.send('GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n');
  await client.until('the tunnel', (text) => text.includes('101'));
  t.same(await rig.head.order('drain', { instance: 'shop-1', park: true, timeoutMs: 500 }), { drained: true });
  const size = 32 * 1024 * 1024;
  client.send(Buffer.alloc(size));
  client.socket.end();
  await until('it is demand', () => (rig.head.lastDemand?.waiting ?? 0) === 1);
  let written = -1;
  await until('the client is held back', () => {
    const same = written === client.socket.bytesWritten - client.socket.writableLength;
    written = client.socket.bytesWritten - client.socket.writableLength;
    return same;
  });
  t.ok(client.socket.writableLength > 0, 'most of it is still with the client');
  t.equal(got, 0);
  await rig.head.order('unpark', { instance: 'shop-1' });
  await until('all of it arrives', () => got === size, 15_000);
  t.pass(`${got} bytes`);
});

t.test('a client that leaves a parked tunnel is only told to the instance after the wake', async (t) => {
  const rig = await openRig(t);
  let ended = false;
  const raw = await openRawInstance(t, 'shop-1', (socket) => {
    socket.once('data', () => socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n'));
    socket.on('end', () => (ended = true)).on('close', () => (ended = true));
  });
  await rig.route([raw]);
  const client = openRawClient(t, rig.port);
  client.send('GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n');
  await client.until('the tunnel', (text) => text.includes('101'));
  await rig.head.order('drain', { instance: 'shop-1', park: true, timeoutMs: 500 });
  client.socket.resetAndDestroy();
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.notOk(ended, 'nothing reached the sleeping instance');
  await rig.head.order('unpark', { instance: 'shop-1' });
  await until('now it knows', () => ended);
});

t.test('requests that arrive while an instance drains are held and answered by the next', async (t) => {
  const rig = await openRig(t);
  let finish = (): void => {};
  const first = await openInstance(t, 'shop-1', (_, response) => void (finish = () => response.end('one')));
  const second = await openInstance(t, 'shop-2', (_, response) => response.end('two'));
  await rig.route([first]);
  const early = openRawClient(t, rig.port);
  early.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await until('it is under way', () => rig.head.lastDemand?.instances[0]?.outstanding === 1);
  const drained = rig.head.order('drain', { instance: 'shop-1', park: false, timeoutMs: 3000 });
  const late = openRawClient(t, rig.port);
  late.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await until('the late one waits', () => rig.head.lastDemand?.waiting === 1);
  finish();
  t.same(await drained, { drained: true });
  await early.until('the early one is answered', (text) => text.endsWith('one'));
  await rig.route([second]);
  await late.until('the late one too', (text) => text.endsWith('two'));
  t.pass('both answered');
});

t.test('a drain that takes too long gives the instance back', async (t) => {
  const rig = await openRig(t);
  let requests = 0;
  const shop = await openInstance(t, 'shop-1', (request, response) => {
    requests += 1;
    if (request.url === '/fast') response.end('fast');
  });
  await rig.route([shop]);
  const slow = openRawClient(t, rig.port);
  slow.send('GET /slow HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await until('it is under way', () => requests === 1);
  t.same(await rig.head.order('drain', { instance: 'shop-1', park: false, timeoutMs: 100 }), { drained: false });
  const client = openRawClient(t, rig.port);
  client.send('GET /fast HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await client.until('it is given requests again', (text) => text.endsWith('fast'));
  t.pass('and answers');
});

t.test('one that its route says is leaving gets nothing new, be it known or not, until its route takes that back', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('one'));
  const place = { instance: 'shop-1', address: '127.0.0.1', port: shop.port };
  const waits = (number: number): Promise<void> => until(`${number} wait`, () => rig.head.lastDemand?.waiting === number);
  const ask = (): ReturnType<typeof openRawClient> => {
    const client = openRawClient(t, rig.port);
    client.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
    return client;
  };
  await rig.route([], { instances: [{ ...place, draining: true }] });
  const early = ask();
  await waits(1);
  await rig.route([shop]);
  await early.until('it is given the instance', (text) => text.endsWith('one'));
  // Drained, out of the table, and in it again as one that leaves: as a head that was slow to say so has it.
  t.same(await rig.head.order('drain', { instance: 'shop-1', park: false, timeoutMs: 500 }), { drained: true });
  await rig.route([]);
  await rig.route([], { instances: [{ ...place, draining: true }] });
  const late = ask();
  await waits(1);
  await rig.route([shop]);
  await late.until('it is given the instance', (text) => text.endsWith('one'));
  t.pass('both answered');
});

t.test('an upgrade that the application does not take is an ordinary request', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('just http'));
  await rig.route([shop]);
  const client = openRawClient(t, rig.port);
  client.send('GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nGET /next HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await client.until('both are answered', (text) => text.split('just http').length === 3);
  t.notOk(client.closed());
});
