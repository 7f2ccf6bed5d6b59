import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import type { Test } from 'tap';
import { openBrowser } from '../certificates/browser.ts';
import { openCertifiedWorld } from '../certificates/certified-world.ts';
import type { TestResolver } from '../certificates/resolver.ts';
import { ask, until, writeApp } from './faults/fault-world.ts';
import type { FaultWorld, Provider } from './faults/fault-world.ts';

t.setTimeout(170_000);
const run = promisify(execFile);

t.test('an authority is asked once, and every app has HTTPS at every edgepoint', { timeout: 170_000 }, async (t) => {
  const { world, pebble, resolver, root } = await openCertifiedWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'front', { manifest: '[scale]\nidleSeconds = 1' }));
  for (const { ipv4, edgepoint } of world.edgepoints) {
    const curl = async (...args: readonly string[]): Promise<string> =>
      (await run('curl', ['--silent', '--show-error', '--cacert', root, '--resolve', `front.edge.test:443:${ipv4}`, ...args, 'https://front.edge.test/'])).stdout;
    let problem = '';
    await until(() => `${edgepoint} answers: ${problem}`, async () => {
      problem = await curl().then((text) => (text.includes('bootedMs') ? '' : text), (thrown: unknown) => String(thrown));
      return problem === '';
    });
    t.equal(await curl('--http2', '--output', '/dev/null', '--write-out', '%{http_version} %{response_code} %{ssl_verify_result}'), '2 200 0', `${edgepoint}: HTTP/2, and the chain is good`);
    const openssl = async (...args: readonly string[]): Promise<string> => {
      // It ends when its input does.
      const asked = run('openssl', ['s_client', '-connect', `${ipv4}:443`, '-servername', 'front.edge.test', '-CAfile', root, '-verify_return_error', ...args]);
      // One that is refused may have ended before it is written to; how it ended is what counts.
      asked.child.stdin?.on('error', () => undefined);
      asked.child.stdin?.end('GET / HTTP/1.0\r\nHost: front.edge.test\r\n\r\n');
      return (await asked).stdout;
    };
    for (const version of ['-tls1_2', '-tls1_3']) {
      const session = join(world.folder, `session${version}`);
      const first = await openssl(version, '-alpn', 'h2,http/1.1', '-sess_out', session);
      t.match(first, 'Verify return code: 0 (ok)', `${edgepoint} ${version}`);
      t.match(first, 'ALPN protocol: h2');
      // Tickets of TLS 1.3 come behind the handshake, with what is answered.
      await openssl(version, '-sess_out', session, '-ign_eof');
      t.match(await openssl(version, '-sess_in', session, '-ign_eof'), /Reused, TLSv1\.[23]/, `${edgepoint} ${version}: the session is resumed`);
    }
    await t.rejects(openssl('-tls1_1'), `${edgepoint}: nothing below TLS 1.2`);
  }

  const { stdout: txt } = await run('kdig', ['+short', `@${world.held.description.dnsAddresses[0] ?? ''}`, '_acme-challenge.edge.test', 'TXT']);
  t.equal(txt.trim(), '', 'nothing is left of the challenge');
  const log = world.logOf('certificates');
  t.notMatch(log, /PRIVATE KEY/, 'no key in the log');
  t.equal(pebble.log().match(/Issued certificate serial/g)?.length, 1, 'one certificate for all edgepoints');
  t.match(await ada.status('front'), { url: 'https://front.edge.test/', certificate: { untilWallMs: Number, code: '' } }, 'the provider is told');
  await inTheBrowser(t, world, root);
  await customDomains(t, { world, resolver, root, ada });
  t.comment(log.split('\n').filter((line) => line.includes('edge.test')).join('\n'));
  await world.allHealthy();
  await world.stop(t);
});

