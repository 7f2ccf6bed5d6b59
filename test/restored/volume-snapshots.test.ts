import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { CatalogueChange, VolumeCalls, VolumeCopied, VolumeIndex } from '../../edgepoint/model/volumes.ts';
import { type Engine, openEngine, until } from './engine.ts';
import { loopDevices } from './place.ts';

t.setTimeout(240_000);

const bun = fileURLToPath(new URL('../../node_modules/.bin/bun', import.meta.url));
const entry = fileURLToPath(new URL('../../edgepoint/main.ts', import.meta.url));
const mebibyte = 2 ** 20;
const about = { owner: { provider: 'ann', scope: 'main', app: 'shop' }, volume: 'data' };
const siteOf = (edgepoint: string) => ({ zone: 'z', edgepoint });
const imageOf = (engine: Engine): string => join(engine.folder, 'data/volumes/ann.main.shop/data.ext4');
const volumes = (engine: Engine) => [{ name: 'data', imagePath: imageOf(engine), sizeBytes: 64 * mebibyte, mountPath: '/data' }];
const call = <Name extends keyof VolumeCalls>(engine: Engine, name: Name, order: Parameters<VolumeCalls[Name]>[0]): ReturnType<VolumeCalls[Name]> => engine.snapd.call(name, order, { timeoutMs: 120_000 }) as ReturnType<VolumeCalls[Name]>;

function trust(one: Engine, other: { engine: Engine; edgepoint: string }): void {
  const done = spawnSync(bun, [entry, 'identity', '--zone', 'z', '--edgepoint', other.edgepoint, '--data-folder', join(other.engine.folder, 'data')], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(done.stderr);
  writeFileSync(join(one.folder, 'trusted.json'), `[${done.stdout}]`, { mode: 0o600 });
}

async function read(engine: Engine, part: 'chunks' | 'index'): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (let from = 0; ; from += pieces.at(-1)?.length ?? 0) {
    const { base64 } = await call(engine, 'readVolumeCopy', { ...about, part, from, bytes: mebibyte });
    if (base64 === '') return Buffer.concat(pieces);
    pieces.push(Buffer.from(base64, 'base64'));
  }
}

/** Takes a snapshot as the head does, with files in place of the object store; `chunks` are those of this snapshot alone. */
async function take(engine: Engine, catalogue: string, indexFile: string): Promise<{ copied: VolumeCopied; catalogue: string; index: string; chunks: Buffer; sequence: number }> {
  const change = async (text: string, of: CatalogueChange): Promise<string> => (await call(engine, 'changeCatalogue', { ...about, catalogue: text, change: of })).text;
  const begun = await change(catalogue, { kind: 'begin' });
  const copied = await call(engine, 'copyVolume', { ...about, catalogue: begun, indexFile });
  const index = await read(engine, 'index');
  const { sequence } = JSON.parse(index.toString()) as VolumeIndex;
  const { sizeBytes, dataBytes, newBytes } = copied;
  const entry = { sequence, takenWallMs: 1, release: 1, sizeBytes, dataBytes, newBytes, index: copied.index };
  const path = join(engine.folder, `index-${sequence}`);
  writeFileSync(path, index);
  return { copied, catalogue: await change(begun, { kind: 'finish', keep: null, entry }), index: path, chunks: await read(engine, 'chunks'), sequence };
}

/** Writes a row to one file, then to another, each on the disk before the next begins, and counts what is acknowledged. */
const writer = `
  const fs = require('fs'); const row = Buffer.alloc(64, 'r'); state.rows = 0;
  const [one, two] = ['/data/one', '/data/two'].map((path) => fs.openSync(path, 'a'));
  const step = () => { for (const file of [one, two]) { fs.writeSync(file, row); fs.fsyncSync(file); } state.rows += 1; if (!state.stop) setImmediate(step); };
  step(); return 1`;

async function withVolume(engine: Engine, name: string): Promise<{ instance: string; address: string }> {
  const instance = await engine.boot(engine.order(name, { volumes: volumes(engine) }));
  await engine.run(instance, 'return 1');
  return instance;
}

const noise = (bytes: number): string => `require('fs').writeFileSync('/data/noise', require('crypto').randomBytes(${bytes})); require('child_process').execSync('sync'); return 1`;

