import t from 'tap';
import { judgeRecords, recordsFor, whyNoDomain } from '../../conduit/domains/judge.ts';
import type { FoundRecords } from '../../conduit/domains/judge.ts';
import { issuedCertificateMessage, wantedDomainMessage } from '../../kit/wire/certificates.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import { openResolver } from '../certificates/resolver.ts';
import { siteA, siteB, until } from '../host/nats.ts';
import { appFolder, plainManifest, startConduit, startEdgepoint } from './rig.ts';
import type { ConduitWorld } from './rig.ts';

const target = { domain: 'shop.example', host: 'shop.edge.test', addresses: ['192.0.2.1', '2001:db8::1'] };
const nothing: FoundRecords = { cnames: [], addresses: [], texts: [], fault: '' };

t.test('what records show, one row for each kind', async (t) => {
  const rows: readonly (readonly [string, Partial<FoundRecords>, string])[] = [
    ['nothing', {}, 'domain-record-missing'],
    ['the CNAME', { cnames: ['shop.edge.test'] }, 'cname'],
    ['a CNAME that gets there', { cnames: ['cdn.example', 'shop.edge.test'] }, 'cname'],
    ['a CNAME to somebody else', { cnames: ['other.edge.test'] }, 'domain-points-elsewhere'],
    ['a CNAME to somebody else, and our text', { cnames: ['other.edge.test'], texts: ['shop.edge.test'] }, 'domain-points-elsewhere'],
    ['the address alone, which tells no app', { addresses: ['192.0.2.1'] }, 'domain-unproved'],
    ['the address, and the text', { addresses: ['192.0.2.1'], texts: ['x', 'shop.edge.test'] }, 'addresses'],
    ['the address, and the text of another app', { addresses: ['192.0.2.1'], texts: ['other.edge.test'] }, 'domain-unproved'],
    ['another address, and the text', { addresses: ['192.0.2.1', '192.0.2.9'], texts: ['shop.edge.test'] }, 'domain-points-elsewhere'],
    ['the text alone', { texts: ['shop.edge.test'] }, 'domain-record-missing'],
    ['a resolver that does not answer', { fault: 'ETIMEOUT' }, 'domain-lookup-failed'],
  ];
  for (const [what, found, expected] of rows) {
    const verdict = judgeRecords(target, { ...nothing, ...found });
    t.equal(verdict.ok ? verdict.by : verdict.code, expected, what);
  }
  t.same(recordsFor(target).apex.map(({ name, type }) => `${name} ${type}`), ['shop.example A', 'shop.example AAAA', '_edgepoint.shop.example TXT']);
  for (const domain of ['example', 'Shop.example', 'shop.example.', '-a.example', 'a_b.example', '1.2.3.4', 'edge.test', 'x.edge.test', `${'a'.repeat(64)}.example`, '*.example', 'a..example', '']) t.not(whyNoDomain(domain, 'edge.test'), '', domain);
  for (const domain of ['shop.example', 'xn--bcher-kva.example', 'a.b.c.d.example', '1.example']) t.equal(whyNoDomain(domain, 'edge.test'), '', domain);
});

