import fc from 'fast-check';
import t from 'tap';
import { ReceiveWindow, SendWindow, windowBytes } from '../../kit/flow.ts';
import { dataBytesMax, encodeFrame, numbered, readFrame, readNumbered } from '../../kit/wire/access.ts';
import type { AccessFrame } from '../../kit/wire/access.ts';

const frames: readonly AccessFrame[] = [
  { kind: 'open', open: { provider: 'ada', scope: 'main', app: 'shop', kind: 'connect', port: 5432 } },
  { kind: 'opened', opened: { instance: 'i-1' } },
  { kind: 'data', bytes: Uint8Array.of(1, 2, 3) },
  { kind: 'credit', bytes: 4_000_000_000 },
  { kind: 'end' },
  { kind: 'close', close: { code: 'port-silent', text: 'nobody' } },
  { kind: 'beat' },
];

t.test('frames come back as they were', async (t) => {
  for (const [number, frame] of frames.entries()) {
    const read = readNumbered(numbered(2 ** 32 - 1 - number, encodeFrame(frame)));
    t.equal(read?.number, 2 ** 32 - 1 - number);
    t.strictSame(readFrame(read?.frame ?? new Uint8Array()), frame);
  }
});

t.test('whatever comes is read or refused, and never throws', async () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    const frame = readFrame(bytes);
    return frame === null || readFrame(encodeFrame(frame)) !== null;
  }), { numRuns: 2000 });
});

t.test('what is no frame', async (t) => {
  const refused: readonly [string, Uint8Array][] = [
    ['nothing', new Uint8Array()],
    ['kind 0', Uint8Array.of(0)],
    ['no such kind', Uint8Array.of(8)],
    ['data without any', Uint8Array.of(3)],
    ['too much data', new Uint8Array(dataBytesMax + 2).fill(3)],
    ['short credit', Uint8Array.of(4, 0, 0)],
    ['an end with more', Uint8Array.of(5, 1)],
    ['a close that is no JSON', Uint8Array.of(6, 123)],
    ['an order of another major version', Buffer.concat([Buffer.of(1), Buffer.from('{"v":"2.0","provider":"a","scope":"b","app":"c","kind":"connect","port":1}')])],
    ['an order for port 0', Buffer.concat([Buffer.of(1), Buffer.from('{"v":"1.0","provider":"a","scope":"b","app":"c","kind":"connect","port":0}')])],
  ];
  for (const [story, bytes] of refused) t.equal(readFrame(bytes), null, story);
  t.equal(readNumbered(Uint8Array.of(0, 0, 0, 1)), null);
});

t.test('a window: what is under way never exceeds it, and all of it comes back', async () => {
  fc.assert(fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: windowBytes })), { maxLength: 200 }), (moves) => {
    const sender = new SendWindow();
    const receiver = new ReceiveWindow();
    let held = 0;
    for (const [sends, wanted] of moves) {
      if (sends) {
        const bytes = Math.min(wanted, sender.left);
        if (!sender.spend(bytes) || !receiver.receive(bytes)) return false;
        held += bytes;
      } else {
        const bytes = Math.min(wanted, held);
        held -= bytes;
        const credit = receiver.passOn(bytes);
        if (credit > 0 && !sender.credit(credit)) return false;
      }
      if (held > windowBytes || sender.left < 0 || sender.left > windowBytes) return false;
    }
    receiver.passOn(held);
    // Less than one piece may be kept back.
    return sender.left <= windowBytes;
  }));
});

t.test('who breaks a window is known', async (t) => {
  const sender = new SendWindow();
  t.notOk(sender.credit(1), 'nothing was spent');
  t.notOk(sender.spend(windowBytes + 1));
  t.ok(sender.spend(windowBytes));
  t.notOk(sender.spend(1));
  const receiver = new ReceiveWindow();
  t.ok(receiver.receive(windowBytes));
  t.notOk(receiver.receive(1));
});
