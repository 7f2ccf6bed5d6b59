import { EventEmitter } from 'node:events';
import t from 'tap';
import { ClientConnection, plainOrigin } from '../../edgepoint/dispatcher/client-connection.ts';
import type { ExchangePorts } from '../../edgepoint/dispatcher/exchange-ports.ts';
import { limits } from '../../edgepoint/dispatcher/limits.ts';
import { Switchboard } from '../../edgepoint/dispatcher/switchboard.ts';
import { UpstreamConnection } from '../../edgepoint/dispatcher/upstream-connection.ts';
import { routeOf } from './rig.ts';

/** A socket that remembers what was done to it, and takes as many bytes as it is told. */
class FakeSocket extends EventEmitter {
  readonly remoteAddress = '192.0.2.7';
  text = '';
  takes = Infinity;
  state: 'open' | 'shut' | 'closed' = 'open';
  reading = true;

  write(bytes: Buffer): number {
    if (this.state !== 'open') return -1;
    const taken = Math.min(bytes.length, this.takes);
    this.takes -= taken;
    this.text += bytes.toString('latin1', 0, taken);
    return taken;
  }
  pause(): void {
    this.reading = false;
  }
  resume(): void {
    this.reading = true;
  }
  shutdown(): void {
    this.state = 'shut';
  }
  end(): void {
    this.state = 'closed';
  }
  terminate(): void {
    this.state = 'closed';
  }
  setNoDelay(): void {}
  setKeepAlive(): void {}
}

/** Everything but the sockets is real; the clock stands where the test sets it. */
function openWorld() {
  const world = { nowMs: 1_000_000, upstreams: [] as FakeSocket[], connections: [] as UpstreamConnection[] };
  const news = { demandChanged: (): void => {}, outlier: (): void => {}, suspect: (): void => {}, held: (): void => {} };
  const switchboard = new Switchboard(news, { nowMs: () => world.nowMs, nowBootNs: () => world.nowMs * 1e6, nowWallMs: () => world.nowMs, chance: () => 0 });
  const ports: ExchangePorts = {
    switchboard,
    nowMs: () => world.nowMs,
    keepsConnections: () => true,
    https: null,
    challenge: () => null,
    answered: () => {},
    connect: (instance, user) => {
      const connection = new UpstreamConnection({ user, nowMs: world.nowMs, onGone: (gone) => instance.forget(gone) });
      const socket = new FakeSocket();
      world.upstreams.push(socket);
      world.connections.push(connection);
      queueMicrotask(() => connection.open(socket as unknown as Parameters<UpstreamConnection['open']>[0]));
      return connection;
    },
  };
  void switchboard.routes([{ ...routeOf([]), instances: [{ instance: 'shop-1', address: '127.0.0.1', port: 1 }] }]);
  const open = (): { socket: FakeSocket; client: ClientConnection; say: (text: string) => Promise<void> } => {
    const socket = new FakeSocket();
    const client = new ClientConnection(socket as unknown as ConstructorParameters<typeof ClientConnection>[0], plainOrigin, ports, () => {});
    const say = async (text: string): Promise<void> => {
      client.data(Buffer.from(text, 'latin1'));
      await Promise.resolve();
    };
    return { socket, client, say };
  };
  /** Lets time pass as the sweep does. */
  const pass = (client: ClientConnection, ms: number): void => {
    for (let passed = 0; passed < ms; passed += limits.sweepMs) {
      world.nowMs += limits.sweepMs;
      client.check(world.nowMs);
    }
  };
  return { world, open, pass };
}

const get = 'GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n';

t.test('slowloris: a head that trickles ends after its time, however often a byte comes', async (t) => {
  const { open, pass } = openWorld();
  const { socket, client, say } = open();
  await say('GET / HTTP/1.1\r\nHost: shop.test\r\n');
  for (let second = 0; second < 16; second += 1) {
    await say(`X-${second}: a\r\n`);
    pass(client, 1000);
  }
  t.match(socket.text, /^HTTP\/1\.1 408/);
  pass(client, limits.lingerMs + limits.sweepMs);
  t.equal(socket.state, 'closed');
});

