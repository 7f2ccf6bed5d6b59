import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { Header } from 'tar';
import t from 'tap';
import { chooseManifest, readConfig } from '../../conduit/cli/image/config.ts';
import { openArchive } from '../../conduit/cli/image/archive.ts';
import { manifestOfImage, nameOf } from '../../conduit/cli/image/manifest.ts';
import { credentialsIn, parseReference, readChallenge } from '../../conduit/cli/image/reference.ts';
import { readLayer } from '../../host/layer.ts';
import { imageLimits, judgeLayerEntry, openLayerCount } from '../../kit/image.ts';

const digestOf = (bytes: string | Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const layer = digestOf('a layer');

interface Entry {
  readonly path: string;
  readonly type?: 'File' | 'Directory' | 'SymbolicLink' | 'Link' | 'CharacterDevice' | 'BlockDevice' | 'FIFO';
  readonly linkpath?: string;
  readonly text?: string;
  readonly uid?: number;
}

function tarOf(entries: readonly Entry[]): Buffer {
  const blocks = entries.flatMap(({ path, type = 'File', linkpath = '', text = '', uid = 0 }) => {
    const header = Buffer.alloc(512);
    new Header({ path, type, linkpath, size: Buffer.byteLength(text), mode: 0o4755, mtime: new Date(0), uid, gid: 0 }).encode(header);
    return [header, Buffer.from(text), Buffer.alloc((512 - (Buffer.byteLength(text) % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

const sparse = (): Buffer => {
  const text = Buffer.from('22 GNU.sparse.major=1\n');
  const header = Buffer.alloc(512);
  new Header({ path: 'PaxHeader/f', type: 'ExtendedHeader', size: text.length, mode: 0o644, mtime: new Date(0) }).encode(header);
  return Buffer.concat([header, text, Buffer.alloc(512 - text.length), tarOf([{ path: 'f', text: 'x' }])]);
};

t.test('layers that no honest tool makes are refused, by a code', async (t) => {
  const rows: Readonly<Record<string, { layer: Buffer; code: string }>> = {
    'a path that goes out': { layer: gzipSync(tarOf([{ path: 'a/../../etc/passwd', text: 'x' }])), code: 'image-path' },
    'a hard link that goes out': { layer: gzipSync(tarOf([{ path: 'a', type: 'Link', linkpath: '../../etc/shadow' }])), code: 'image-link' },
    'a device': { layer: gzipSync(tarOf([{ path: 'dev/sda', type: 'BlockDevice' }])), code: 'image-device' },
    'another device': { layer: gzipSync(tarOf([{ path: 'dev/mem', type: 'CharacterDevice' }])), code: 'image-device' },
    'a pipe': { layer: gzipSync(tarOf([{ path: 'etc/passwd', type: 'FIFO' }])), code: 'image-device' },
    'an owner that no instance has': { layer: gzipSync(tarOf([{ path: 'a', uid: 70_000 }])), code: 'image-owner' },
    'a sparse file': { layer: gzipSync(sparse()), code: 'image-sparse' },
    'a bomb': { layer: gzipSync(Buffer.alloc(80 * 1024 * 1024)), code: 'image-bomb' },
    'one compressed twice': { layer: gzipSync(gzipSync(tarOf([{ path: 'a' }]))), code: 'layer-corrupt' },
    'one that is not compressed': { layer: tarOf([{ path: 'a' }]), code: 'layer-corrupt' },
    'one that was cut': { layer: gzipSync(tarOf([{ path: 'a', text: 'x'.repeat(5000) }])).subarray(0, 60), code: 'layer-corrupt' },
    'no tar': { layer: gzipSync('x'.repeat(2000)), code: 'layer-corrupt' },
  };
  for (const [title, { layer, code }] of Object.entries(rows)) await t.rejects(readLayer(Readable.from([layer]), openLayerCount()), { code }, title);
});

t.test('what an image may hold: links anywhere, whiteouts, the same path twice', async (t) => {
  const tar = tarOf([
    { path: './', type: 'Directory' },
    { path: 'var/run', type: 'SymbolicLink', linkpath: '/run' },
    { path: 'lib', type: 'SymbolicLink', linkpath: '../../usr/lib' },
    { path: 'etc/.wh.passwd' },
    { path: 'etc/.wh..wh..opq' },
    { path: 'a', text: 'one' },
    { path: 'a', text: 'two' },
    { path: 'b', type: 'Link', linkpath: 'a' },
  ]);
  const packed = gzipSync(tar);
  t.same(await readLayer(Readable.from([packed]), openLayerCount()), { digest: digestOf(tar), packedDigest: digestOf(packed), packedBytes: packed.length });
  const count = openLayerCount();
  const entry = { path: 'a', kind: 'file', kindName: '', bytes: 6, target: '', uid: 0, gid: 0 } as const;
  const limits = { ...imageLimits, unpackedBytesMax: 10, entriesMax: 5 };
  t.equal(judgeLayerEntry(count, entry, limits), null);
  t.match(judgeLayerEntry(count, entry, limits), { code: 'image-too-big' }, 'layers of an image are counted together');
});

const configOf = (config: Record<string, unknown>, about: Record<string, unknown> = {}): string => JSON.stringify({ architecture: 'amd64', os: 'linux', config, rootfs: { diff_ids: [layer] }, ...about });

t.test('a config that the edgepoints cannot run is refused', (t) => {
  t.throws(() => readConfig(configOf({}, { architecture: 'arm64' })), { code: 'image-architecture', message: /linux\/arm64/ });
  t.throws(() => readConfig(configOf({}, { os: 'windows' })), { code: 'image-architecture' });
  t.throws(() => readConfig('{'), { code: 'image-unreadable' });
  t.throws(() => readConfig(configOf({}, { rootfs: { diff_ids: ['sha256:../../etc'] } })), { code: 'image-unreadable' });
  t.end();
});

t.test('of an index the image for the edgepoints is chosen', (t) => {
  const of = (text: string, more: object = {}) => ({ mediaType: '', digest: digestOf(text), size: 1, ...more });
  const arm = of('arm', { platform: { architecture: 'arm64', os: 'linux' } });
  const amd = of('amd', { platform: { architecture: 'amd64', os: 'linux' } });
  const attestation = of('attestation', { platform: { architecture: 'unknown', os: 'unknown' }, annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } });
  t.equal(chooseManifest([arm, attestation, amd]), amd);
  t.equal(chooseManifest([of('open')]).digest, digestOf('open'));
  t.throws(() => chooseManifest([arm, attestation]), { code: 'image-architecture', message: /linux\/arm64/ });
  t.throws(() => chooseManifest([of('one'), of('two')]), { code: 'image-several' });
  t.end();
});

t.test('the config counts where the manifest says nothing', (t) => {
  const image = { Entrypoint: ['/bin/serve'], Cmd: ['--fast'], User: 'web', WorkingDir: '/srv', Env: ['PATH=/opt/bin', 'A=1', '1X=no'], ExposedPorts: { '8081/tcp': {}, '53/udp': {} }, Volumes: { '/data': {} } };
  const of = (config: Record<string, unknown>, manifestText = '', more: object = {}) => manifestOfImage({ manifestText, config: readConfig(configOf(config)), imageName: 'registry:5000/team/My_Shop', ...more });
  const plain = of(image);
  t.match(plain.manifest, { app: 'my-shop', command: ['/bin/serve', '--fast'], port: 8081, user: 'web', workingDirectory: '/srv', env: { PATH: '/opt/bin', A: '1' }, image: { layers: [layer] }, state: 'template' });
  t.equal(plain.notes.length, 2, 'what is left out is said');
  const own = of(image, 'app = "shop"\ncommand = ["/bin/other"]\nport = 9000\nuser = "root"\nworkingDirectory = "/tmp"\nstate = "keep"\n[env]\nA = "2"\n').manifest;
  t.match(own, { app: 'shop', command: ['/bin/other'], port: 9000, user: 'root', workingDirectory: '/tmp', env: { PATH: '/opt/bin', A: '2' }, state: 'keep' });
  t.match(of(image, 'port = 9000\n', { name: 'other', port: 7000 }).manifest, { app: 'other', port: 7000 });
  t.match(of({ Cmd: ['a'], User: '0' }).manifest, { port: 8080, workingDirectory: '/' });
  t.equal(of({ Cmd: ['a'], User: '0' }).manifest.user, undefined);
  t.match(of({ Cmd: ['a'], Env: ['PORT=3000'] }).manifest, { port: 3000 });
  t.throws(() => of({ Cmd: ['a'], ExposedPorts: { '80/tcp': {}, '81/tcp': {} } }), { code: 'image-port' });
  t.throws(() => of({}), { code: 'image-command' });
  t.throws(() => of(image, 'prt = 1\n'), { code: 'manifest-invalid', message: /unknown key `prt`/ });
  t.equal(nameOf('9Lives!'), 'lives');
  t.end();
});

t.test('names of images, challenges and credentials', (t) => {
  const rows: readonly (readonly [string, object])[] = [
    ['shop', { origin: 'https://registry-1.docker.io', host: 'docker.io', repository: 'library/shop', version: 'latest' }],
    ['team/shop:1.2', { host: 'docker.io', repository: 'team/shop', version: '1.2' }],
    ['localhost:5000/shop', { origin: 'http://localhost:5000', repository: 'shop', version: 'latest' }],
    ['ghcr.io/a/b/c:x', { origin: 'https://ghcr.io', repository: 'a/b/c', version: 'x' }],
    [`r.example:99/a@${layer}`, { origin: 'https://r.example:99', repository: 'a', version: layer }],
  ];
  for (const [text, reference] of rows) t.match(parseReference(text), reference, text);
  for (const text of ['', '../x', 'a.example/../b', 'a b', 'A/b', 'a.example/b?c', `a@sha256:${'0'.repeat(63)}`, 'user@evil.example/a:b']) t.throws(() => parseReference(text), { code: 'image-unknown' }, text);
  t.same(readChallenge('Bearer realm="https://a.example/token",service="r",scope="x"'), { scheme: 'bearer', realm: 'https://a.example/token', service: 'r' });
  t.equal(readChallenge('Negotiate'), null);
  const auth = (name: string): string => JSON.stringify({ auths: { [name]: { auth: Buffer.from('ann:secret').toString('base64') } } });
  t.equal(credentialsIn(auth('https://index.docker.io/v1/'), 'docker.io'), 'ann:secret');
  t.equal(credentialsIn(auth('r.example'), 'r.example'), 'ann:secret');
  t.equal(credentialsIn(auth('r.example'), 'evil.example'), null);
  t.end();
});

t.test('archives: an older docker’s links are followed; what is not whole is refused by a code', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-image-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const tar = tarOf([{ path: 'a', text: 'of the layer' }]);
  const config = configOf({ Cmd: ['a'] }, { rootfs: { diff_ids: [digestOf(tar), digestOf(tar)] } });
  const write = (name: string, entries: readonly Entry[]): string => {
    writeFileSync(join(folder, name), tarOf(entries));
    return join(folder, name);
  };
  const saved = (layers: readonly string[]): Entry[] => [{ path: 'c.json', text: config }, { path: 'manifest.json', text: JSON.stringify([{ Config: 'c.json', RepoTags: ['team/shop:1'], Layers: layers }]) }];
  const first: Entry = { path: 'one/layer.tar', text: tar.toString('latin1') };
  const source = await openArchive(write('old.tar', [first, { path: 'two/layer.tar', type: 'SymbolicLink', linkpath: '../one/layer.tar' }, ...saved(['one/layer.tar', 'two/layer.tar'])]));
  t.equal(source.name, 'team/shop');
  for (const one of source.layers) {
    const parts: Uint8Array[] = [];
    for await (const part of one.open()) parts.push(part);
    t.equal(digestOf(Buffer.concat(parts)), one.digest);
  }
  await source.close();
  const rows: Readonly<Record<string, { path: string; code: string }>> = {
    'a layer is missing': { path: write('a.tar', [first, ...saved(['one/layer.tar', 'gone/layer.tar'])]), code: 'image-layer-missing' },
    'links that lead round': { path: write('b.tar', [{ path: 'x', type: 'SymbolicLink', linkpath: 'y' }, { path: 'y', type: 'SymbolicLink', linkpath: 'x' }, ...saved(['x', 'y'])]), code: 'image-layer-missing' },
    'fewer layers than the config says': { path: write('c.tar', [first, ...saved(['one/layer.tar'])]), code: 'image-unreadable' },
    'no image': { path: write('d.tar', [{ path: 'a' }]), code: 'image-unreadable' },
    'no tar': { path: (writeFileSync(join(folder, 'e'), 'x'.repeat(1024)), join(folder, 'e')), code: 'image-unreadable' },
    'compressed': { path: (writeFileSync(join(folder, 'f'), gzipSync(tarOf([first]), { level: 0 })), join(folder, 'f')), code: 'image-compressed' },
  };
  for (const [title, { path, code }] of Object.entries(rows)) await t.rejects(openArchive(path), { code }, title);
});
