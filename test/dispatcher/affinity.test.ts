import { request } from 'node:http';
import { connect } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import fc from 'fast-check';
import t from 'tap';
import type { Test } from 'tap';
import { affinityCookie, affinityIn, affinityOf, setAffinity } from '../../edgepoint/dispatcher/affinity.ts';
import { readRequestHead } from '../../edgepoint/dispatcher/request-head.ts';
import { openCertificates } from './certificates.ts';
import { openInstance, openRig, until } from './rig.ts';
import type { Rig } from './rig.ts';

const token = affinityOf('shop-1');

t.test('what a client brings', async (t) => {
  const rows: readonly (readonly [label: string, lines: string, token: string])[] = [
    ['nothing', '', ''],
    ['alone', `Cookie: ${affinityCookie}=${token}\r\n`, token],
    ['among others', `Cookie: a=1;  ${affinityCookie} = ${token} ; b=2\r\n`, token],
    ['in a field of its own', `Cookie: a=1\r\ncookie: ${affinityCookie}=${token}\r\n`, token],
    ['a name that only ends like it', `Cookie: x${affinityCookie}=${token}\r\n`, ''],
    ['no token', `Cookie: ${affinityCookie}=; ${affinityCookie}; ${affinityCookie}=${token.toUpperCase()}\r\n`, ''],
    ['the first that could be one', `Cookie: ${affinityCookie}=x; ${affinityCookie}=${token}\r\n`, token],
    ['another field', `X-Cookie: ${affinityCookie}=${token}\r\n`, ''],
  ];
  const read = (lines: string): string => {
    const result = readRequestHead(Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\n${lines}\r\n`, 'latin1'));
    return result.kind === 'complete' ? affinityIn(result.head.section) : `${result.kind}`;
  };
  for (const [label, lines, expected] of rows) t.equal(read(lines), expected, label);
  fc.assert(fc.property(fc.string({ maxLength: 60 }).filter((value) => /^[\x21-\x7e]*$/.test(value)), (value) => /^(|[0-9a-f]{32}|refused)$/.test(read(`Cookie: ${affinityCookie}=${value}\r\n`))));
  t.equal(setAffinity(token, 'http'), `edgepoint-affinity=${token}; Path=/; HttpOnly; SameSite=Lax`);
  t.match(setAffinity(token, 'https'), /; Secure$/);
  t.notMatch(token, /shop/, 'it does not say which instance it is');
});

interface Answer {
  readonly by: string;
  readonly cookies: readonly string[];
}

function ask(rig: Rig, path: string, cookie = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request({ port: rig.port, path, headers: { host: 'shop.test', ...(cookie === '' ? {} : { cookie }) } }, (response) => {
      let by = '';
      response.on('data', (bytes: Buffer) => (by += bytes.toString()));
      response.once('end', () => resolve({ by, cookies: response.headers['set-cookie'] ?? [] }));
    }).once('error', reject).end();
  });
}

/** Instances that say who they are; `/hold` waits until it is let go. */
async function openShop(t: Test) {
  let letGo: (() => void)[] = [];
  const open = (instance: string) =>
    openInstance(t, instance, (asked, response) => {
      response.setHeader('set-cookie', 'theirs=1');
      if (asked.url === '/hold') letGo.push(() => response.end(instance));
      else response.end(instance);
    });
  return {
    one: await open('shop-1'),
    two: await open('shop-2'),
    letGo: (): void => {
      for (const each of letGo) each();
      letGo = [];
    },
  };
}

const ours = ({ cookies }: Answer): string => cookies.find((cookie) => cookie.startsWith(affinityCookie))?.split(';')[0] ?? '';

t.test('clients return to the instance that answered them', async (t) => {
  const rig = await openRig(t);
  const { one, two, letGo } = await openShop(t);
  await rig.route([one, two], { sticky: true, concurrency: 2 });
  const first = await ask(rig, '/');
  t.equal(first.by, 'shop-1');
  t.same(first.cookies, ['theirs=1', setAffinity(affinityOf('shop-1'), 'http')]);
  const held = ask(rig, '/hold', ours(first));
  await until('shop-1 has one under way', () => rig.head.lastDemand?.instances.find(({ instance }) => instance === 'shop-1')?.outstanding === 1);
  const second = await ask(rig, '/');
  t.equal(second.by, 'shop-2', 'a new client goes to the least busy one');
  const again = await ask(rig, '/', `a=1; ${ours(first)}`);
  t.same([again.by, ours(again)], ['shop-1', ''], 'one that returns does not, and needs no other cookie');
  const more = ask(rig, '/hold', ours(first));
  await until('shop-1 is full', () => rig.head.lastDemand?.instances.find(({ instance }) => instance === 'shop-1')?.outstanding === 2);
  const beside = await ask(rig, '/', ours(first));
  t.same([beside.by, ours(beside)], ['shop-2', ''], 'when it is full another answers, and the client stays its own');
  letGo();
  t.same([(await held).by, (await more).by], ['shop-1', 'shop-1']);
  await rig.route([two], { sticky: true });
  const moved = await ask(rig, '/', ours(first));
  t.same([moved.by, ours(moved)], ['shop-2', `${affinityCookie}=${affinityOf('shop-2')}`], 'one whose instance is gone gets another');
  await rig.route([two]);
  t.same((await ask(rig, '/')).cookies, ['theirs=1'], 'no cookie where it is not asked for');
});

t.test('one that waited returns too', async (t) => {
  const rig = await openRig(t);
  const { one, two } = await openShop(t);
  await rig.route([], { sticky: true });
  const waiting = ask(rig, '/', `${affinityCookie}=${affinityOf('shop-2')}`);
  await until('it waits', () => rig.head.lastDemand?.waiting === 1);
  await rig.route([one, two], { sticky: true });
  t.equal((await waiting).by, 'shop-2');
});

t.test('over HTTP/2', async (t) => {
  const certificates = openCertificates(t);
  certificates.put('shop.pem', ['shop.test']);
  const rig = await openRig(t, { certificates: certificates.folder });
  const { one, two } = await openShop(t);
  await rig.route([one, two], { sticky: true });
  const session = connect('https://shop.test', { createConnection: () => connectTls({ ca: certificates.authority, servername: 'shop.test', host: '127.0.0.1', port: rig.securePort, ALPNProtocols: ['h2'] }) });
  t.teardown(() => session.destroy());
  const get = (cookie: string): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ':path': '/', ':authority': 'shop.test', ...(cookie === '' ? {} : { cookie }) });
      let cookies: readonly string[] = [];
      let by = '';
      stream.on('response', (headers) => (cookies = headers['set-cookie'] ?? []));
      stream.on('data', (bytes: Buffer) => (by += bytes.toString()));
      stream.once('error', reject).once('end', () => resolve({ by, cookies }));
    });
  t.same(await get(''), { by: 'shop-1', cookies: ['theirs=1', setAffinity(affinityOf('shop-1'), 'https')] });
  t.same(await get(`${affinityCookie}=${affinityOf('shop-2')}`), { by: 'shop-2', cookies: ['theirs=1'] });
});