async function inTheBrowser(t: Test, world: FaultWorld, root: string): Promise<void> {
  const hosts = { 'front.edge.test': world.edgepoints[0]?.ipv4 ?? '' };
  const page = await (await openBrowser(t, { root, hosts })).newPage();
  const answer = await page.goto('http://front.edge.test/some?thing=1');
  t.equal(page.url(), 'https://front.edge.test/some?thing=1', 'Chromium is sent to https');
  t.equal((await answer?.request().redirectedFrom()?.response())?.status(), 308);
  t.match(await answer?.text(), 'bootedMs');
  t.match(await answer?.securityDetails(), { protocol: 'TLS 1.3', issuer: /^Pebble/ });
  t.equal(await page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol"), 'h2');
  const stranger = await (await openBrowser(t, { root: null, hosts })).newPage();
  await t.rejects(stranger.goto('https://front.edge.test/'), /ERR_CERT_AUTHORITY_INVALID/, 'one that does not know the authority goes no further');
}

interface Placed {
  readonly world: FaultWorld;
  readonly resolver: TestResolver;
  readonly root: string;
  readonly ada: Provider;
}

async function customDomains(t: Test, { world, resolver, root, ada }: Placed): Promise<void> {
  const [site] = world.edgepoints;
  if (site === undefined) return;
  const eve = await world.newProvider('eve');
  await eve.deploy(writeApp(world.folder, 'other', { manifest: '[scale]\nidleSeconds = 1' }));
  const pageOf = async (domain: string): Promise<string> => (await run('curl', ['--silent', '--show-error', '--cacert', root, '--resolve', `${domain}:443:${site.ipv4}`, `https://${domain}/`])).stdout;

  // A CNAME that comes while it is watched; first a wrong one.
  resolver.records.set('shop.example', { cname: 'elsewhere.example' });
  const adding = ada.conduit(['domains', 'add', 'Shop.Example.', '--app', 'front']);
  await until('it waits', async () => (await ada.json<Domains>(['domains', 'list'])).domains.some(({ condition }) => condition === 'waiting'));
  // It has looked at least once by then.
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  resolver.records.set('shop.example', { cname: 'front.edge.test' });
  const added = await adding;
  t.equal(added.exitCode, 0, added.stdout + added.stderr);
  for (const part of ['shop.example.  CNAME  front.edge.test.', 'the CNAME of shop.example leads to elsewhere.example, not to front.edge.test', 'the CNAME of shop.example is there', 'https://shop.example/ leads to front']) t.match(added.stdout, part);
  t.comment(added.stdout);
  await until('the domain answers with its own certificate', async () => (await pageOf('shop.example').catch(() => '')).includes('bootedMs'));
  t.match(await ada.json<Domains>(['domains', 'list']), { domains: [{ domain: 'shop.example', app: 'front', condition: 'active', code: '' }] });

  // Nobody else gets it: its record names another app.
  t.match(await firstLook(world, eve, '/apps/other/domains/shop.example'), { code: 'domain-points-elsewhere', text: 'the CNAME of shop.example leads to front.edge.test, not to other.edge.test' });
  t.match(await eve.json<Domains>(['domains', 'list']), { domains: [{ condition: 'waiting' }] }, 'a claim alone is worth nothing');
  t.ok((await pageOf('shop.example')).includes('bootedMs'), 'it leads where it led');
  t.match(await ada.json<Domains>(['domains', 'list']), { domains: [{ condition: 'active' }] });

  // The apex of a zone: addresses, and a TXT record that says for which app.
  resolver.records.set('apex.example', { a: [site.ipv4] });
  resolver.records.set('_edgepoint.apex.example', { txt: ['front.edge.test'] });
  const apex = await ada.conduit(['domains', 'add', 'apex.example', '--app', 'front']);
  t.equal(apex.exitCode, 0, apex.stdout + apex.stderr);
  await until('the apex answers', async () => (await pageOf('apex.example').catch(() => '')).includes('bootedMs'));

  t.match(await firstLook(world, eve, '/apps/other/domains/apex.example'), { code: 'domain-unproved', text: 'names front.edge.test, not other.edge.test' }, 'addresses alone prove nothing');

  // Clear answers.
  for (const [domain, exitCode, said] of [['app.edge.test', 8, 'domain-invalid'], ['no_name', 8, 'domain-invalid'], ['10.1.2.3', 8, 'domain-invalid']] as const) {
    const refused = await ada.conduit(['domains', 'add', domain, '--app', 'front', '--json']);
    t.equal(refused.exitCode, exitCode, refused.stderr);
    t.match(refused.stderr, `"code":"${said}"`);
  }
  t.match((await ada.conduit(['domains', 'add', 'x.example', '--app', 'other', '--json'])).stderr, '"code":"app-unknown"', 'an app of somebody else');
  t.match((await eve.conduit(['domains', 'remove', 'nobody.example', '--json'])).stderr, '"code":"domain-unknown"');
  t.equal((await eve.conduit(['domains', 'remove', 'apex.example'])).exitCode, 0, 'her own claim');
  t.match((await ada.json<Domains>(['domains', 'list'])).domains.find(({ domain }) => domain === 'apex.example'), { condition: 'active' }, 'which takes nothing from him');

  // What is removed is gone, here and at the edgepoints.
  t.equal((await ada.conduit(['domains', 'remove', 'shop.example'])).exitCode, 0);
  await until('its certificate is taken back', () => world.edgepoints.every(({ dataFolder }) => !readdirSync(join(dataFolder, 'certificates')).includes('acme-shop.example.pem')));
  await until('and it leads nowhere', async () => (await ask({ host: site.ipv4, name: 'shop.example', path: '/' })).status === 404);
  const challenge = await ask({ host: site.ipv4, name: 'front.edge.test', path: '/.well-known/acme-challenge/no-such-token-at-all' });
  t.match(challenge.body, 'bootedMs', "any other token is the app's own business");
}

/** What the API says of the records of a domain first; then nobody watches any more. */
async function firstLook(world: FaultWorld, provider: Provider, path: string): Promise<unknown> {
  const leaving = new AbortController();
  const answer = await fetch(`${world.held.description.conduitUrl}/v1${path}`, { method: 'POST', headers: { authorization: `Bearer ${provider.token}` }, signal: leaving.signal });
  let text = '';
  try {
    for await (const bytes of answer.body as unknown as AsyncIterable<Uint8Array>) {
      text += Buffer.from(bytes).toString();
      const look = text.split('\n').slice(0, -1).map((line) => JSON.parse(line) as { type: string }).find(({ type }) => type === 'look');
      if (look !== undefined) return look;
    }
  } finally {
    leaving.abort();
  }
  return text;
}

interface Domains {
  readonly domains: readonly { readonly domain: string; readonly app: string; readonly condition: string; readonly code: string }[];
}
