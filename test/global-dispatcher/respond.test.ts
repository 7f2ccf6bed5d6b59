import { Packet } from 'dns2';
import fc from 'fast-check';
import t from 'tap';
import { parseAddress } from '../../global-dispatcher/address.ts';
import { respond } from '../../global-dispatcher/respond.ts';
import { makeKnowledge } from './fixtures.ts';
import { fromHex, makeQuery, readResponse, subnetOption, wireName } from './messages.ts';
import type { QueryWords } from './messages.ts';

const { knowledge, state } = makeKnowledge();
const resolver = parseAddress('203.0.113.9') ?? new Uint8Array(4);
const ask = (message: Uint8Array, more: { transport?: 'udp' | 'tcp'; from?: string } = {}, known = knowledge): Uint8Array | null =>
  respond(message, { address: parseAddress(more.from ?? '') ?? resolver, transport: more.transport ?? 'udp' }, known).bytes;

const codes = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const;
/** Sections as dns2 reads them: `A 192.0.2.1`, `SOA`, ... */
function sections(bytes: Uint8Array): { answers: string[]; authority: string[]; additional: string[] } {
  const packet = Packet.parse(Buffer.from(bytes));
  const names = new Map<number, string>(Object.entries(Packet.TYPE).map(([name, number]) => [number, name]));
  const text = (record: { type: number; address?: string; ns?: string; primary?: string }): string =>
    [names.get(record.type) ?? String(record.type), record.address ?? record.ns ?? record.primary ?? ''].join(' ').trim();
  const real = (list: unknown[]): string[] => (list as { type: number }[]).filter(({ type }) => type !== 41).map(text);
  return { answers: real(packet.answers), authority: real(packet.authorities), additional: real(packet.additionals) };
}

interface Row {
  readonly says: string;
  readonly query: QueryWords;
  readonly from?: string;
  readonly rcode: keyof typeof codes;
  readonly answers?: string[];
  readonly authority?: string[];
  readonly additional?: string[];
  /** Null: no ECS in the answer. */
  readonly scope?: number | null;
}
const types = { A: 1, NS: 2, SOA: 6, MX: 15, TXT: 16, AAAA: 28, HTTPS: 65, AXFR: 252, ANY: 255, OPT: 41 };
const soa = ['SOA ns1.edge.test'];

