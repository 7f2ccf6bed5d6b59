import { execFileSync } from 'node:child_process';
import { chownSync, existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:http2';
import { request as requestSecure } from 'node:https';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import t from 'tap';
import { asleep, openFaultWorld, until, writeApp } from './faults/fault-world.ts';

t.setTimeout(110_000);

/** Reads a PROXY header of version 2 by itself, and answers with the client it names and the scheme. */
const behindHeader = `import { createServer } from 'node:net';
const bootedMs = Date.now();
while (Date.now() - bootedMs < 300);
createServer((socket) => {
  let input = Buffer.alloc(0);
  let client = null;
  socket.on('error', () => socket.destroy());
  socket.on('data', (bytes) => {
    input = Buffer.concat([input, bytes]);
    if (client === null && input.length >= 16 && input.length >= 16 + input.readUInt16BE(14)) {
      client = input.toString('latin1', 0, 12) !== '\\r\\n\\r\\n\\0\\r\\nQUIT\\n' ? 'no header' : input[12] === 0x20 ? 'the edgepoint' : [...input.subarray(16, 20)].join('.');
      input = input.subarray(16 + input.readUInt16BE(14));
    }
    const end = input.indexOf('\\r\\n\\r\\n');
    if (client === null || end < 0) return;
    const body = client + ' ' + (/x-forwarded-proto: (\\w+)/i.exec(input.toString('latin1'))?.[1] ?? 'none');
    input = input.subarray(end + 4);
    socket.write('HTTP/1.1 200 OK\\r\\nContent-Length: ' + body.length + '\\r\\n\\r\\n' + body);
    if (body.startsWith('the edgepoint')) socket.end();
  });
}).listen(process.env.PORT, '0.0.0.0');
`;

t.test('a sleeping app is asked by a browser: TLS, HTTP/2, a redirect, and whose request it is', { timeout: 110_000 }, async (t) => {
  const world = await openFaultWorld(t);
  const [site] = world.edgepoints;
  if (site === undefined) return t.fail('no edgepoint');
  const name = 'front.edge.test';
  const certificate = { key: join(world.folder, 'key'), chain: join(world.folder, 'chain') };
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', certificate.key, '-out', certificate.chain, '-days', '30', '-subj', '/CN=x', '-addext', 'subjectAltName=DNS:*.edge.test'], { stdio: 'ignore' });
  for (const { dataFolder } of world.edgepoints) {
    const folder = join(dataFolder, 'certificates');
    const { uid, gid, mode } = statSync(folder);
    t.equal(mode & 0o777, 0o700, 'the folder is for the dispatcher alone');
    writeFileSync(join(folder, '.new'), readFileSync(certificate.key, 'utf8') + readFileSync(certificate.chain, 'utf8'), { mode: 0o600 });
    chownSync(join(folder, '.new'), uid, gid);
    renameSync(join(folder, '.new'), join(folder, 'edge.pem'));
  }
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'front', { server: behindHeader, manifest: 'httpsOnly = true\nproxyProtocol = "v2"\n[scale]\nidleSeconds = 0.3' }));
  await asleep(world);

  const ca = readFileSync(certificate.chain, 'utf8');
  const session = connect(`https://${name}`, { createConnection: () => connectTls({ host: site.ipv4, port: 443, servername: name, ca, ALPNProtocols: ['h2'] }) });
  t.teardown(() => session.destroy());
  session.on('error', () => {});
  const asked = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ':path': '/' });
      let text = '';
      stream.on('data', (bytes: Buffer) => (text += bytes.toString()));
      stream.on('error', reject);
      stream.on('end', () => resolve(text));
    });
  const first = await asked();
  t.match(first, /^10\.\d+\.\d+\.\d+ https$/, 'it was woken, and knows its client');
  await asleep(world);
  t.equal(await asked(), first, 'again, on the same connection');
  const plain = await new Promise<{ status: number | undefined; location: string | undefined }>((resolve, reject) => {
    request({ host: site.ipv4, port: 80, path: '/a', headers: { host: name } }, (response) => {
      response.resume();
      resolve({ status: response.statusCode, location: response.headers.location });
    })
      .on('error', reject)
      .end();
  });
  t.same(plain, { status: 308, location: `https://${name}/a` });

  const pid = (await world.daemons())[`${site.edgepoint}-dispatcher`];
  await world.kill(`${site.edgepoint}-dispatcher`, 'SIGKILL');
  await until('it has ended', () => !existsSync(`/proc/${pid}`));
  const waited = await new Promise<string>((resolve, reject) => {
    const question = requestSecure({ host: site.ipv4, port: 443, servername: name, ca, headers: { host: name }, agent: false }, (response) => {
      let text = '';
      response.on('data', (bytes: Buffer) => (text += bytes.toString()));
      response.on('end', () => resolve(text));
    });
    question.on('error', reject).end();
  });
  t.equal(waited, first, 'a killed dispatcher loses no connection that had not been accepted');
  await until('all is well', async () => (await world.daemons())[`${site.edgepoint}-dispatcher`] !== undefined);
  const log = world.logOf(`${site.edgepoint}-dispatcher`);
  for (const line of readFileSync(certificate.key, 'utf8').split('\n').filter((each) => each.length > 20 && !each.startsWith('-'))) t.notMatch(log, line, 'no key in the log');
  await world.allHealthy();
  await world.stop(t);
});
