import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { openPebble } from '../certificates/pebble.ts';
import { openResolver } from '../certificates/resolver.ts';
import { openFaultWorld, until, writeApp } from './faults/fault-world.ts';

t.setTimeout(110_000);
const run = promisify(execFile);

t.test('an authority is asked once, and every app has HTTPS at every edgepoint', { timeout: 110_000 }, async (t) => {
  const id = Array.from({ length: 4 }, () => 'abcdefghjkmnpqrstvwxyz'[Math.floor(Math.random() * 22)]).join('');
  // The authority asks as soon as the world begins: where, stands in what the world writes before.
  const config = `/run/edgepoint/${id}/daemons/certificates/config.json`;
  const resolver = await openResolver(t, 'edge.test', () => (JSON.parse(readFileSync(config, 'utf8')) as { nameservers: string[] }).nameservers[0] ?? '');
  const pebble = await openPebble(t, { resolver: resolver.address });
  await pebble.start();
  const world = await openFaultWorld(t, ['--world', id, '--acme-directory', pebble.directoryUrl, '--acme-ca', pebble.caFile]);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'front', { manifest: '[scale]\nidleSeconds = 1' }));
  const files = (dataFolder: string): string[] => readdirSync(join(dataFolder, 'certificates')).filter((name) => name.endsWith('.pem'));
  await until(() => `every edgepoint has the certificate\n${world.logOf('certificates')}`, () => world.edgepoints.every(({ dataFolder }) => files(dataFolder).includes('acme-edge.test.pem')), 60_000);
  const root = join(world.folder, 'root.pem');
  writeFileSync(root, await pebble.root());

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
  t.comment(log.split('\n').filter((line) => line.includes('edge.test')).join('\n'));
  await world.allHealthy();
  await world.stop(t);
});