t.test('the table of answers', async (t) => {
  const table: Row[] = [
    { says: 'a user near Berlin', query: { name: 'shop.edge.test', type: types.A, subnet: '10.1.7.0/24' }, rcode: 'NOERROR', answers: ['A 198.51.100.1'], scope: 16 },
    { says: 'a user near New York', query: { name: 'shop.edge.test', type: types.A, subnet: '10.2.7.0/24' }, rcode: 'NOERROR', answers: ['A 198.51.100.2'], scope: 16 },
    { says: 'the same by the resolver\'s own address', query: { name: 'shop.edge.test', type: types.A }, from: '10.2.0.1', rcode: 'NOERROR', answers: ['A 198.51.100.2'], scope: null },
    { says: 'a resolver on an IPv6 socket', query: { name: 'shop.edge.test', type: types.A }, from: '::ffff:10.2.0.1', rcode: 'NOERROR' },
    { says: 'source /0: the resolver\'s address, scope 0', query: { name: 'shop.edge.test', type: types.A, subnet: '0.0.0.0/0' }, from: '10.2.0.1', rcode: 'NOERROR', answers: ['A 198.51.100.2'], scope: 0 },
    { says: 'an unknown user: by the resolver\'s place, for as far as nobody else is', query: { name: 'shop.edge.test', type: types.A, subnet: '192.0.2.0/24' }, from: '10.2.0.1', rcode: 'NOERROR', answers: ['A 198.51.100.2'], scope: 1 },
    { says: 'a short source: the scope says that more was needed', query: { name: 'shop.edge.test', type: types.A, subnet: '10.0.0.0/8' }, rcode: 'NOERROR', scope: 16 },
    { says: 'only one edgepoint: the same for everybody', query: { name: 'only.edge.test', type: types.A, subnet: '10.2.7.0/24' }, rcode: 'NOERROR', answers: ['A 198.51.100.1'], scope: 0 },
    { says: 'AAAA', query: { name: 'shop.edge.test', type: types.AAAA, subnet: '10.2.7.0/24' }, rcode: 'NOERROR', answers: ['AAAA 2001:db8::2'], scope: 16 },
    { says: 'letters of either case', query: { name: 'sHoP.eDgE.TeSt', type: types.A, subnet: '10.1.7.0/24' }, rcode: 'NOERROR', answers: ['A 198.51.100.1'] },
    { says: 'a type that an app has not', query: { name: 'shop.edge.test', type: types.MX, subnet: '10.1.7.0/24' }, rcode: 'NOERROR', authority: soa, scope: 0 },
    { says: 'an unknown type', query: { name: 'shop.edge.test', type: 65_399 }, rcode: 'NOERROR', authority: soa },
    { says: 'ANY is answered with little (RFC 8482)', query: { name: 'shop.edge.test', type: types.ANY }, rcode: 'NOERROR', answers: ['HINFO'] },
    { says: 'no such name', query: { name: 'nope.edge.test', type: types.A, subnet: '10.1.7.0/24' }, rcode: 'NXDOMAIN', authority: soa, scope: 0 },
    { says: 'nothing below an app', query: { name: 'x.shop.edge.test', type: types.A }, rcode: 'NXDOMAIN', authority: soa },
    { says: 'the longest name there is', query: { name: `${`${'a'.repeat(63)}.`.repeat(3)}${'b'.repeat(51)}.edge.test`, type: types.A }, rcode: 'NXDOMAIN', authority: soa },
    { says: '121 labels', query: { name: `${'a.'.repeat(121)}edge.test`, type: types.A }, rcode: 'NXDOMAIN', authority: soa },
    { says: 'a name that only has names below it exists (RFC 8020)', query: { name: 'b.edge.test', type: types.A }, rcode: 'NOERROR', authority: soa },
    { says: 'and the one between', query: { name: 'a.b.edge.test', type: types.ANY }, rcode: 'NOERROR', authority: soa },
    { says: 'a deep name', query: { name: 'deep.a.b.edge.test', type: types.A }, rcode: 'NOERROR', answers: ['A 198.51.100.1'] },
    { says: 'the apex: SOA', query: { name: 'edge.test', type: types.SOA }, rcode: 'NOERROR', answers: soa },
    { says: 'the apex: NS with addresses', query: { name: 'edge.test', type: types.NS }, rcode: 'NOERROR', answers: ['NS ns1.edge.test'], additional: ['A 192.0.2.53', 'AAAA 2001:db8::53'] },
    { says: 'the apex has no address', query: { name: 'edge.test', type: types.A }, rcode: 'NOERROR', authority: soa },
    { says: 'the nameserver itself', query: { name: 'ns1.edge.test', type: types.A }, rcode: 'NOERROR', answers: ['A 192.0.2.53'] },
    { says: 'the nameserver, another type', query: { name: 'ns1.edge.test', type: types.TXT }, rcode: 'NOERROR', authority: soa },
    { says: 'another zone', query: { name: 'example.com', type: types.A }, rcode: 'REFUSED' },
    { says: 'the parent', query: { name: 'test', type: types.SOA }, rcode: 'REFUSED' },
    { says: 'the root', query: { name: '', type: types.NS }, rcode: 'REFUSED' },
    { says: 'a name that only ends with the same letters', query: { name: 'ledge.test', type: types.A }, rcode: 'REFUSED' },
    { says: 'another class', query: { name: 'edge.test', type: types.SOA, class: 3 }, rcode: 'REFUSED' },
    { says: 'no transfers', query: { name: 'edge.test', type: types.AXFR }, rcode: 'REFUSED' },
    { says: 'a later EDNS', query: { name: 'shop.edge.test', type: types.A, version: 1 }, rcode: 'BADVERS' },
  ];
  for (const { says, query, from, rcode, answers, authority, additional, scope } of table) {
    const bytes = ask(makeQuery(query), from === undefined ? {} : { from });
    if (bytes === null) {
      t.fail(`${says}: no answer`);
      continue;
    }
    const read = readResponse(bytes);
    const found = sections(bytes);
    t.equal(read.extendedRcode, codes[rcode], `${says}: ${rcode}`);
    t.equal(read.authoritative, rcode === 'NOERROR' || rcode === 'NXDOMAIN', `${says}: AA`);
    if (answers !== undefined || authority !== undefined) t.strictSame(found.answers, answers ?? [], `${says}: answers`);
    t.strictSame(found.authority, authority ?? [], `${says}: authority`);
    if (additional !== undefined) t.strictSame(found.additional, additional, `${says}: additional`);
    if (scope !== undefined) t.equal(read.scope, scope, `${says}: scope`);
    t.equal(read.id, 0x1234);
  }
});

