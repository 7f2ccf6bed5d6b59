import fc from 'fast-check';
import t from 'tap';
import { Frames, framed } from '../../../global-dispatcher/sockets/frames.ts';

t.test('however a stream is cut, the same messages come out, each when its last byte is in', async (t) => {
  const message = fc.oneof(fc.uint8Array({ maxLength: 5 }), fc.uint8Array({ minLength: 250, maxLength: 600 }));
  fc.assert(
    fc.property(fc.array(message, { maxLength: 8 }), fc.array(fc.nat(40), { minLength: 1, maxLength: 12 }), fc.nat(3), (messages, cuts, missing) => {
      const stream = Buffer.concat(messages.map(framed));
      const given = stream.subarray(0, Math.max(0, stream.length - missing));
      const frames = new Frames();
      const found: Uint8Array[] = [];
      for (let at = 0, turn = 0; at < given.length; turn += 1) {
        // An empty chunk now and then, as a socket may give one.
        const length = cuts[turn % cuts.length] ?? 1;
        found.push(...frames.push(given.subarray(at, at + length)));
        at += turn % cuts.length === 0 ? Math.max(1, length) : length;
        if (turn % cuts.length === 0 && length === 0) found.push(...frames.push(given.subarray(at - 1, at)));
      }
      let endsAt = 0;
      const whole = messages.filter((each) => (endsAt += each.length + 2) <= given.length);
      return Buffer.concat(found.map(framed)).equals(Buffer.concat(whole.map(framed))) && found.length === whole.length;
    }),
    { seed: Date.now() & 0x7fffffff, numRuns: 2000 },
  );
  t.strictSame(new Frames().push(Uint8Array.of(0, 0, 0, 1, 7, 0)), [new Uint8Array(0), Uint8Array.of(7)]);
});

t.test('the largest message, byte by byte, takes no time to speak of', async (t) => {
  const frames = new Frames();
  const fromMs = performance.now();
  let found = 0;
  for (const byte of framed(new Uint8Array(65_535).fill(9))) found += frames.push(Uint8Array.of(byte)).length;
  t.equal(found, 1);
  t.ok(performance.now() - fromMs < 500, `${Math.round(performance.now() - fromMs)} ms`);
});
