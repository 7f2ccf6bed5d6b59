import t from 'tap';
import { SessionStream } from '../../conduit/cli/session-stream.ts';
import type { SessionEnd } from '../../conduit/cli/session-stream.ts';
import { windowBytes } from '../../kit/flow.ts';
import type { AccessFrame } from '../../kit/wire/access.ts';

/** A stream with a terminal that writes when the test says so. */
function open() {
  const sent: AccessFrame[] = [];
  const writes: { to: string; bytes: string; written: () => void }[] = [];
  const wants: boolean[] = [];
  const ends: SessionEnd[] = [];
  const stream = new SessionStream({
    send: (frame) => void sent.push(frame),
    write: (to, bytes, written) => void writes.push({ to, bytes: Buffer.from(bytes).toString(), written }),
    wantsInput: (wanted) => void wants.push(wanted),
    over: (end) => void ends.push(end),
  });
  const hear = (kind: number, text: string | readonly number[]): void => {
    const payload = Buffer.from(text as string);
    stream.take({ kind: 'data', bytes: Buffer.concat([Buffer.of(kind, payload.length >> 8, payload.length & 255), payload]) });
  };
  return { stream, sent, writes, wants, ends, hear };
}

t.test('a command’s end waits until all that it said has been written', async (t) => {
  const { hear, writes, ends, sent } = open();
  hear(16, 'out');
  hear(17, 'errors');
  hear(18, [0, 3]);
  t.strictSame(writes.map(({ to, bytes }) => [to, bytes]), [['stdout', 'out'], ['stderr', 'errors']]);
  t.strictSame(ends, []);
  t.strictSame(sent.map(({ kind }) => kind), ['close'], 'the instance is told at once');
  writes[0]?.written();
  t.strictSame(ends, []);
  writes[1]?.written();
  t.strictSame(ends, [{ status: 3 }]);
});

t.test('input beyond the window waits, and so does whoever makes it', async (t) => {
  const { stream, sent, wants } = open();
  const bytes = (): number => sent.reduce((all, frame) => all + (frame.kind === 'data' ? frame.bytes.length : 0), 0);
  for (let record = 0; record < 10; record += 1) stream.say({ kind: 'input', bytes: new Uint8Array(32_768) });
  t.equal(bytes(), windowBytes);
  t.equal(wants.at(-1), false);
  stream.take({ kind: 'credit', bytes: windowBytes });
  t.equal(bytes(), 10 * (32_768 + 3));
  t.equal(wants.at(-1), true);
});

t.test('credit is given for what has been written, and for nothing else', async (t) => {
  const { hear, writes, sent } = open();
  for (let record = 0; record < 2; record += 1) hear(16, 'x'.repeat(30_000));
  t.strictSame(sent, []);
  for (const { written } of writes) written();
  t.strictSame(sent, [{ kind: 'credit', bytes: 2 * 30_003 }]);
});

t.test('how it fails', async (t) => {
  const stories: readonly [string, (about: ReturnType<typeof open>) => void, string][] = [
    ['it was not begun', ({ hear }) => hear(19, 'no such instance'), 'session-failed'],
    ['what is no record', ({ hear }) => hear(99, ''), 'access-broken'],
    ['more credit than was spent', ({ stream }) => stream.take({ kind: 'credit', bytes: 1 }), 'access-broken'],
    ['more data than there is credit for', ({ hear }) => Array.from({ length: 10 }, () => hear(16, 'x'.repeat(32_000))), 'access-broken'],
    ['cut', ({ stream }) => stream.take({ kind: 'close', close: { code: 'access-cut', text: '' } }), 'access-cut'],
  ];
  for (const [story, play, code] of stories) {
    const about = open();
    play(about);
    for (const { written } of about.writes) written();
    t.match(about.ends, [{ close: { code } }], story);
    about.stream.say({ kind: 'input', bytes: Uint8Array.of(1) });
    t.equal(about.ends.length, 1, `${story}: once`);
  }
});