t.test('malformed bytes, one row each', async (t) => {
  const name = Buffer.from(wireName('shop.edge.test')).toString('hex');
  const head = (flags: string, counts: string): string => `abcd ${flags} ${counts}`;
  const one = '0001 0000 0000 0000';
  const withOpt = '0001 0000 0000 0001';
  const opt = (data: string): string => `00 0029 04d0 00000000 ${(Buffer.from(fromHex(data)).length).toString(16).padStart(4, '0')} ${data}`;
  const question = `${name} 0001 0001`;
  const long = `${`3f${'61'.repeat(63)}`.repeat(4)}00`;
  const table: [string, string, number | null][] = [
    ['nothing', '', null],
    ['less than a header', 'abcd 0000 0001 0000 0000 00', null],
    ['a response', `${head('8000', one)} ${question}`, null],
    ['a header alone with no question', head('0000', '0000 0000 0000 0000'), codes.FORMERR],
    ['a header that promises a question', head('0000', one), codes.FORMERR],
    ['two questions (RFC 9619)', `${head('0000', '0002 0000 0000 0000')} ${question} ${question}`, codes.FORMERR],
    ['STATUS', `${head('1000', one)} ${question}`, codes.NOTIMP],
    ['NOTIFY', `${head('2000', one)} ${question}`, codes.NOTIMP],
    ['UPDATE', `${head('2800', one)} ${question}`, codes.NOTIMP],
    ['a question without its class', `${head('0000', one)} ${name} 0001`, codes.FORMERR],
    ['a name without its end', `${head('0000', one)} 0473686f70`, codes.FORMERR],
    ['a name that points to itself', `${head('0000', one)} c00c 0001 0001`, codes.FORMERR],
    ['a name that points ahead', `${head('0000', one)} c00e 0161 00 0001 0001`, codes.FORMERR],
    ['a name that points into the header', `${head('0000', one)} c000 0001 0001`, codes.FORMERR],
    ['labels that loop', `${head('0000', one)} 0161 c00c 0001 0001`, codes.FORMERR],
    ['a label type of 01', `${head('0000', one)} 4161 00 0001 0001`, codes.FORMERR],
    ['a label type of 10', `${head('0000', one)} 8161 00 0001 0001`, codes.FORMERR],
    ['a name of 257 bytes', `${head('0000', one)} ${long} 0001 0001`, codes.FORMERR],
    ['bytes behind the end', `${head('0000', one)} ${question} 00`, codes.FORMERR],
    ['a promised record that is not there', `${head('0000', '0001 0000 0000 ffff')} ${question}`, codes.FORMERR],
    ['two OPT', `${head('0000', '0001 0000 0000 0002')} ${question} ${opt('')} ${opt('')}`, codes.FORMERR],
    ['OPT with a name', `${head('0000', withOpt)} ${question} 0161 ${opt('')}`, codes.FORMERR],
    ['OPT among the answers', `${head('0000', '0001 0001 0000 0000')} ${question} ${opt('')}`, codes.FORMERR],
    ['an option longer than OPT', `${head('0000', withOpt)} ${question} ${opt('0008 00ff 0001 18 00')}`, codes.FORMERR],
    ['half an option', `${head('0000', withOpt)} ${question} ${opt('0008 00')}`, codes.FORMERR],
    ['ECS with bits behind its prefix', `${head('0000', withOpt)} ${question} ${opt('0008 0007 0001 14 00 0a01ff')}`, codes.FORMERR],
    ['ECS with a scope in a query', `${head('0000', withOpt)} ${question} ${opt('0008 0007 0001 18 18 0a0107')}`, codes.FORMERR],
    ['ECS with too few bytes', `${head('0000', withOpt)} ${question} ${opt('0008 0006 0001 18 00 0a01')}`, codes.FORMERR],
    ['ECS with too many bytes', `${head('0000', withOpt)} ${question} ${opt('0008 0008 0001 18 00 0a010700')}`, codes.FORMERR],
    ['ECS of /33', `${head('0000', withOpt)} ${question} ${opt('0008 0009 0001 21 00 0a01070000')}`, codes.FORMERR],
    ['ECS of a family that is none', `${head('0000', withOpt)} ${question} ${opt('0008 0007 0003 18 00 0a0107')}`, codes.FORMERR],
    ['ECS twice', `${head('0000', withOpt)} ${question} ${opt('0008 0007 0001 18 00 0a0107 0008 0007 0001 18 00 0a0107')}`, codes.FORMERR],
    ['ECS cut in its head', `${head('0000', withOpt)} ${question} ${opt('0008 0003 0001 18')}`, codes.FORMERR],
    ['a dot within a label is no dot', `${head('0000', one)} 09 73686f702e65646765 04 74657374 00 0001 0001`, codes.REFUSED],
    ['ECS of family 0 with nothing is well formed', `${head('0000', withOpt)} ${question} ${opt('0008 0004 0000 00 00')}`, codes.NOERROR],
    ['ECS of IPv6', `${head('0000', withOpt)} ${question} ${opt('0008 0008 0002 20 00 fd000002')}`, codes.NOERROR],
    ['an unknown option', `${head('0000', withOpt)} ${question} ${opt('fde9 0002 beef')}`, codes.NOERROR],
    ['a cookie', `${head('0000', withOpt)} ${question} ${opt('000a 0008 0102030405060708')}`, codes.NOERROR],
    ['a record before OPT', `${head('0000', '0001 0000 0000 0002')} ${question} c00c 0001 0001 00000000 0004 01020304 ${opt('')}`, codes.NOERROR],
    ['a later EDNS with options we cannot know', `${head('0000', withOpt)} ${question} 00 0029 04d0 00010000 0003 000800`, codes.BADVERS],
  ];
  for (const [says, hex, rcode] of table) {
    const bytes = ask(fromHex(hex));
    if (rcode === null || bytes === null) t.equal(bytes === null, rcode === null, says);
    else t.equal(readResponse(bytes).extendedRcode, rcode, says);
  }
});

