import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { openBodyScanner } from '../../edgepoint/dispatcher/body-scanner.ts';
import { limits } from '../../edgepoint/dispatcher/limits.ts';

const chunked = { kind: 'chunked' } as const;

interface Read {
  readonly out: string;
  readonly rest: string;
  readonly done: boolean;
  readonly bad: string;
}

/** Scans a text that is cut at the given places. */
function scan(text: string, cuts: readonly number[], decoded: boolean): Read {
  const scanner = openBodyScanner(chunked, { decoded });
  const edges = [0, ...cuts.map((cut) => cut % (text.length + 1)).toSorted((a, b) => a - b), text.length];
  let out = '';
  for (let index = 1; index < edges.length; index += 1) {
    const from = edges[index - 1] ?? 0;
    const input = Buffer.from(text.slice(from, edges[index]), 'latin1');
    const scanned = scanner.scan(input);
    if (scanned.bad !== '') return { out, rest: '', done: false, bad: scanned.bad };
    out += Buffer.concat(scanned.pieces).toString('latin1');
    if (scanned.done) return { out, rest: text.slice(from + scanned.consumed), done: true, bad: '' };
  }
  return { out, rest: '', done: false, bad: '' };
}

const chunk = fc.record({ data: fc.uint8Array({ minLength: 1, maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('latin1')), extension: fc.constantFrom('', ';a', ';a=b', ';x="y z"'), upper: fc.boolean(), zeros: fc.constantFrom('', '0', '000') });
const trailer = fc.array(fc.constantFrom('A: b\r\n', 'X-Sum: \r\n', 'B:c\r\n'), { maxLength: 3 });

t.test('however it is cut, a chunked body gives the same bytes on, without extensions, and ends at the same place', async (t) => {
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 6 }), trailer, fc.array(fc.nat(), { maxLength: 8 }), fc.constantFrom('', 'GET / HTTP'), (chunks, trailers, cuts, after) => {
      const size = (data: string, upper: boolean): string => (upper ? data.length.toString(16).toUpperCase() : data.length.toString(16));
      const wire = chunks.map(({ data, extension, upper, zeros }) => `${zeros}${size(data, upper)}${extension}\r\n${data}\r\n`).join('') + `0\r\n${trailers.join('')}\r\n`;
      const plain = chunks.map(({ data, upper, zeros }) => `${zeros}${size(data, upper)}\r\n${data}\r\n`).join('') + `0\r\n${trailers.join('')}\r\n`;
      assert.deepEqual(scan(wire + after, cuts, false), { out: plain, rest: after, done: true, bad: '' });
      assert.deepEqual(scan(wire + after, cuts, true), { out: chunks.map(({ data }) => data).join(''), rest: after, done: true, bad: '' });
    }),
    { numRuns: 500 },
  );
  t.pass('held for 500 bodies');
});

t.test('bad chunks are refused, however they are cut', async (t) => {
  const rows: readonly (readonly [string, RegExp])[] = [
    ['\r\n', /not a number/],
    ['g\r\n', /not a number/],
    ['-1\r\n', /not a number/],
    ['0x1\r\n', /not a number/],
    [' 1\r\na\r\n', /not a number/],
    ['1 \r\na\r\n', /not a number/],
    ['1\na\r\n', /not a number/],
    ['1\r\rna', /does not end in CRLF/],
    ['1;a\nb\r\na\r\n', /control character/],
    ['1;a\0\r\na\r\n', /control character/],
    ['1;a\r\r\na', /does not end in CRLF/],
    [`1;${'a'.repeat(limits.chunkExtensionBytes + 1)}\r\n`, /too long/],
    ['00000000000001\r\na\r\n', /too long/],
    ['fffffffffffffff\r\n', /too long/],
    ['1\r\nab\r\n', /longer than its size/],
    ['1\r\na\n0\r\n\r\n', /longer than its size/],
    ['1\r\na\rb', /a chunk does not end/],
    ['0\r\n a: b\r\n\r\n', /no name/],
    ['0\r\na b: c\r\n\r\n', /not allowed/],
    ['0\r\na: b\n\r\n', /control character/],
    ['0\r\na: b\rc\r\n', /does not end/],
    ['0\r\n\ra', /does not end/],
    ['0\r\n\n', /no name/],
    [`0\r\na: ${'b'.repeat(limits.trailerBytes)}`, /too large/],
  ];
  for (const [text, reason] of rows) {
    t.match(scan(text, [], false).bad, reason, JSON.stringify(text.slice(0, 40)));
    const byByte = scan(text, Array.from({ length: Math.min(text.length, 300) }, (_, index) => index), false);
    t.match(byByte.bad, reason, 'byte by byte');
  }
});

t.test('any bytes: never a throw, and nothing goes on after a refusal', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(), { maxLength: 5 }), (bytes, cuts) => {
      const text = Buffer.from(bytes).toString('latin1');
      const whole = scan(text, [], false);
      const cut = scan(text, cuts, false);
      assert.equal(cut.bad, whole.bad);
      if (whole.bad === '') assert.deepEqual(cut, whole);
    }),
    { numRuns: 2000 },
  );
  t.pass('no throw');
});

t.test('a body of known length takes exactly that', async (t) => {
  const scanner = openBodyScanner({ kind: 'length', bytes: 5 });
  t.match(scanner.scan(Buffer.from('abc')), { consumed: 3, done: false });
  t.match(scanner.scan(Buffer.from('defg')), { consumed: 2, done: true });
  t.ok(openBodyScanner({ kind: 'none' }).done);
});
