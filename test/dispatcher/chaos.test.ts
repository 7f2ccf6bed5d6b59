import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { openRawClient, openRawInstance, openRig, until } from './rig.ts';

/** What an instance does with one request; the path says it. */
const deeds = ['answer', 'chunked', 'slow', 'close-after', 'until-close', 'reset-before', 'reset-mid', 'end-before', 'extra', 'garbage', 'silent-then-reset'] as const;
type Deed = (typeof deeds)[number];

interface Asked {
  readonly method: 'GET' | 'PUT' | 'POST';
  readonly deed: Deed;
  readonly bodyBytes: number;
}

interface ClientStory {
  readonly asked: readonly Asked[];
  /** After so many requests the client goes away, one way or another; beyond the last it stays. */
  readonly leavesAfter: number;
  readonly leaves: 'reset' | 'end' | 'destroy';
  readonly cutBytes: number;
}

function perform(socket: Socket, deed: string, id: string): void {
  const whole = `<${id}>`;
  const plain = `HTTP/1.1 200 OK\r\nContent-Length: ${whole.length}\r\n\r\n${whole}`;
  const actions: Readonly<Record<string, () => void>> = {
    answer: () => socket.write(plain),
    chunked: () => socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${whole.length.toString(16)}\r\n${whole}\r\n0\r\n\r\n`),
    slow: () => setTimeout(() => socket.write(plain), 5),
    'close-after': () => socket.end(plain),
    'until-close': () => socket.end(`HTTP/1.1 200 OK\r\n\r\n${whole}`),
    'reset-before': () => socket.resetAndDestroy(),
    'reset-mid': () => socket.write(plain.slice(0, -2), () => socket.resetAndDestroy()),
    'end-before': () => socket.end(),
    extra: () => socket.write(`${plain}HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n<poison>`),
    garbage: () => socket.write('\0\0\0\0\r\n\r\n'),
    'silent-then-reset': () => setTimeout(() => socket.resetAndDestroy(), 3),
  };
  actions[deed]?.();
}

/** Reads whole requests off a connection, as an application does. */
function serve(socket: Socket): void {
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes.toString('latin1');
    for (;;) {
      const end = text.indexOf('\r\n\r\n');
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(text.slice(0, Math.max(0, end)))?.[1] ?? 0);
      if (end < 0 || text.length < end + 4 + length) return;
      const [, deed = '', id = ''] = /^\w+ \/([\w-]+)\/([\w-]+) /.exec(text) ?? [];
      text = text.slice(end + 4 + length);
      perform(socket, deed, id);
    }
  });
}

const asked: fc.Arbitrary<Asked> = fc.record({ method: fc.constantFrom('GET', 'PUT', 'POST'), deed: fc.constantFrom(...deeds, 'answer', 'answer', 'chunked', 'slow'), bodyBytes: fc.constantFrom(0, 0, 3, 5000, 40_000) });
const story: fc.Arbitrary<ClientStory> = fc.record({
  asked: fc.array(asked, { minLength: 1, maxLength: 6 }),
  leavesAfter: fc.integer({ min: 1, max: 12 }),
  leaves: fc.constantFrom('reset', 'end', 'destroy'),
  cutBytes: fc.constantFrom(0, 0, 10, 1000),
});

t.test('applications that misbehave and clients that go away: answers stay with their requests, and nothing stays behind', async (t) => {
  const rig = await openRig(t);
  const instances = [await openRawInstance(t, 'one', serve), await openRawInstance(t, 'two', serve)];
  await rig.route(instances, { concurrency: 4 });
  let number = 0;
  const act = async (each: ClientStory): Promise<void> => {
    const client = openRawClient(t, rig.port);
    const ids: string[] = [];
    let bytes = '';
    for (const { method, deed, bodyBytes } of each.asked.slice(0, each.leavesAfter)) {
      const id = `${(number += 1)}-${deed}`;
      ids.push(id);
      bytes += `${method} /${deed}/${id} HTTP/1.1\r\nHost: shop.test\r\nContent-Length: ${bodyBytes}\r\n\r\n${'b'.repeat(bodyBytes)}`;
    }
    const leaves = each.leavesAfter <= each.asked.length;
    client.send(leaves ? bytes.slice(0, bytes.length - each.cutBytes) : bytes);
    if (leaves && each.leaves === 'reset') setTimeout(() => client.socket.resetAndDestroy(), 2);
    else if (leaves && each.leaves === 'destroy') setTimeout(() => client.socket.destroy(), 2);
    else client.socket.end();
    await client.untilClosed();
    client.socket.destroy();
    const got = [...client.text().matchAll(/<([\w-]+)>|HTTP\/1\.1 50\d/g)].map((match) => match[1] ?? 'refused');
    got.forEach((id, index) => assert.ok(id === 'refused' || id === ids[index], `answer ${index} is ${id}, wanted ${ids[index]}; all: ${got.join(' ')}`));
    assert.ok(!client.text().includes('poison'));
  };
  await fc.assert(
    fc.asyncProperty(fc.array(story, { minLength: 1, maxLength: 8 }), async (stories) => {
      await Promise.all(stories.map(act));
    }),
    { numRuns: Number(process.env['LONG'] ?? 0) > 0 ? 200 : 40, endOnFailure: true },
  );
  await until('nothing is under way or waits', () => {
    const last = rig.head.lastDemand;
    return last?.waiting === 0 && last.instances.every(({ outstanding, tunnels }) => outstanding === 0 && tunnels === 0);
  });
  const client = openRawClient(t, rig.port);
  client.send('GET /answer/last HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await client.until('it still answers', (text) => text.endsWith('<last>'));
  t.notMatch(rig.said(), 'broken invariant');
});