t.test('an idle connection is closed without a word, a used one after its keep-alive time', async (t) => {
  const { world, open, pass } = openWorld();
  const idle = open();
  pass(idle.client, limits.keepAliveMs + limits.sweepMs);
  t.same([idle.socket.text, idle.socket.state], ['', 'shut']);
  const used = open();
  await used.say(get);
  world.connections[0]?.data(Buffer.from('HTTP/1.1 204 No Content\r\n\r\n'));
  t.match(used.socket.text, /^HTTP\/1\.1 204/);
  pass(used.client, limits.keepAliveMs - 1000);
  t.equal(used.socket.state, 'open');
  pass(used.client, 1000 + limits.sweepMs);
  t.equal(used.socket.state, 'shut');
});

t.test('a body that stops coming ends the exchange on both sides', async (t) => {
  const { world, open, pass } = openWorld();
  const { socket, client, say } = open();
  await say('POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10\r\n\r\nabc');
  pass(client, limits.bodyMs - 1000);
  t.equal(socket.text, '');
  await say('d');
  pass(client, limits.bodyMs - 1000);
  t.equal(socket.text, '', 'each byte gives it new time');
  pass(client, 2000);
  t.match(socket.text, /^HTTP\/1\.1 408[^]*Connection: close/);
  t.equal(world.upstreams[0]?.state, 'closed', 'the application sees no whole request');
});

t.test('an application that says nothing is given up; one that is slow to take the body is not hurried', async (t) => {
  const { world, open, pass } = openWorld();
  const silent = open();
  await silent.say(get);
  pass(silent.client, limits.responseMs - 1000);
  t.equal(silent.socket.text, '');
  pass(silent.client, 2000);
  t.match(silent.socket.text, /^HTTP\/1\.1 504/);
  const slow = open();
  await slow.say('POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100\r\n\r\n');
  const upstream = world.upstreams.at(-1);
  if (upstream !== undefined) upstream.takes = 0;
  await slow.say('x'.repeat(50));
  t.notOk(slow.socket.reading, 'the client is held back');
  pass(slow.client, limits.bodyMs * 2);
  t.equal(slow.socket.text, '');
});

t.test('server-sent events may be silent for as long as they like', async (t) => {
  const { world, open, pass } = openWorld();
  const { socket, client, say } = open();
  await say(get);
  world.connections[0]?.data(Buffer.from('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\n\n\r\n'));
  pass(client, limits.responseMs * 2);
  t.equal(socket.state, 'open');
  client.end();
  t.equal(world.upstreams[0]?.state, 'closed', 'a client that ends its side has gone');
});

t.test('a client that takes nothing of its answer is cut', async (t) => {
  const { world, open, pass } = openWorld();
  const { socket, client, say } = open();
  await say(get);
  socket.takes = 10;
  world.connections[0]?.data(Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n${'x'.repeat(500)}`));
  t.notOk(world.upstreams[0]?.reading, 'the application is held back');
  pass(client, limits.writeMs - 1000);
  t.equal(socket.state, 'open');
  pass(client, 2000);
  t.equal(socket.state, 'closed');
  t.equal(world.upstreams[0]?.state, 'closed');
});

t.test('a connection that does not come to stand is given up, and an idle one ends in time', async (t) => {
  const told: string[] = [];
  const user = { opened: (): void => {}, data: (): void => {}, ended: (): void => {}, room: (): void => {}, closed: (reason: string) => void told.push(reason) };
  const opening = new UpstreamConnection({ user, nowMs: 0, onGone: () => {} });
  opening.check(limits.connectMs - 1);
  t.same(told, []);
  opening.check(limits.connectMs);
  t.same(told, ['ETIMEDOUT']);
  const idle = new UpstreamConnection({ user, nowMs: 0, onGone: () => {} });
  const socket = new FakeSocket();
  idle.open(socket as unknown as Parameters<UpstreamConnection['open']>[0]);
  idle.becomeIdle(1000, limits.upstreamIdleMs);
  idle.check(1000 + limits.upstreamIdleMs - 1);
  t.equal(socket.state, 'open');
  idle.check(1000 + limits.upstreamIdleMs);
  t.equal(socket.state, 'closed');
});
