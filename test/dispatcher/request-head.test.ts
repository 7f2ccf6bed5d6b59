import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { forwardRequest } from '../../edgepoint/dispatcher/forward.ts';
import { limits } from '../../edgepoint/dispatcher/limits.ts';
import { readHostName, readRequestHead } from '../../edgepoint/dispatcher/request-head.ts';

const head = (text: string): Buffer => Buffer.from(text, 'latin1');
const verdict = (text: string): string => {
  const result = readRequestHead(head(text));
  return result.kind === 'refused' ? `${result.refusal.status} ${result.refusal.reason}` : result.kind;
};

const good = 'Host: a.test\r\n\r\n';
/** What must be refused, one row for each way; the second column begins the verdict. */
const refused: readonly (readonly [string, string])[] = [
  ['GET / HTTP/1.1\r\n\r\n', '400 Host is missing'],
  ['GET / HTTP/1.0\r\n\r\n', '400 Host is missing'],
  [`GET / HTTP/1.1\r\nHost: b.test\r\n${good}`, '400 Host stands twice'],
  ['GET / HTTP/1.1\r\nHost:\r\n\r\n', '400 Host is not'],
  ['GET / HTTP/1.1\r\nHost: a.test/evil\r\n\r\n', '400 Host is not'],
  ['GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n', '400 Host is not'],
  ['GET / HTTP/1.1\r\nHost: user@a.test\r\n\r\n', '400 Host is not'],
  ['GET / HTTP/1.1\r\nHost: a.test:http\r\n\r\n', '400 Host is not'],
  [`GET http://b.test/ HTTP/1.1\r\n${good}`, '400 the request target and Host'],
  [`GET ftp://a.test/ HTTP/1.1\r\n${good}`, '400 a request target is neither'],
  [`GET a.test/ HTTP/1.1\r\n${good}`, '400 a request target is neither'],
  [`GET * HTTP/1.1\r\n${good}`, '400 a request target is neither'],
  [`CONNECT a.test:80 HTTP/1.1\r\n${good}`, '405'],
  [`TRACE / HTTP/1.1\r\n${good}`, '405'],
  [`GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n${good}`, '400 Content-Length stands twice'],
  [`GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n${good}`, '400 Content-Length is not'],
  [`GET / HTTP/1.1\r\nContent-Length: +1\r\n${good}`, '400 Content-Length is not'],
  [`GET / HTTP/1.1\r\nContent-Length: -1\r\n${good}`, '400 Content-Length is not'],
  [`GET / HTTP/1.1\r\nContent-Length: 0x1\r\n${good}`, '400 Content-Length is not'],
  [`GET / HTTP/1.1\r\nContent-Length: 1 1\r\n${good}`, '400 Content-Length is not'],
  [`GET / HTTP/1.1\r\nContent-Length:\r\n${good}`, '400 Content-Length is not'],
  [`GET / HTTP/1.1\r\nContent-Length: 9999999999999999\r\n${good}`, '400 Content-Length is not'],
  [`GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n${good}`, '400 Transfer-Encoding and Content-Length'],
  [`GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n${good}`, '400 Transfer-Encoding stands twice'],
  [`GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n${good}`, '501'],
  [`GET / HTTP/1.1\r\nTransfer-Encoding: identity\r\n${good}`, '501'],
  [`GET / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n${good}`, '501'],
  [`GET / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n${good}`, '501'],
  [`GET / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n${good}`, '400 the value of'],
  [`GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n${good}`, '400 Transfer-Encoding in HTTP/1.0'],
  [`GET / HTTP/1.1\r\nTransfer_Encoding: chunked\r\n${good}`, '400 transfer_encoding imitates'],
  [`GET / HTTP/1.1\r\nContent_Length: 3\r\n${good}`, '400 content_length imitates'],
  [`GET / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n${good}`, '400 a field name'],
  [`GET / HTTP/1.1\r\n Transfer-Encoding: chunked\r\n${good}`, '400 a field line is folded'],
  [`GET / HTTP/1.1\r\nA: b\r\n\tc\r\n${good}`, '400 a field line is folded'],
  [`GET / HTTP/1.1\r\nA\r\n${good}`, '400 a field line has no colon'],
  [`GET / HTTP/1.1\r\n: b\r\n${good}`, '400 a field name'],
  [`GET / HTTP/1.1\r\nA(: b\r\n${good}`, '400 a field name'],
  [`GET / HTTP/1.1\r\nA: b\0c\r\n${good}`, '400 the value of a'],
  [`GET / HTTP/1.1\r\nA: b\rc\r\n${good}`, '400 the value of a'],
  [`GET / HTTP/1.1\r\nA: b\nTransfer-Encoding: chunked\r\n${good}`, '400 the value of a'],
  ['GET / HTTP/1.1\nHost: a.test\n\n', '400 a line ends in a bare line feed'],
  ['GET / HTTP/1.1\r\nHost: a.test\n', '400 a line ends in a bare line feed'],
  [`GET /  HTTP/1.1\r\n${good}`, '400 a request target has'],
  [`GET  / HTTP/1.1\r\n${good}`, '400 a request target has'],
  [`GET /a b HTTP/1.1\r\n${good}`, '400 a request target has'],
  [`GET /\x01 HTTP/1.1\r\n${good}`, '400 a request target has'],
  [`GET\t/ HTTP/1.1\r\n${good}`, '400 a request line is not'],
  [`GET /\r\n${good}`, '400 a request line is not'],
  [` GET / HTTP/1.1\r\n${good}`, '400'],
  [`GE{T / HTTP/1.1\r\n${good}`, '400 a method'],
  [`GET / HTTP/1.2\r\n${good}`, '505'],
  ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', '505'],
  [`GET / HTTP/01.1\r\n${good}`, '400 a request line does not'],
  [`GET / http/1.1\r\n${good}`, '400 a request line does not'],
  [`GET / HTTP/1.1\r\nExpect: tea\r\n${good}`, '417'],
  [`GET /${'a'.repeat(limits.requestLineBytes)} HTTP/1.1\r\n${good}`, '414'],
  [`GET /${'a'.repeat(limits.requestLineBytes)}`, '414'],
  [`GET / HTTP/1.1\r\nA: ${'a'.repeat(limits.requestHeadBytes)}\r\n${good}`, '431'],
  [`GET / HTTP/1.1\r\nA: ${'a'.repeat(limits.requestHeadBytes)}`, '431'],
  [`GET / HTTP/1.1\r\n${'A: b\r\n'.repeat(limits.requestFields)}${good}`, '431'],
  ['\x16\x03\x01\x02\x00\x01', '400 that is not HTTP'],
  ['\r\n\r\n', '400 that is not HTTP'],
  ['A'.repeat(40), '400 that is not HTTP'],
];