t.test('a copy of a volume under a writer is of one moment, and is a volume elsewhere', async (t) => {
  const a = await openEngine(t, { edgepoint: 'a', subnet: '10.77.0.0/24' });
  const b = await openEngine(t, { edgepoint: 'b', subnet: '10.78.0.0/24' });
  trust(a, { engine: b, edgepoint: 'b' });
  trust(b, { engine: a, edgepoint: 'a' });
  await t.rejects(call(a, 'copyVolume', { ...about, catalogue: (await call(a, 'changeCatalogue', { ...about, catalogue: '', change: { kind: 'begin' } })).text, indexFile: '' }), { code: 'volume-missing' }, 'nothing has been written');

  const instance = await withVolume(a, 'one');
  await a.run(instance, noise(9_000_000));
  await a.run(instance, writer);
  const rows = async (): Promise<number> => (await a.run(instance, 'return state.rows')) as number;
  await until('some rows are written', async () => (await rows()) > 20);
  const atLeast = await rows();
  const first = await take(a, '', '');
  const second = await take(a, first.catalogue, first.index);
  const atMost = (await a.run(instance, 'state.stop = true; return state.rows')) as number;
  t.ok(first.copied.newBytes > 9_000_000, 'what cannot be compressed is sealed once');
  t.ok(second.copied.newBytes < first.copied.newBytes / 2, `only what is new the second time: ${second.copied.newBytes} of ${first.copied.newBytes} bytes`);
  t.ok(first.copied.frozenMs > 0);
  t.notOk(first.chunks.includes(Buffer.alloc(64, 'r')), 'nothing of it is there in plain text');
  t.comment(`frozen for ${first.copied.frozenMs.toFixed(1)} ms, copied in ${first.copied.copyMs.toFixed(1)} ms, sealed in ${first.copied.sealMs.toFixed(1)} ms: ${first.copied.dataBytes} bytes`);

  // As the head fetches them: in the order of the index, from whichever snapshot sealed them.
  const { chunks } = JSON.parse(readFileSync(second.index, 'utf8')) as VolumeIndex;
  const bySha = new Map<string, Buffer>();
  for (const [taken, index] of [[first, first.index], [second, second.index]] as const) {
    let from = 0;
    for (const chunk of (JSON.parse(readFileSync(index, 'utf8')) as VolumeIndex).chunks.filter(({ sequence }) => sequence === taken.sequence)) {
      bySha.set(chunk.digest, taken.chunks.subarray(from, from + chunk.bytes));
      from += chunk.bytes;
    }
  }
  const chunksFile = join(b.folder, 'chunks');
  const indexFile = join(b.folder, 'index');
  copyFileSync(second.index, indexFile);
  const good = Buffer.concat(chunks.map((chunk) => bySha.get(chunk.digest) ?? Buffer.alloc(0)));
  writeFileSync(chunksFile, good);
  const order = { ...about, catalogue: second.catalogue, from: siteOf('a'), sequence: second.sequence, indexFile, chunksFile, sizeBytesMax: 64 * mebibyte };

  const before = await withVolume(b, 'before');
  await b.run(before, `require('fs').writeFileSync('/data/mine', 'of b'); return 1`);
  const spoilt: [string, () => unknown, Partial<typeof order>?][] = [
    ['a chunk that was altered', () => writeFileSync(chunksFile, Buffer.concat([good.subarray(0, 1000), Buffer.from([(good[1000] ?? 0) ^ 1]), good.subarray(1001)]))],
    ['chunks that end early', () => truncateSync(chunksFile, good.length - 5)],
    ['chunks in another order', () => writeFileSync(chunksFile, Buffer.concat([good.subarray(chunks[0]?.bytes ?? 0), good.subarray(0, chunks[0]?.bytes ?? 0)]))],
    ['an index that was altered', () => writeFileSync(indexFile, readFileSync(indexFile, 'utf8').replace('"number":1', '"number":9'))],
    ['the index of another snapshot', () => copyFileSync(first.index, indexFile)],
    ['a catalogue that was altered', () => undefined, { catalogue: second.catalogue.replace('\\"release\\":1', '\\"release\\":2') }],
    ['a catalogue of somebody else', () => undefined, { from: siteOf('b') }],
    ['one of a stranger', () => undefined, { from: siteOf('c') }],
    ['the volume of another app', () => undefined, { owner: { ...about.owner, app: 'other' } }],
    ['the volume of another provider', () => undefined, { owner: { ...about.owner, provider: 'eve' } }],
  ];
  for (const [what, spoil, change] of spoilt) {
    spoil();
    await t.rejects(call(b, 'admitVolume', { ...order, ...change }), { code: 'snapshot-refused' }, `${what} is refused`);
    writeFileSync(chunksFile, good);
    copyFileSync(second.index, indexFile);
  }
  await t.rejects(call(b, 'admitVolume', { ...order, sizeBytesMax: 8 * mebibyte }), { code: 'volume-size' });
  t.same(readdirSync(join(b.folder, 'data/volume-copies')), [], 'nothing of them is left');
  await t.rejects(call(b, 'swapVolume', about), 'and nothing can take the place of a volume');

  await call(b, 'admitVolume', order);
  await t.rejects(call(b, 'swapVolume', about), { code: 'volume-busy' }, 'an instance has it');
  t.equal(await b.run(before, `return require('fs').readFileSync('/data/mine', 'utf8')`), 'of b');
  await b.stop('before');
  await until('its device is gone', () => loopDevices(b.folder).length === 0);
  await call(b, 'swapVolume', about);
  const there = await withVolume(b, 'there');
  const [one = 0, two = 0] = (await b.run(there, `return ['one', 'two'].map((name) => require('fs').statSync('/data/' + name).size / 64)`)) as number[];
  t.ok(one >= atLeast && one <= atMost + 1, `every row that was acknowledged before is there: ${atLeast} <= ${one} <= ${atMost + 1}`);
  t.ok(one === two || one === two + 1, `it is of one moment: ${one} and ${two}`);
  t.equal(await b.run(there, `return require('fs').existsSync('/data/mine')`), false, 'what was there before is gone');
  const [use] = await call(b, 'volumeUse', { owner: about.owner, volumes: [{ volume: 'data', sizeBytes: 64 * mebibyte }] });
  await b.stop('there');
  await until('its device is gone', () => loopDevices(b.folder).length === 0);
  const [asleep] = await call(b, 'volumeUse', { owner: about.owner, volumes: [{ volume: 'data', sizeBytes: 64 * mebibyte }] });
  t.ok(Math.abs((use?.usedBytes ?? 0) - (asleep?.usedBytes ?? 1e9)) < 2 * mebibyte, `awake or asleep it is told alike: ${JSON.stringify([use, asleep])}`);
  t.ok((use?.usedBytes ?? 0) > 9_000_000);
  for (const engine of [a, b]) for (const { instance: name } of await engine.list()) await engine.stop(name);
  await a.nothingRemains(t, 'nothing is left');
});

