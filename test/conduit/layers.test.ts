import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Header } from 'tar';
import t from 'tap';
import { openLayers } from '../../conduit/layers.ts';
import { openUploads } from '../../conduit/uploads.ts';
import { startConduit } from './rig.ts';

t.setTimeout(120_000);

function tarOf(path: string, text: string): Buffer {
  const header = Buffer.alloc(512);
  new Header({ path, type: 'File', size: Buffer.byteLength(text), mode: 0o644, mtime: new Date(0), uid: 0, gid: 0 }).encode(header);
  return Buffer.concat([header, Buffer.from(text), Buffer.alloc((512 - (Buffer.byteLength(text) % 512)) % 512), Buffer.alloc(1024)]);
}

const tar = tarOf('srv/file', 'of the image');
const digest = `sha256:${createHash('sha256').update(tar).digest('hex')}`;
const other = `sha256:${'0'.repeat(64)}`;

t.test('a provider sends a layer once; nobody else has it, and nothing is left of one that is refused', async (t) => {
  const world = await startConduit(t, { layerBytesPerProvider: 1024 });
  const [ann, ben] = [await world.token('ann'), await world.token('ben')];
  const send = (token: string, name: string, body: Buffer) => world.ask(token, `/layers/${name}`, { method: 'POST', body: new Uint8Array(body) });
  const code = async (answer: Response): Promise<unknown> => [answer.status, ((await answer.json()) as { code?: string }).code];
  t.same(await code(await world.ask(ann, `/layers/${digest}`)), [404, 'layer-unknown']);
  t.equal((await send(ann, digest, gzipSync(tar))).status, 201);
  t.equal((await send(ann, digest, gzipSync(tar, { level: 1 }))).status, 201, 'and again, packed in another way');
  t.match(await (await world.ask(ann, `/layers/${digest}`)).json(), { digest });
  t.same(await code(await world.ask(ben, `/layers/${digest}`)), [404, 'layer-unknown'], 'not for another provider');
  t.same(await code(await world.ask(ann, '/layers/..%2f..%2fconduit.db')), [404, 'layer-unknown']);

  t.same(await code(await send(ben, other, gzipSync(tar))), [422, 'layer-damaged']);
  t.same(await code(await send(ben, digest, gzipSync(tarOf('../out', 'x')))), [422, 'image-path']);
  t.same(await code(await send(ben, digest, Buffer.from('no layer'))), [422, 'layer-corrupt']);
  t.notOk(existsSync(join(world.uploadFolder, 'layers/ben')));
  t.same(readdirSync(world.uploadFolder).filter((name) => name.endsWith('.part')), []);

  const manifest = `app = "shop"\ncommand = ["/a"]\nport = 80\n[image]\nlayers = ["${digest}"]\n`;
  const release = gzipSync(tarOf('edgepoint.toml', manifest));
  const deploy = (token: string) => world.ask(token, '/apps/shop/releases', { method: 'POST', body: new Uint8Array(release) });
  t.same(await code(await deploy(ben)), [409, 'layer-missing'], 'a release cannot name what its provider has not sent');
  t.equal((await deploy(ann)).status, 201);
  t.same(await code(await world.ask(ann, '/apps/shop/checks', { method: 'POST', body: new Uint8Array(release) })), [422, 'manifest-image']);

  const noise = Buffer.alloc(3000);
  for (let at = 0; at < noise.length; at += 32) createHash('sha256').update(`${at}`).digest().copy(noise, at);
  const big = tarOf('srv/noise', noise.toString('latin1'));
  t.equal((await send(ann, `sha256:${createHash('sha256').update(big).digest('hex')}`, gzipSync(big))).status, 201);
  t.same(await code(await send(ann, digest, gzipSync(tar))), [507, 'layers-full'], 'what is kept for a provider is bounded');
});

t.test('what no release needs goes an hour after it was last asked for', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'edgepoint-layers-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  let wallMs = Date.now();
  const needed = new Set<string>();
  const uploads = await openUploads(folder, 1_000_000);
  const randomBytes = (count: number): Uint8Array => new Uint8Array(count).fill(1);
  const layers = await openLayers({ uploads, folder: join(folder, 'layers'), bytesPerProvider: 1e6, uploadsMax: 1, randomBytes, needed: () => Promise.resolve(needed), wallMs: () => wallMs });
  await layers.receive('ann', digest, (async function* () { yield gzipSync(tar); })(), null);
  await layers.find('ann', digest);
  wallMs += 3_500_000;
  await layers.sweep();
  await layers.find('ann', digest);
  wallMs += 3_500_000;
  await layers.sweep();
  await layers.require('ann', [digest]);
  needed.add(`ann/${digest}`);
  wallMs += 7_200_000;
  await layers.sweep();
  t.ok(existsSync(layers.path('ann', digest)), 'one that a release needs stays');
  needed.clear();
  await layers.sweep();
  await t.rejects(layers.find('ann', digest), { code: 'layer-unknown' });
  await t.rejects(layers.require('ann', [digest]), { code: 'layer-missing' });
});
