import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import t from 'tap';
import type { Test } from 'tap';
import type { ImageSource } from '../../conduit/cli/image/archive.ts';
import { openRegistryImage } from '../../conduit/cli/image/registry.ts';
import { credentials, startRegistry } from './docker-registry.ts';

t.setTimeout(300_000);

const digestOf = (bytes: string | Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
/** Longer than any pause of a machine under load, but where a registry stalls on purpose. */
const patientMs = 120_000;

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-registry-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A home whose docker config has credentials for a registry. */
function homeOf(t: Test, host: string, userPassword: string): NodeJS.ProcessEnv {
  const folder = folderOf(t);
  mkdirSync(join(folder, '.docker'));
  writeFileSync(join(folder, '.docker/config.json'), JSON.stringify({ auths: { [host]: { auth: Buffer.from(userPassword).toString('base64') } } }));
  return { HOME: folder };
}

async function layerBytes(source: ImageSource): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source.layers[0]?.open() ?? []) parts.push(part);
  return Buffer.concat(parts);
}

t.test('an image is pulled from Debian’s docker-registry, by tag and by digest, with a password', async (t) => {
  const host = await startRegistry(t, { password: true });
  const folder = folderOf(t);
  const layout = join(folder, 'layout');
  mkdirSync(join(folder, 'root/srv'), { recursive: true });
  writeFileSync(join(folder, 'root/srv/file'), 'of the image');
  const umoci = (...words: string[]): void => void execFileSync('umoci', words, { stdio: 'pipe' });
  umoci('init', '--layout', layout);
  umoci('new', '--image', `${layout}:v1`);
  umoci('insert', '--image', `${layout}:v1`, join(folder, 'root'), '/');
  umoci('config', '--image', `${layout}:v1`, '--os', 'linux', '--architecture', 'amd64', '--config.cmd', '/bin/serve');
  execFileSync('skopeo', ['--insecure-policy', 'copy', '--quiet', '--dest-tls-verify=false', '--dest-creds', credentials, `oci:${layout}:v1`, `docker://${host}/team/shop:v1`], { stdio: 'pipe' });

  const env = homeOf(t, host, credentials);
  const source = await openRegistryImage(`${host}/team/shop:v1`, { stallMs: patientMs, env });
  t.equal(source.name, 'team/shop');
  t.same(source.config.config?.Cmd, ['/bin/serve']);
  t.equal(digestOf(gunzipSync(await layerBytes(source))), source.layers[0]?.digest);
  await t.rejects(openRegistryImage(`${host}/team/shop:v2`, { stallMs: patientMs, env }), { code: 'image-unknown' });
  await t.rejects(openRegistryImage(`${host}/team/shop@${digestOf('no')}`, { stallMs: patientMs, env }), { code: 'image-unknown' });
  await t.rejects(openRegistryImage(`${host}/team/shop:v1`, { stallMs: patientMs, env: { HOME: folder } }), { code: 'registry-refused' }, 'without credentials');
  await t.rejects(openRegistryImage(`${host}/team/shop:v1`, { stallMs: patientMs, env: homeOf(t, host, 'ann:wrong') }), { code: 'registry-refused' }, 'with a wrong password');
});

const tar = Buffer.alloc(10_240, 'layer');
const packed = gzipSync(tar);
const config = JSON.stringify({ architecture: 'amd64', os: 'linux', config: { Cmd: ['a'] }, rootfs: { diff_ids: [digestOf(tar)] } });
const manifest = JSON.stringify({ schemaVersion: 2, config: { digest: digestOf(config), size: config.length }, layers: [{ digest: digestOf(packed), size: packed.length }] });

type Answer = (request: IncomingMessage, response: ServerResponse, path: string) => void;