t.test('the query\'s own letters, flags and client subnet come back', async (t) => {
  const query = makeQuery({ name: 'sHoP.EDGE.test', type: 1, subnet: '10.1.7.0/24' });
  query[2] = 0x01;
  const bytes = ask(query) ?? new Uint8Array(0);
  t.equal(Buffer.from(bytes).subarray(12, 28).toString('hex'), Buffer.from(query).subarray(12, 28).toString('hex'));
  t.equal(Buffer.from(bytes).readUInt16BE(2), 0x8500, 'response, authoritative, RD copied, no RA');
  const option = Buffer.from(subnetOption('10.1.7.0/24'));
  option[7] = 16;
  t.ok(Buffer.from(bytes).includes(option), 'family, source and address are repeated, the scope is ours');
});

t.test('before all names are known, an absent one may exist', async (t) => {
  const unsure = { ...knowledge, complete: false };
  const rcode = (name: string): number => readResponse(ask(makeQuery({ name, type: 1 }), {}, unsure) ?? new Uint8Array(0)).rcode;
  t.equal(rcode('nope.edge.test'), codes.SERVFAIL);
  t.equal(rcode('shop.edge.test'), codes.NOERROR);
  const namesOnly = { ...unsure, hostingOf: () => [{ site: 'eu.ber', state: null, app: null, liveness: 'silent' as const }] };
  t.equal(readResponse(ask(makeQuery({ name: 'shop.edge.test', type: 1 }), {}, namesOnly) ?? new Uint8Array(0)).rcode, codes.SERVFAIL, 'nor is an app without addresses because its edgepoints are not told yet');
  t.equal(readResponse(ask(makeQuery({ name: 'shop.edge.test', type: 1 }), {}, { ...namesOnly, complete: true }) ?? new Uint8Array(0)).rcode, codes.NOERROR);
});