t.test('every way to be refused', async (t) => {
  for (const [text, expected] of refused) t.ok(verdict(text).startsWith(expected), `${JSON.stringify(text.slice(0, 70))}: ${verdict(text)}`);
});

t.test('what is accepted, and what it means', async (t) => {
  const read = (text: string) => {
    const result = readRequestHead(head(text));
    if (result.kind !== 'complete') throw new Error(`${result.kind} ${JSON.stringify(result)}`);
    return result.head;
  };
  t.match(read(`GET /a?b HTTP/1.1\r\n${good}`), { method: 'GET', target: '/a?b', hostName: 'a.test', framing: { kind: 'none' }, keepAlive: true });
  t.match(read(`\r\nGET / HTTP/1.1\r\n${good}`), { target: '/' });
  t.match(read(`GET http://A.test:80/x HTTP/1.1\r\n${good}`), { target: '/x', hostName: 'a.test' });
  t.match(read(`GET http://a.test?q HTTP/1.1\r\n${good}`), { target: '/?q' });
  t.match(read(`OPTIONS * HTTP/1.1\r\n${good}`), { target: '*' });
  t.match(read(`GET / HTTP/1.0\r\n${good}`), { keepAlive: false });
  t.match(read(`GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n${good}`), { keepAlive: true });
  t.match(read(`GET / HTTP/1.1\r\nConnection: x, Close\r\n${good}`), { keepAlive: false });
  t.match(read(`PUT / HTTP/1.1\r\nContent-Length: 0012\r\n${good}`), { framing: { kind: 'length', bytes: 12 } });
  t.match(read(`PUT / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n${good}`), { framing: { kind: 'chunked' }, expectContinue: true });
  t.match(read(`GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${good}`), { upgrade: 'websocket' });
  t.match(read(`GET / HTTP/1.1\r\nUpgrade: websocket\r\n${good}`), { upgrade: '' });
  t.match(read(`GET / HTTP/1.1\r\nConnection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n${good}`), { upgrade: '' });
  t.match(read(`POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n${good}`), { upgrade: '' });
});

