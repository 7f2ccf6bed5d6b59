import fc from 'fast-check';
import t from 'tap';
import { encodeFrame, readFrame } from '../../kit/wire/access.ts';
import { RecordReader, commandBytesMax, encodeRecord, recordBytesMax, sessionSchema } from '../../kit/wire/session.ts';
import type { SessionRecord } from '../../kit/wire/session.ts';

const record = (kind: number, payload: readonly number[]): number[] => [kind, payload.length >> 8, payload.length & 255, ...payload];
const stream = Uint8Array.from([...record(16, [1, 2, 3]), ...record(17, [4]), ...record(16, []), ...record(18, [0, 7])]);
const told: readonly SessionRecord[] = [
  { kind: 'output', bytes: Uint8Array.of(1, 2, 3) },
  { kind: 'errors', bytes: Uint8Array.of(4) },
  { kind: 'output', bytes: new Uint8Array() },
  { kind: 'exit', status: 7, signal: 0 },
];

t.test('records come out however the stream is cut', async () => {
  fc.assert(fc.property(fc.array(fc.nat(stream.length), { maxLength: 6 }), (cuts) => {
    const reader = new RecordReader();
    const ends = [...cuts.toSorted((one, other) => one - other), stream.length];
    const read = ends.flatMap((end, index) => reader.take(stream.slice(ends[index - 1] ?? 0, end)) ?? []);
    return JSON.stringify(read) === JSON.stringify(told);
  }));
});

t.test('whatever comes is read or refused, and never throws', async () => {
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 5 }), (pieces) => {
    const reader = new RecordReader();
    return pieces.every((piece) => reader.take(piece) === null || true);
  }), { numRuns: 1000 });
});

t.test('how a command ended', async (t) => {
  t.strictSame(new RecordReader().take(Uint8Array.from(record(18, [1, 9]))), [{ kind: 'exit', status: 137, signal: 9 }], 'as a shell says of a signal');
  t.strictSame(new RecordReader().take(Uint8Array.from(record(19, [0x6e, 0x6f, 0x0a]))), [{ kind: 'failed', text: 'no' }]);
});

t.test('what is no record', async (t) => {
  for (const [story, bytes] of [
    ['one to a command', record(1, [1])],
    ['no such kind', record(20, [])],
    ['an exit without a status', record(18, [0])],
    ['one that is too long', [16, (recordBytesMax + 1) >> 8, (recordBytesMax + 1) & 255]],
  ] as const) t.equal(new RecordReader().take(Uint8Array.from(bytes)), null, story);
});

t.test('what a client says', async (t) => {
  t.strictSame([...encodeRecord({ kind: 'input', bytes: Uint8Array.of(9, 8) })], [1, 0, 2, 9, 8]);
  t.strictSame([...encodeRecord({ kind: 'input-end' })], [2, 0, 0]);
  t.strictSame([...encodeRecord({ kind: 'size', rows: 300, columns: 80 })], [3, 0, 4, 1, 44, 0, 80]);
});

t.test('orders', async (t) => {
  const terminal = { type: 'xterm-256color', rows: 24, columns: 80 };
  const good = (about: object): boolean => sessionSchema.safeParse({ command: ['ls'], terminal: null, ...about }).success;
  t.ok(good({}));
  t.ok(good({ command: [], terminal }));
  t.ok(good({ command: ['x'.repeat(commandBytesMax - 1)] }));
  t.notOk(good({ command: ['x'.repeat(commandBytesMax)] }), 'too long');
  t.notOk(good({ command: ['ü'.repeat(commandBytesMax / 2)] }), 'bytes count, not characters');
  t.notOk(good({ command: Array.from({ length: 257 }, () => 'x') }), 'too many words');
  t.notOk(good({ command: ['a\0--env\0b'] }), 'a NUL, which would end a word of the box’s order');
  t.notOk(good({ command: [''] }));
  t.notOk(good({ terminal: { ...terminal, type: 'x\ny' } }));
  t.notOk(good({ terminal: { ...terminal, rows: 0 } }));
  t.notOk(good({ timeoutSeconds: 0 }));
  const open = { provider: 'ada', scope: 'main', app: 'shop' } as const;
  const session = { command: ['ls'], terminal: null };
  t.strictSame(readFrame(encodeFrame({ kind: 'open', open: { ...open, kind: 'ssh', session } })), { kind: 'open', open: { ...open, kind: 'ssh', session } });
  t.equal(readFrame(encodeFrame({ kind: 'open', open: { ...open, kind: 'ssh', port: 80 } })), null, 'a session without one');
  t.equal(readFrame(encodeFrame({ kind: 'open', open: { ...open, kind: 'connect', session } })), null, 'a connection without a port');
});