t.test('a snapd that is killed while it copies leaves a volume that can be written, and nothing behind', async (t) => {
  const engine = await openEngine(t);
  const instance = await withVolume(engine, 'one');
  await engine.run(instance, noise(40 * mebibyte));
  const { text: catalogue } = await call(engine, 'changeCatalogue', { ...about, catalogue: '', change: { kind: 'begin' } });
  const copies = join(engine.folder, 'data/volume-copies');
  // A kill may come late, when the copy is done already: that one shows nothing.
  for (let round = 1, cut = 0; cut < 3; round += 1) {
    if (round > 30) return t.fail('no copy was cut');
    const under = call(engine, 'copyVolume', { ...about, catalogue, indexFile: '' }).then(() => 'done', () => 'cut');
    // The copy has begun: what it copies stands still.
    await until('it copies', () => existsSync(join(copies, 'ann.main.shop.data/image')));
    await engine.killDaemon('snapd');
    if ((await under) === 'cut') cut += 1;
    t.equal(await engine.run(instance, `require('fs').writeFileSync('/data/after', '${round}', { flush: true }); return require('fs').readFileSync('/data/after', 'utf8')`), `${round}`, 'it can be written at once, before anybody comes back');
    await engine.startDaemon('snapd');
    await call(engine, 'discardVolumeCopy', about);
    t.notOk(existsSync(copies) && readdirSync(copies).length > 0, 'what was copied is removed');
    t.same(readdirSync(join(engine.runFolder, 'volume-mounts')), [], 'and no mount stays');
  }
  const { copied } = await take(engine, '', '');
  t.ok(copied.dataBytes > 40 * mebibyte, 'and the next copy is whole');
  t.comment(`${copied.dataBytes} bytes: frozen for ${copied.frozenMs.toFixed(1)} ms, sealed in ${copied.sealMs.toFixed(1)} ms`);
  await engine.stop('one');
  await engine.nothingRemains(t, 'nothing is left');
  await until('no device is left', () => loopDevices(engine.folder).length === 0);
});