t.test('host names', async (t) => {
  const rows: readonly (readonly [string, string | null])[] = [
    ['a.test', 'a.test'],
    ['A.Test.', 'a.test'],
    ['a.test:8080', 'a.test'],
    ['a.test.:80', 'a.test'],
    ['a.test:', 'a.test'],
    ['[2001:DB8::1]:80', '[2001:db8::1]'],
    ['192.0.2.1', '192.0.2.1'],
    ['.', null],
    ['', null],
    [':80', null],
    ['a:b', null],
    ['a:1:2', null],
    ['[::1', null],
    ['a%2etest', null],
    ['a'.repeat(300), null],
  ];
  for (const [host, expected] of rows) t.equal(readHostName(host), expected, JSON.stringify(host.slice(0, 40)));
});

t.test('the parser never throws, and what it takes does not depend on what follows', async (t) => {
  const piece = fc.oneof(
    fc.constantFrom('GET / HTTP/1.1\r\n', good, '\r\n', '\n', '\r', ':', ' ', '\t', '\0', 'Content-Length: 3\r\n', 'Transfer-Encoding: chunked\r\n', 'Host: a\r\n', 'http://a.test', '\xff'),
    fc.string({ unit: 'binary', maxLength: 8 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), fc.uint8Array({ maxLength: 16 }), (pieces, after) => {
      const bytes = head(pieces.join(''));
      const alone = readRequestHead(bytes);
      if (alone.kind !== 'complete') return;
      const followed = readRequestHead(Buffer.concat([bytes, after]));
      assert.deepEqual(followed, alone);
    }),
    { numRuns: 3000 },
  );
  t.pass('no throw');
});

t.test('sections that were read before mean what they meant, whatever else is read in between', async (t) => {
  const client = { address: '192.0.2.1', scheme: 'http', endpoints: () => assert.fail('nobody asks') } as const;
  const told = (text: string): unknown => {
    const result = readRequestHead(head(text));
    if (result.kind !== 'complete') return result;
    const { section, ...rest } = result.head;
    return [rest, section.text, section.meaning, forwardRequest(result.head, client), result.end];
  };
  const line = fc.tuple(fc.constantFrom('GET', 'POST', 'HEAD'), fc.constantFrom('/', '/a?b', '/c'), fc.constantFrom('1.0', '1.1'));
  const fields = fc.array(
    fc.constantFrom('X: y', 'Content-Length: 3', 'Transfer-Encoding: chunked', 'Connection: close', 'Connection: x', 'Connection: upgrade', 'Upgrade: websocket', 'Expect: 100-continue', 'X-Real-IP: 1', 'A b', 'TE: gzip'),
    { maxLength: 4 },
  );
  const text = fc.tuple(line, fields).map(([[method, target, version], lines]) => `${[`${method} ${target} HTTP/${version}`, 'Host: a.test', ...lines].join('\r\n')}\r\n\r\n`);
  fc.assert(
    fc.property(fc.array(text, { minLength: 2, maxLength: 8 }), fc.nat(1000), (texts, salt) => {
      // A field that nobody reads makes each of these sections one that was not read before.
      const unknown = texts.map((each) => each.replace('\r\n\r\n', `\r\nSalt: ${salt} ${Math.random()}\r\n\r\n`));
      const first = unknown.map(told);
      assert.deepEqual(unknown.toReversed().map(told).toReversed(), first);
    }),
    { numRuns: 300 },
  );
  for (let index = 0; index < limits.knownSections * 3; index += 1) told(`GET / HTTP/1.1\r\nHost: a.test\r\nN: ${index}\r\n\r\n`);
  t.match(told(`GET / HTTP/1.1\r\nHost: a.test\r\nN: 1\r\n\r\n`), [{ hostName: 'a.test' }], 'many are forgotten, none is mixed up');
});