/** A registry that behaves as the test wants; `before` may answer in its place. */
async function fakeRegistry(t: Test, before: Answer): Promise<{ host: string; server: Server }> {
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    before(request, response, path);
    if (response.headersSent || response.writableEnded || (response as { held?: boolean }).held === true) return;
    const body = path.endsWith('/manifests/v1') ? manifest : path.endsWith(digestOf(config)) ? config : path.endsWith(digestOf(packed)) ? packed : null;
    response.writeHead(body === null ? 404 : 200).end(body ?? '');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

t.test('a token is asked for, and credentials go to the registry alone', async (t) => {
  const elsewhere: (string | undefined)[] = [];
  const store = await fakeRegistry(t, (request) => void elsewhere.push(request.headers.authorization));
  const asked: string[] = [];
  const { host } = await fakeRegistry(t, (request, response, path) => {
    if (path.startsWith('/token')) {
      asked.push(`${path} ${request.headers.authorization}`);
      response.writeHead(200).end(JSON.stringify({ token: 'of-the-day' }));
    } else if (request.headers.authorization !== 'Bearer of-the-day') {
      response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${host}/token",service="registry"` }).end();
    } else if (path.endsWith(digestOf(packed))) response.writeHead(307, { location: `http://${store.host}${path}` }).end();
  });
  const source = await openRegistryImage(`${host}/team/shop:v1`, { stallMs: patientMs, env: homeOf(t, host, 'ann:secret') });
  t.equal(digestOf(await layerBytes(source)), digestOf(packed));
  t.same(asked, [`/token?service=registry&scope=repository%3Ateam%2Fshop%3Apull Basic ${Buffer.from('ann:secret').toString('base64')}`]);
  t.same(elsewhere, [undefined], 'where the registry sends us is told no credentials');
});

t.test('a registry that misbehaves is answered by a code', async (t) => {
  const hold = (response: ServerResponse): void => void ((response as { held?: boolean }).held = true);
  const rows: Readonly<Record<string, { before: Answer; code: string; stallMs?: number }>> = {
    'it never answers': { before: (_request, response) => hold(response), code: 'registry-stalls', stallMs: 300 },
    'it stalls in the midst of a layer': {
      before: (_request, response, path) => {
        if (path.endsWith(digestOf(packed))) response.writeHead(200).write(packed.subarray(0, 10));
      },
      code: 'registry-stalls',
      stallMs: 2000,
    },
    'a layer is missing': { before: (_request, response, path) => void (path.endsWith(digestOf(packed)) && response.writeHead(404).end()), code: 'image-layer-missing' },
    'a layer is another': { before: (_request, response, path) => void (path.endsWith(digestOf(packed)) && response.writeHead(200).end(Buffer.alloc(packed.length))), code: 'image-damaged' },
    'a layer has no end': { before: (_request, response, path) => void (path.endsWith(digestOf(packed)) && response.writeHead(200).end(Buffer.alloc(packed.length + 1))), code: 'image-damaged' },
    'a config is another': { before: (_request, response, path) => void (path.endsWith(digestOf(config)) && response.writeHead(200).end('{}')), code: 'image-damaged' },
    'a document has no end': { before: (_request, response, path) => void (path.includes('/manifests/') && response.writeHead(200).end(Buffer.alloc(5_000_000, ' '))), code: 'image-unreadable' },
    'it sends us to plain HTTP': { before: (_request, response) => void response.writeHead(307, { location: 'http://192.0.2.1/x' }).end(), code: 'registry-unsafe' },
    'it sends us round': { before: (_request, response, path) => void response.writeHead(307, { location: path }).end(), code: 'registry-unreachable' },
    'its tokens come by plain HTTP': { before: (_request, response) => void response.writeHead(401, { 'www-authenticate': 'Bearer realm="http://192.0.2.1/token"' }).end(), code: 'registry-unsafe' },
    'it fails': { before: (_request, response) => void response.writeHead(500).end(), code: 'registry-unreachable' },
  };
  for (const [title, { before, code, stallMs = patientMs }] of Object.entries(rows)) {
    const { host } = await fakeRegistry(t, before);
    await t.rejects(openRegistryImage(`${host}/team/shop:v1`, { stallMs, env: { HOME: '/nonexistent' } }).then(layerBytes), { code }, title);
  }
  const { host, server } = await fakeRegistry(t, () => undefined);
  await new Promise((resolve) => server.close(resolve));
  await t.rejects(openRegistryImage(`${host}/team/shop:v1`, { stallMs: patientMs, env: { HOME: '/nonexistent' } }), { code: 'registry-unreachable' }, 'nobody is there');
});
