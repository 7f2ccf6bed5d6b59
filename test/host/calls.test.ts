import t from 'tap';
import type { Test } from 'tap';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectToPeer, listenForPeers } from '../../host/calls.ts';
import type { Handlers } from '../../host/calls.ts';
import { lineBytesMax } from '../../host/call-lines.ts';
import { quietLog as log, until } from './nats.ts';

function socketPath(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-calls-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'peer.sock');
}

/** The listening side as a real process on Bun. */
async function bunListener(t: Test, path: string): Promise<ChildProcess> {
  const child = spawn('node_modules/.bin/bun', ['test/host/calls-peer.ts', 'listen', path], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout?.on('data', (bytes: Buffer) => void (output += bytes.toString()));
  await until('the process listens', () => output.includes('ready'));
  return child;
}

async function listener(t: Test, path: string, handlers: Handlers): Promise<void> {
  const server = listenForPeers(path, handlers, { log });
  t.teardown(() => server.stop());
  await server.ready;
}

function caller(t: Test, path: string, handlers: Handlers = {}, hooks: { onUp?: () => void; onDown?: () => void } = {}): ReturnType<typeof connectToPeer> {
  const peer = connectToPeer(path, handlers, { log, ...hooks });
  t.teardown(() => peer.stop());
  return peer;
}

t.test('both sides call and tell, on Node and on Bun', async (t) => {
  const path = socketPath(t);
  await bunListener(t, path);
  const peer = caller(t, path, { double: (value: number) => value * 2 });
  t.strictSame(await peer.call('echo', { text: 'zażółć\n🦊' }), { text: 'zażółć\n🦊' });
  t.equal(await peer.call('askBack', { method: 'double', params: 21 }), 42);
  await t.rejects(peer.call('refuse', null), { code: 'no-room', message: 'there is no room for another', remedy: 'Come back later.' });
  await t.rejects(peer.call('toString', null), { code: 'no-such-call' });
  await t.rejects(peer.call('never', null, { timeoutMs: 30 }), { code: 'peer-slow' });
  const answers = await Promise.all(Array.from({ length: 500 }, (_, place) => peer.call(place % 2 === 0 ? 'echo' : 'late', place)));
  t.strictSame(answers, answers.map((_, place) => place), 'each call gets its own answer');
  const big = 'ż'.repeat(1_500_000);
  t.equal(await peer.call('echo', big), big, 'a long line comes in many pieces, whole');
  await t.rejects(peer.call('echo', 'x'.repeat(lineBytesMax)), { code: 'message-too-long' });
  t.equal(await peer.call('echo', 1), 1, 'and the connection is still there');
});

t.test('a listener that is killed and comes back', async (t) => {
  const path = socketPath(t);
  const first = await bunListener(t, path);
  let ups = 0;
  let downs = 0;
  const peer = caller(t, path, {}, { onUp: () => void (ups += 1), onDown: () => void (downs += 1) });
  t.equal(await peer.call('pid', null), first.pid);
  const underWay = peer.call('never', null);
  first.kill('SIGKILL');
  await t.rejects(underWay, { code: 'peer-gone' });
  t.notOk(peer.tell('echo', null), 'news has nowhere to go');
  const waits = peer.call('pid', null);
  t.ok(statSync(path).isSocket(), 'its socket file was left behind');
  const second = await bunListener(t, path);
  t.equal(await waits, second.pid, 'a call made meanwhile is answered by the next one');
  t.equal(ups, 2);
  t.equal(downs, 1);
});

t.test('a call that nobody comes to answer', async (t) => {
  const peer = caller(t, socketPath(t));
  await t.rejects(peer.call('x', null, { timeoutMs: 50 }), { code: 'peer-slow' });
  const waiting = peer.call('x', null);
  peer.stop();
  await t.rejects(waiting, { code: 'peer-gone' });
  await t.rejects(peer.call('x', null), { code: 'peer-gone' });
});

t.test('a peer that misbehaves loses only its own connection', async (t) => {
  const path = socketPath(t);
  await listener(t, path, { echo: (params) => params, flood: () => 'x'.repeat(1_000_000) });
  const good = caller(t, path);
  t.equal(await good.call('echo', 1), 1);
  const bad: readonly (readonly [string, (write: (bytes: string) => void) => void])[] = [
    ['garbage', (write) => write('GET / HTTP/1.1\r\n\r\n')],
    ['JSON that is no object', (write) => write('[1]\n')],
    ['null', (write) => write('null\n')],
    ['a line without end', (write) => write('x'.repeat(lineBytesMax + 1))],
    ['never reading answers', (write) => write('{"i":1,"m":"flood"}\n'.repeat(200))],
  ];
  for (const [what, act] of bad) {
    const socket = connect(path);
    let closed = false;
    socket.on('error', () => {}).on('close', () => void (closed = true));
    await new Promise<void>((resolve) => void socket.once('connect', () => resolve()));
    if (what === 'never reading answers') socket.pause();
    else socket.resume();
    act((bytes) => void socket.write(bytes));
    if (what === 'never reading answers') {
      // The reading side sees the end only after what is buffered: a write that fails shows it.
      await until('the connection is cut', () => {
        if (!closed) socket.write('{"m":"x"}\n');
        return closed || socket.destroyed;
      });
    } else await until(`${what} is cut off`, () => closed);
    socket.destroy();
    t.equal(await good.call('echo', what), what, `${what}: the good one goes on`);
  }
  const odd = connect(path);
  let heard = '';
  odd.on('data', (bytes: Buffer) => void (heard += bytes.toString()));
  odd.write('{"i":9,"r":1}\n{"x":1}\n{"i":"a","m":"ec');
  odd.write('ho","p":[2]}\n');
  await until('an odd but lawful peer is answered', () => heard === '{"i":"a","r":[2]}\n');
  odd.destroy();
});

t.test('a handler that breaks answers, and a promise in flight outlives its connection', async (t) => {
  const path = socketPath(t);
  let release = (): void => {};
  await listener(t, path, {
    broken: () => {
      throw new TypeError('not a function');
    },
    held: () => new Promise((resolve) => void (release = () => resolve('too late'))),
    cyclic: () => {
      const ring: Record<string, unknown> = {};
      ring['self'] = ring;
      return ring;
    },
  });
  const peer = caller(t, path);
  await t.rejects(peer.call('broken', null), { code: 'unexpected', message: 'not a function' });
  await t.rejects(peer.call('cyclic', null), { code: 'unexpected' });
  const held = peer.call('held', null);
  const gone = t.rejects(held, { code: 'peer-gone' });
  await t.rejects(peer.call('broken', null), { code: 'unexpected' });
  peer.stop();
  await gone;
  release();
});

t.test('the socket file', async (t) => {
  const path = socketPath(t);
  await listener(t, path, {});
  t.equal(statSync(path).mode & 0o777, 0o660);
  await t.rejects(listenForPeers(path, {}, { log }).ready, { code: 'socket-taken' }, 'a socket that answers is left alone');
  t.ok(statSync(path).isSocket());
  const other = socketPath(t);
  const closed = listenForPeers(other, {}, { log, mode: 0o600 });
  await closed.ready;
  t.equal(statSync(other).mode & 0o777, 0o600);
  closed.stop();
  t.throws(() => statSync(other), { code: 'ENOENT' }, 'is gone after stop');
});
