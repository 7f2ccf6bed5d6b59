import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { SocketStream } from '../../host/socket-stream.ts';
import { windowBytes } from '../../kit/flow.ts';
import { encodeFrame, readFrame } from '../../kit/wire/access.ts';
import type { AccessClose, AccessFrame } from '../../kit/wire/access.ts';
import { until } from './nats.ts';

/** A connected pair of sockets. */
async function pair(t: Test): Promise<[Socket, Socket]> {
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const one = connect({ host: '127.0.0.1', port: (server.address() as { port: number }).port, allowHalfOpen: true });
  const [other] = (await accepted) as [Socket];
  server.close();
  for (const socket of [one, other]) {
    socket.on('error', () => undefined);
    t.teardown(() => socket.destroy());
  }
  return [one, other];
}

/** near <-> (stream, frames, stream) <-> far: what an access is, with nothing in between. */
async function openAccess(t: Test) {
  const [near, nearEnd] = await pair(t);
  const [far, farEnd] = await pair(t);
  const frames: AccessFrame[] = [];
  const closes: AccessClose[] = [];
  let underWay = 0;
  let underWayMost = 0;
  const ports = (other: () => SocketStream) => ({
    send: (frame: AccessFrame): void => {
      frames.push(frame.kind === 'data' ? { kind: 'data', bytes: frame.bytes.subarray(0, 1) } : frame);
      if (frame.kind === 'data') underWay += frame.bytes.length;
      if (frame.kind === 'credit') underWay -= frame.bytes;
      underWayMost = Math.max(underWayMost, underWay);
      const copy = readFrame(encodeFrame(frame));
      setImmediate(() => copy !== null && other().take(copy));
    },
    over: (close: AccessClose): void => void closes.push(close),
  });
  const one: SocketStream = new SocketStream(nearEnd, ports(() => two));
  const two: SocketStream = new SocketStream(farEnd, ports(() => one));
  return { near, far, one, two, frames, closes, most: () => underWayMost };
}

t.test('bytes pass whole both ways, each end by itself', async (t) => {
  const { near, far, closes } = await openAccess(t);
  const sent = randomBytes(4 * 1024 * 1024);
  far.pipe(far);
  const hash = createHash('sha256');
  near.on('data', (bytes: Buffer) => hash.update(bytes)).end(sent);
  await once(near, 'close');
  t.equal(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'));
  await until('both are over', () => closes.length === 2);
  t.strictSame(closes, [{ code: '', text: '' }, { code: '', text: '' }]);
});

t.test('who does not read stops who writes, with no more than a window under way', async (t) => {
  const { near, far, most } = await openAccess(t);
  near.pause();
  let drained = true;
  far.on('drain', () => (drained = true));
  for (let writes = 0; drained && writes < 4096; writes += 1) {
    if (!far.write(Buffer.alloc(65_536))) {
      drained = false;
      const waits = once(far, 'drain').catch(() => undefined);
      await Promise.race([waits, new Promise((resolve) => setTimeout(resolve, 300))]);
    }
  }
  t.notOk(drained, 'the writer was stopped');
  t.ok(most() <= windowBytes, `${most()} bytes were under way at most`);
  near.resume();
  await until('it goes on', () => drained);
});

t.test('one side that breaks is a reset at the other', async (t) => {
  const { near, far, closes } = await openAccess(t);
  far.write('hello');
  await once(near, 'data');
  far.resetAndDestroy();
  const [error] = (await once(near, 'error')) as [NodeJS.ErrnoException];
  t.equal(error.code, 'ECONNRESET');
  await until('both are over', () => closes.length === 2);
  t.match(closes, [{ code: 'access-reset' }, { code: 'access-reset' }]);
});

t.test('more than the window, or credit for what was never sent, ends it', async (t) => {
  for (const frame of [{ kind: 'data', bytes: new Uint8Array(windowBytes + 1) }, { kind: 'credit', bytes: 1 }] as const) {
    const { near, one, closes } = await openAccess(t);
    const ended = new Promise((resolve) => near.once('close', resolve));
    one.take(frame);
    await ended;
    t.match(closes[0], { code: 'access-broken' }, frame.kind);
  }
});