interface Line {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** Reads what the API says of a domain until a line fits. */
async function watch(world: ConduitWorld, token: string, path: string, until_: (line: Line) => boolean): Promise<Line> {
  const leaving = new AbortController();
  const answer = await world.ask(token, path, { method: 'POST', signal: leaving.signal });
  if (!answer.ok) return (await answer.json()) as Line;
  let text = '';
  try {
    for await (const bytes of answer.body as unknown as AsyncIterable<Uint8Array>) {
      text += Buffer.from(bytes).toString();
      const found = text.split('\n').slice(0, -1).map((line) => JSON.parse(line) as Line).find(until_);
      if (found !== undefined) return found;
    }
  } finally {
    leaving.abort();
  }
  throw new Error(`no such line: ${text}`);
}

t.test('a domain goes to whom its record names, and only then is anything told to edgepoints', { timeout: 90_000 }, async (t) => {
  const resolver = await openResolver(t, 'edge.test', () => '127.0.0.1');
  const world = await startConduit(t, { resolver: resolver.address, domainsPerProvider: 2 });
  const one = await startEdgepoint(t, world.nats, siteA);
  await startEdgepoint(t, world.nats, siteB);
  const [ada, eve] = [await world.token('ada'), await world.token('eve')];
  t.equal((await world.cli(['deploy', appFolder(t, plainManifest('shop'))], { token: ada })).code, 0);
  t.equal((await world.cli(['deploy', appFolder(t, plainManifest('other'))], { token: eve })).code, 0);
  const hosts = (app: string): readonly string[] => one.desired.get(app)?.hosts ?? [];
  const isLook = (line: Line): boolean => line.type === 'look';
  const conduitBus = await world.nats.bus('conduit');
  const wish = async (): Promise<string> => {
    const text = await conduitBus.getKv('domains', 'shop.example');
    const parsed = text === null ? null : parseMessage(wantedDomainMessage, text);
    return parsed?.ok === true ? `${parsed.value.app} ${parsed.value.sites.join()}` : 'none';
  };

  t.match(await watch(world, ada, '/apps/shop/domains/shop.example', isLook), { code: 'domain-record-missing' });
  t.same(hosts('shop'), ['shop.edge.test'], 'nothing is told before its record is there');
  t.equal(await wish(), 'none');
  resolver.records.set('shop.example', { cname: 'shop.edge.test' });
  t.match(await watch(world, eve, '/apps/other/domains/shop.example', isLook), { code: 'domain-points-elsewhere' });
  t.match(await watch(world, ada, '/apps/shop/domains/shop.example', isLook), { code: '' });
  await until('edgepoints are told', () => hosts('shop').join() === 'shop.edge.test,shop.example');
  await until('and who orders certificates', async () => (await wish()) === 'shop north.one,south.two');

  const certifier = await world.nats.bus('certificates');
  const issued = (more: object): Promise<number> => certifier.putKv('issued', 'shop.example', encodeMessage(issuedCertificateMessage, { name: 'shop.example', names: ['shop.example'], notBeforeMs: null, notAfterMs: null, nextMs: null, code: 'challenge-failed', text: 'the authority looked', ...more }));
  await issued({});
  t.match(await watch(world, ada, '/apps/shop/domains/shop.example', (line) => line['code'] === 'challenge-failed'), { type: 'domain', condition: 'proving', text: 'the authority looked' }, 'what the authority says is passed on');
  await issued({ notBeforeMs: 1, notAfterMs: Date.now() + 1e9, code: '', text: '' });
  t.match(await watch(world, ada, '/apps/shop/domains/shop.example', (line) => line.type === 'end'), { outcome: 'active' });

  // The domain has a new owner, who leads it to another provider's app.
  resolver.records.set('shop.example', { cname: 'other.edge.test' });
  t.match(await watch(world, eve, '/apps/other/domains/shop.example', isLook), { code: '' });
  await until('it goes there, and leaves the other', () => hosts('other').includes('shop.example') && !hosts('shop').includes('shop.example'));
  await until('in one wish', async () => (await wish()) === 'other north.one,south.two');
  t.same(((await (await world.ask(ada, '/domains')).json()) as { domains: unknown[] }).domains, []);

  t.match(await watch(world, eve, '/apps/other/domains/two.example', isLook), { code: 'domain-record-missing' });
  t.match(await watch(world, eve, '/apps/other/domains/three.example', isLook), { code: 'too-many-domains' });
  t.match(await watch(world, ada, '/apps/other/domains/four.example', isLook), { code: 'app-unknown' });
  t.equal((await world.ask(ada, '/domains/shop.example', { method: 'DELETE' })).status, 404, 'it is not his any more');

  // What is proved outlives the conduit, and goes with the app.
  await world.kill('SIGKILL');
  await world.start();
  const conditions = async (): Promise<string> => ((await (await world.ask(eve, '/domains')).json()) as { domains: { domain: string; condition: string }[] }).domains.map(({ domain, condition }) => `${domain} ${condition}`).join();
  // What is said of certificates is read from the bus anew.
  await until('all is as it was', async () => (await conditions()) === 'shop.example active,two.example waiting');
  t.equal((await world.cli(['delete', 'other', '--yes'], { token: eve })).code, 0);
  await until('the wish is taken back', async () => (await wish()) === 'none');
  t.same(((await (await world.ask(eve, '/domains')).json()) as { domains: unknown[] }).domains, []);
});
