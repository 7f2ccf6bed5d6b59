import t from 'tap';
import { until } from '../../host/nats.ts';
import { makeQuery, readResponse } from '../messages.ts';
import { TcpClient, startDispatcher } from '../start.ts';
import type { DispatcherProcess } from '../start.ts';

const idleMs = 700;
const connectionsMax = 150;
const query = makeQuery({ name: 'edge.test', type: 6, id: 7 });

async function start(t: Parameters<typeof startDispatcher>[0], settings: Record<string, unknown> = {}): Promise<DispatcherProcess> {
  const dispatcher = startDispatcher(t, { tcpIdleMs: idleMs, ...settings });
  await until('the port answers', async () => (await dispatcher.askUdp(query, 100)) !== null);
  return dispatcher;
}
const frame = (message: Uint8Array): Buffer => Buffer.concat([Buffer.from([message.length >> 8, message.length & 255]), message]);

t.test('well-behaved clients, and those that only look odd', async (t) => {
  const dispatcher = await start(t);

  await t.test('many queries in one write are answered in their order (RFC 7766 6.2.1.1)', async (t) => {
    const client = new TcpClient(dispatcher.host);
    client.socket.write(Buffer.concat(Array.from({ length: 500 }, (_, id) => frame(makeQuery({ name: id % 2 === 0 ? 'edge.test' : 'example.com', type: 6, id })))));
    await until('all are answered', () => client.answers.length === 500);
    t.strictSame(client.answers.map((answer) => answer.readUInt16BE(0)), Array.from({ length: 500 }, (_, id) => id));
    t.strictSame(client.answers.slice(0, 2).map((answer) => readResponse(answer).rcode), [0, 5]);
    client.close();
  });

  await t.test('a query that comes byte by byte', async (t) => {
    const client = new TcpClient(dispatcher.host);
    for (const byte of frame(query)) {
      client.socket.write(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until('it is answered', () => client.answers.length === 1);
    t.equal(client.answers[0]?.readUInt16BE(0), 7);
    client.close();
  });

  await t.test('a client that has said all it will say', async (t) => {
    const client = new TcpClient(dispatcher.host);
    client.socket.end(Buffer.concat([frame(query), frame(query)]));
    await until('the connection is closed', () => client.closed);
    t.equal(client.answers.length, 2, 'is answered before the connection ends');
  });

  await t.test('the largest message there is, of nonsense', async (t) => {
    const client = new TcpClient(dispatcher.host);
    const nonsense = new Uint8Array(65_535).fill(0x61);
    nonsense.set([0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    client.send(nonsense);
    client.send(query);
    await until('both are answered', () => client.answers.length === 2);
    t.strictSame(client.answers.map((answer) => readResponse(answer).rcode), [1, 0]);
    client.close();
  });

  await t.test('what is no query ends the connection', async (t) => {
    for (const message of [new Uint8Array(0), new Uint8Array(11), Uint8Array.from([0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0])]) {
      const client = new TcpClient(dispatcher.host);
      client.send(message);
      await until('it is closed', () => client.closed, idleMs * 0.9);
      t.equal(client.answers.length, 0);
    }
  });
});

t.test('slow and greedy clients', async (t) => {
  const dispatcher = await start(t, { tcpConnectionsMax: connectionsMax, tcpConnectionsPerClientMax: 1000 });
  const alive = async (): Promise<boolean> => (await dispatcher.askUdp(query, 500)) !== null;

  await t.test('an idle one is closed, and so is one that drips bytes of a query that never ends', async (t) => {
    const idle = new TcpClient(dispatcher.host);
    const dripping = new TcpClient(dispatcher.host);
    dripping.socket.write(Buffer.from([0xff, 0xff]));
    const drip = setInterval(() => dripping.socket.write(Buffer.from([0x61])), 50);
    const fromMs = performance.now();
    await until('both are closed', () => idle.closed && dripping.closed);
    clearInterval(drip);
    t.ok(performance.now() - fromMs >= idleMs * 0.9, 'not before their time');
  });

  await t.test('one that keeps asking stays', async (t) => {
    const client = new TcpClient(dispatcher.host);
    const fromMs = performance.now();
    for (let asked = 1; performance.now() - fromMs < idleMs * 2; asked += 1) {
      client.send(query);
      await until('it is answered', () => client.answers.length === asked);
      await new Promise((resolve) => setTimeout(resolve, idleMs / 4));
    }
    t.notOk(client.closed);
    client.close();
  });

  await t.test('1000 connections: the idle give way, and who asks is answered', async (t) => {
    const crowd = Array.from({ length: 1000 }, () => new TcpClient(dispatcher.host));
    t.teardown(() => crowd.forEach((client) => client.close()));
    await until('the crowd is connected or turned away', () => crowd.every((client) => client.closed || !client.socket.connecting));
    const late = new TcpClient(dispatcher.host);
    late.send(query);
    await until('a late one is answered', () => late.answers.length === 1);
    await until('the others gave way', () => crowd.filter((client) => !client.closed).length <= connectionsMax);
    t.ok(await alive(), 'UDP too');
    late.close();
  });

  await t.test('one that asks and asks and never reads is read no further, and closed', async (t) => {
    const client = new TcpClient(dispatcher.host);
    client.socket.pause();
    const before = await memoryBytes(dispatcher);
    const many = Buffer.concat(Array.from({ length: 2000 }, () => frame(query)));
    let sentBytes = 0;
    const push = (): void => {
      for (let goesOn = true; goesOn && !client.socket.destroyed && sentBytes < 64 * 2 ** 20; sentBytes += many.length) goesOn = client.socket.write(many);
    };
    client.socket.on('drain', push);
    push();
    await until('it is closed', () => client.closed, 15_000);
    t.ok(sentBytes > many.length && sentBytes < 64 * 2 ** 20, `only ${Math.round(sentBytes / 1024)} KiB were taken`);
    t.ok(await alive());
    const grownBytes = (await memoryBytes(dispatcher)) - before;
    t.ok(grownBytes < 60 * 2 ** 20, `${Math.round(grownBytes / 2 ** 20)} MiB more memory`);
  });
});

t.test('one address cannot take all connections', async (t) => {
  const dispatcher = await start(t, { tcpConnectionsPerClientMax: 5, tcpIdleMs: 10_000 });
  const clients = Array.from({ length: 12 }, () => new TcpClient(dispatcher.host));
  t.teardown(() => clients.forEach((client) => client.close()));
  await until('those above its share are closed', () => clients.filter((client) => client.closed).length === 7);
  clients.find((client) => !client.closed)?.close();
  await until('a closed one makes room', async () => {
    const next = new TcpClient(dispatcher.host);
    next.send(query);
    await until('it is answered or turned away', () => next.closed || next.answers.length === 1);
    next.close();
    return next.answers.length === 1;
  });
  t.pass('room was made');
});

async function memoryBytes(dispatcher: DispatcherProcess): Promise<number> {
  return Number(/^process_resident_memory_bytes(?:\{[^}]*\})? (\d+)/m.exec(await dispatcher.metrics())?.[1] ?? Number.NaN);
}
