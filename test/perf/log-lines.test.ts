import fc from 'fast-check';
import t from 'tap';
import { admit, fullAllowance, lastLine, lineBytesMax, noLine, noteOfDropped, splitLines } from '../../edgepoint/perf/log-lines.ts';
import type { Allowance } from '../../edgepoint/perf/log-lines.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function feed(parts: readonly Uint8Array[]): string[] {
  let state = noLine;
  const lines: string[] = [];
  for (const part of parts) {
    const split = splitLines(state, part);
    state = split.state;
    lines.push(...split.lines);
    if (state.partial.length > lineBytesMax) throw new Error('broken invariant: the partial line is too long');
  }
  return [...lines, ...lastLine(state)];
}

t.test('lines come out the same however the bytes were cut', async () => {
  const text = fc.array(fc.oneof(fc.string({ unit: 'grapheme', maxLength: 20 }), fc.constant('\n'), fc.constant('\n\n')), { maxLength: 30 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(text, fc.array(fc.nat(200), { maxLength: 20 }), (text, cuts) => {
      const whole = bytes(text);
      const places = [0, ...cuts.map((place) => Math.min(place, whole.length)).toSorted((a, b) => a - b), whole.length];
      const parts = places.slice(1).map((to, index) => whole.slice(places[index], to));
      const expected = text.split('\n');
      if (expected.at(-1) === '') expected.pop();
      return JSON.stringify(feed(parts)) === JSON.stringify(expected);
    }),
    { verbose: 1 },
  );
});

t.test('a line over 8 KiB is cut at a whole character, and the next line is whole', async (t) => {
  const long = 'é'.repeat(lineBytesMax);
  for (const parts of [[bytes(`${long}\nnext\n`)], [bytes(long), bytes(`${long}\nnext\n`)], [bytes(`a${long}`.slice(0, 5000)), bytes(`${long}\nnext\n`)]]) {
    const lines = feed(parts);
    t.equal(lines.length, 2);
    t.match(lines[0], / \[cut\]$/);
    t.notMatch(lines[0], /\uFFFD/);
    t.ok(Buffer.byteLength(lines[0] ?? '') <= lineBytesMax + ' [cut]'.length);
    t.equal(lines[1], 'next');
  }
});

t.test('a flood keeps to the rate, and every byte is either passed or counted as dropped', async (t) => {
  let allowance: Allowance = fullAllowance(1000, 0);
  const line = 'x'.repeat(99);
  let passedBytes = 0;
  let notes = 0;
  for (let tenth = 0; tenth < 100; tenth += 1) {
    const admitted = admit(allowance, Array.from({ length: 10 }, () => line), tenth * 1e8);
    allowance = admitted.allowance;
    passedBytes += admitted.lines.filter((passed) => passed === line).length * 100;
    notes += admitted.lines.filter((passed) => passed.startsWith('[edgepoint')).length;
  }
  t.ok(passedBytes <= 1000 + 10 * 1000, `${passedBytes} bytes in 10 s at 1000 a second, and one second's worth at the start`);
  t.ok(passedBytes >= 9000, `${passedBytes} bytes`);
  t.ok(notes >= 10 && notes <= 22, `${notes} notes`);
  const noted = noteOfDropped(allowance);
  t.match(noted.lines, [/^\[edgepoint: \d+ lines? \(.*\) dropped here; an app may write 1000 B of log in a second\]$/]);
  t.same(noteOfDropped(noted.allowance).lines, []);
});

t.test('what stays below the rate is never touched', async (t) => {
  let allowance = fullAllowance(1000, 0);
  for (let second = 0; second < 50; second += 1) {
    const admitted = admit(allowance, ['hello', 'world'], second * 1e9);
    allowance = admitted.allowance;
    t.same(admitted.lines, ['hello', 'world']);
  }
});