t.test('what does not fit in UDP is cut with TC, and comes whole over TCP', async (t) => {
  const { state: wide, knowledge: many } = makeKnowledge({ answersMax: 16 });
  const sites = Array.from({ length: 40 }, (_, index) => `z.e${index}`);
  const { edgepoint, tell, nameText, berlin } = await import('./fixtures.ts');
  const label = 'a'.repeat(60);
  const name = `${label}.${label}.${label}.edge.test`;
  sites.forEach((site, index) => tell(wide, edgepoint(site, `198.51.100.${index + 1}`, berlin)));
  wide.applyName('p.main.shop', nameText('shop', [name], sites), 9);
  const query = makeQuery({ name, type: 28 });
  const small = readResponse(ask(query, {}, many) ?? new Uint8Array(0));
  t.strictSame([small.truncated, small.counts], [true, [1, 0, 0, 0]]);
  const large = readResponse(ask(makeQuery({ name, type: 28, udpBytes: 4096 }), {}, many) ?? new Uint8Array(0));
  t.strictSame([large.truncated, large.counts], [false, [1, 16, 0, 1]]);
  const tcp = readResponse(ask(query, { transport: 'tcp' }, many) ?? new Uint8Array(0));
  t.strictSame([tcp.truncated, tcp.counts], [false, [1, 16, 0, 0]]);
});

t.test('any bytes: no throw, nothing larger than allowed, never an answer to an answer', async () => {
  const seed = Date.now() & 0x7fffffff;
  const valid = makeQuery({ name: 'shop.edge.test', type: 1, subnet: '10.1.7.0/24' });
  const mutated = fc.tuple(fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 6 }), fc.nat(valid.length), fc.uint8Array({ maxLength: 20 })).map(([changes, length, tail]) => {
    const bytes = Uint8Array.from([...valid.subarray(0, length), ...tail]);
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return bytes;
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 700 }), mutated), (message) => {
      const bytes = ask(message);
      if (bytes === null) return message.length < 12 || ((message[2] ?? 0) & 0x80) !== 0;
      const read = readResponse(bytes);
      // At most 512 without EDNS and 1232 with; and no amplifier: a SOA is the most that is ever added.
      const bounded = bytes.length <= (read.counts[3] === 0 ? 512 : 1232) && bytes.length <= message.length + 120;
      return bounded && ((message[2] ?? 0) & 0x80) === 0 && read.id === ((message[0] ?? 0) << 8) + (message[1] ?? 0);
    }),
    { seed, numRuns: 20_000 },
  );
});

t.test('dns2 reads our answers as we meant them', async () => {
  const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?$/);
  const name = fc.oneof(fc.constantFrom('shop.edge.test', 'only.edge.test', 'edge.test', 'ns1.edge.test', 'b.edge.test'), fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => `${labels.join('.')}.edge.test`));
  fc.assert(
    fc.property(name, fc.constantFrom(1, 28, 6, 2, 15, 255), fc.option(fc.ipV4()), (asked, type, user) => {
      const words = { name: asked, type, ...(user === null ? {} : { subnet: `${user.split('.').slice(0, 3).join('.')}.0/24` }) };
      const bytes = ask(makeQuery(words)) ?? new Uint8Array(0);
      const packet = Packet.parse(Buffer.from(bytes));
      const addresses = (packet.answers as { address?: string; name: string; type: number; ttl: number }[]).filter((record) => record.type === 1 || record.type === 28);
      const exists = knowledge.names.lookUp(asked).kind !== 'absent';
      return packet.questions[0]?.name === asked && packet.header.rcode === (exists ? 0 : 3)
        && addresses.every((record) => record.name === asked && record.ttl === 20 && state.sites.length === 2 && ['198.51.100.1', '198.51.100.2', '192.0.2.53', '2001:db8::1', '2001:db8::2', '2001:db8::53'].includes(record.address ?? ''))
        && (packet.authorities as { name: string; minimum: number }[]).every((record) => record.name === 'edge.test' && record.minimum === 5);
    }),
    { seed: Date.now() & 0x7fffffff, numRuns: 2000 },
  );
});
