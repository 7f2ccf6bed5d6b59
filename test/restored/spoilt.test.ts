import { chmodSync, chownSync, cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { tools } from '../../host/tools.ts';
import { chance } from './chance.ts';
import { type Engine, openEngine } from './engine.ts';

/** Nothing stays unpacked, so that each restore reads the sealed file. */
const cold = { hotBytes: 0 };

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ 0x10;
  chmodSync(path, 0o600);
  writeFileSync(path, bytes);
  chmodSync(path, 0o400);
}

/** The lengths of the chunks, from the index at the end (edgepoint/templates/sealed-index.ts). */
function chunkLengths(bytes: Buffer): number[] {
  const trailerBytes = 64 + 4 + 8;
  const indexBytes = bytes.readUInt32LE(bytes.length - 12);
  const index = JSON.parse(bytes.subarray(-trailerBytes - indexBytes, -trailerBytes).toString()) as { chunks: { bytes: number }[] };
  return index.chunks.map((chunk) => chunk.bytes);
}

function swapChunks(path: string): void {
  const bytes = readFileSync(path);
  const [first = 0, second = 0] = chunkLengths(bytes);
  chmodSync(path, 0o600);
  writeFileSync(path, Buffer.concat([bytes.subarray(first, first + second), bytes.subarray(0, first), bytes.subarray(first + second)]));
}

async function refused(t: Test, engine: Engine, label: string, path: string, reason: RegExp, change = {}): Promise<void> {
  const order = { ...engine.order('bad', change), snapshotPath: path, continues: false };
  await t.rejects(engine.restore(order), { code: 'snapshot-refused', message: reason }, label);
  t.same((await engine.list()).map((one) => one.instance), ['first'], `${label}: no instance`);
  await engine.nothingRemains(t, `${label}: nothing remains`);
}

t.test('a sealed snapshot that is cut, altered, foreign or open to others is refused with the reason, and leaves nothing', async (t) => {
  const random = chance(t);
  const engine = await openEngine(t, cold);
  const instance = await engine.boot(engine.order('first'));
  await engine.run(instance, 'state.count = 1');
  const older = (await engine.snapshot('first', engine.snapshotPath('older'))).snapshotPath;
  await engine.run(instance, 'state.count = 2');
  const good = (await engine.snapshot('first', engine.snapshotPath('good'))).snapshotPath;
  const spoilt = join(dirname(engine.snapshotPath('spoilt')), good.split('/').at(-1) as string);
  const size = statSync(good).size;
  const rows: Readonly<Record<string, { spoil(path: string): void; reason: RegExp }>> = {
    'cut in half': { spoil: (path) => truncateSync(path, Math.floor(size / 2)), reason: /its end is missing/ },
    'cut by a byte': { spoil: (path) => truncateSync(path, size - 1), reason: /its end is missing/ },
    'cut to nothing': { spoil: (path) => truncateSync(path, 0), reason: /its end is missing/ },
    'cut at its beginning': { spoil: (path) => writeFileSync(path, readFileSync(good).subarray(100)), reason: /not as long as it was/ },
    'noise of the same length': { spoil: (path) => writeFileSync(path, Buffer.alloc(size, 0xa5)), reason: /its end is missing/ },
    'two chunks swapped': { spoil: swapChunks, reason: /chunk 1 of \d+ is not what was sealed/ },
    'its signature altered': { spoil: (path) => flip(path, size - 20), reason: /has not signed it/ },
    'its index altered': { spoil: (path) => flip(path, size - 200), reason: /has not signed it/ },
    'an older one under its name': { spoil: (path) => cpSync(older, path), reason: /another snapshot .* than the one named/ },
    'not there': { spoil: (path) => rmSync(path), reason: /it is not there/ },
    'a folder': { spoil: (path) => { rmSync(path); mkdirSync(path); }, reason: /not one of root/ },
    'readable by others': { spoil: (path) => chmodSync(path, 0o444), reason: /others than root/ },
    'another user’s': { spoil: (path) => chownSync(path, 12_345, 0), reason: /not one of root/ },
    ...Object.fromEntries(
      Array.from({ length: 12 }, () => Math.floor(random() * size)).map((at) => [`a bit of byte ${at} flipped`, { spoil: (path: string) => flip(path, at), reason: /is not what was sealed|has not signed it|its end is missing|longer than it can be/ }]),
    ),
  };
  for (const [label, { spoil, reason }] of Object.entries(rows)) {
    rmSync(dirname(spoilt), { recursive: true, force: true });
    mkdirSync(dirname(spoilt), { mode: 0o700 });
    cpSync(good, spoilt);
    chmodSync(spoilt, 0o600);
    spoil(spoilt);
    await refused(t, engine, label, spoilt, reason);
  }
  await refused(t, engine, 'another provider', good, /belongs to another provider/, { owner: { provider: 'bob', scope: 'main', app: 'shop' } });
  await refused(t, engine, 'another app', good, /of another app, main\/shop/, { owner: { provider: 'ann', scope: 'main', app: 'other' } });
  await refused(t, engine, 'another release', good, /of release 1, not 2/, { release: 2 });
  await refused(t, engine, 'a folder without one', engine.snapshotPath('void'), /no sealed snapshot/);
  const clone = await engine.restore({ ...engine.order('clone'), snapshotPath: good, continues: false });
  t.equal(await engine.run(clone, 'return state.count'), 2, 'the good one still starts');
});

t.test('with other keys, or keys that others can read, nothing is opened', async (t) => {
  const engine = await openEngine(t, cold);
  const instance = await engine.boot(engine.order('first'));
  await engine.run(instance, 'return 1');
  const { snapshotPath } = await engine.snapshot('first', engine.snapshotPath('good'));
  const keys = join(engine.folder, 'data/keys');
  t.same(readdirSync(keys).toSorted(), ['edgepoint.pem', 'provider-ann.key']);
  for (const name of ['.', ...readdirSync(keys)]) t.equal(statSync(join(keys, name)).mode & 0o077, 0, `${name} is root's alone`);
  const restart = async (change: () => void): Promise<void> => {
    await engine.killDaemon('restored');
    change();
    await engine.startDaemon('restored');
  };
  await restart(() => chmodSync(join(keys, 'provider-ann.key'), 0o644));
  await t.rejects(engine.restore({ ...engine.order('bad'), snapshotPath, continues: false }), { code: 'key-exposed', remedy: /chmod 600/ });
  await restart(() => {
    chmodSync(join(keys, 'provider-ann.key'), 0o600);
    writeFileSync(join(keys, 'provider-ann.key'), Buffer.alloc(32, 7));
  });
  await refused(t, engine, 'another key of the provider', snapshotPath, /chunk 1 of \d+ is not what was sealed/);
  await restart(() => renameSync(join(keys, 'provider-ann.key'), join(keys, 'provider-bob.key')));
  await refused(t, engine, 'no key of the provider', snapshotPath, /no key of its provider/);
  await restart(() => rmSync(keys, { recursive: true }));
  await refused(t, engine, 'an edgepoint that has never signed', snapshotPath, /no signing key/);
  await engine.killDaemon('snapd');
  await engine.startDaemon('snapd');
  await engine.snapshot('first', engine.snapshotPath('other'));
  await refused(t, engine, 'another edgepoint', snapshotPath, /has not signed it/);
});

t.test('what stands on another base root is known before it is tried', async (t) => {
  const engine = await openEngine(t, cold);
  const instance = await engine.boot(engine.order('first'));
  await engine.run(instance, 'return 1');
  const { snapshotPath } = await engine.snapshot('first', engine.snapshotPath('good'));
  await engine.killDaemon('restored');
  const config = join(engine.folder, 'restored.json');
  const other = join(engine.folder, 'data/other-root');
  for (const folder of ['var/lib/dpkg', tools.guard]) mkdirSync(join(other, folder), { recursive: true });
  writeFileSync(join(other, 'var/lib/dpkg/status'), 'Package: other\n');
  writeFileSync(config, JSON.stringify({ ...(JSON.parse(readFileSync(config, 'utf8')) as object), baseRoot: other }));
  await engine.startDaemon('restored');
  await refused(t, engine, 'another base root', snapshotPath, /it was taken on another base root \([0-9a-f]{12}\) than is here \([0-9a-f]{12}\)/);
});
