import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import type { Fingerprint } from '../../edgepoint/templates/fingerprint.ts';
import { type HotCache, openHotCache } from '../../edgepoint/templates/hot-cache.ts';
import type { SealPorts } from '../../edgepoint/templates/seal.ts';
import { ann, fingerprint, ownFolder, plainPorts, sealed } from './ports.ts';

const kibibyte = 1024;
/** What one sealed snapshot of `content` takes unpacked: a page for each of its four entries, and what its two files hold. */
const unpackedBytes = 100 * kibibyte + 4 * 4096 + 'on the disk'.length;

interface Rig {
  readonly folder: string;
  readonly ports: SealPorts;
  readonly layers: Set<string>;
  readonly uses: boolean[];
  here: Fingerprint;
  bytes: number;
  open(bytesMax: number): HotCache;
  seal(release?: number): Promise<{ path: string; name: string }>;
  hot(): string[];
}

function openRig(t: Test): Rig {
  const folder = ownFolder(t);
  let nowMs = 1_000_000;
  const rig: Rig = {
    folder,
    ports: plainPorts(folder),
    layers: new Set(),
    uses: [],
    here: fingerprint,
    bytes: 0,
    open: (bytesMax) => {
      const cache = openHotCache({
        folder: join(folder, 'memory'),
        bytesMax,
        ports: rig.ports,
        here: () => rig.here,
        layersInUse: () => rig.layers,
        wallMs: () => (nowMs += 1000),
        onUse: ({ hot }) => rig.uses.push(hot),
        onChange: ({ bytes }) => (rig.bytes = bytes),
      });
      cache.begin();
      t.teardown(() => cache.close());
      return cache;
    },
    seal: (release = 1) => sealed(folder, rig.ports, { content: randomBytes(100 * kibibyte), release }),
    hot: () => readdirSync(join(folder, 'memory/hot'), { recursive: true }).map(String).filter((path) => /images$|disk$|part$/.test(path)).toSorted(),
  };
  return rig;
}

/** Whose images are there: by far the larger part. */
const images = (rig: Rig): string[] => rig.hot().flatMap((path) => (path.endsWith('/images') ? [dirname(path)] : []));

const order = (path: string, release = 1): Parameters<HotCache['use']>[0] => ({ snapshotPath: path, owner: ann, release, continues: false });

t.test('one is unpacked once, for all who wait for it, and stays for the next', async (t) => {
  const rig = openRig(t);
  const cache = rig.open(10 * unpackedBytes);
  const { path, name } = await rig.seal();
  const all = await Promise.all([1, 2, 3].map(() => cache.use(order(path))));
  t.same(new Set(all.map((one) => one.path)).size, 1);
  t.equal(readFileSync(join(all[0]?.path ?? '', 'disk/note'), 'utf8'), 'on the disk');
  for (const one of all) one.done({ spent: false });
  rmSync(path);
  t.equal((await cache.use(order(path))).name, name, 'nothing of the disk is read for one that is hot');
  t.same(rig.uses.slice(-1), [true]);
  t.equal(rig.bytes, unpackedBytes);
});

t.test('the least recently used leaves when another is wanted; one in use, and the disk that an instance stands on, stay', async (t) => {
  const rig = openRig(t);
  const cache = rig.open(2.5 * unpackedBytes);
  const [a, b, c] = [await rig.seal(), await rig.seal(), await rig.seal()];
  const heldA = await cache.use(order(a.path));
  (await cache.use(order(b.path))).done({ spent: false });
  (await cache.use(order(c.path))).done({ spent: false });
  t.same(images(rig), [a.name, c.name].toSorted(), 'b was not in use');
  rig.layers.add(a.name);
  heldA.done({ spent: false });
  (await cache.use(order(b.path))).done({ spent: false });
  t.same(images(rig), [b.name, c.name].toSorted(), 'of a the images have left');
  t.ok(rig.hot().includes(`${a.name}/disk`), 'and the disk has not');
  t.ok(rig.bytes <= 2.5 * unpackedBytes);
  const again = await cache.use(order(a.path));
  t.same(readdirSync(again.path).toSorted(), ['disk', 'images', 'index.json'], 'they come back beside the disk');
  again.done({ spent: true });
  t.ok(rig.hot().includes(`${a.name}/disk`), 'though nobody will restore it again, an instance stands on it');
  rig.layers.clear();
  const nothing = rig.open(0);
  nothing.settle();
  t.same(rig.hot(), [], 'with no memory granted all leaves that is in nobody’s use');
});

t.test('what an earlier process left whole is taken over, what it left half done is removed', async (t) => {
  const rig = openRig(t);
  const cache = rig.open(10 * unpackedBytes);
  const [a, b, c] = [await rig.seal(), await rig.seal(), await rig.seal()];
  for (const { path } of [a, b, c]) (await cache.use(order(path))).done({ spent: false });
  (await cache.use(order(a.path))).done({ spent: false });
  const hot = join(rig.folder, 'memory/hot');
  renameSync(join(hot, b.name, 'images'), join(hot, b.name, 'images.part'));
  mkdirSync(join(hot, 'noise'));
  const next = rig.open(1.5 * unpackedBytes);
  t.same(images(rig), [a.name], 'the order of their last use is known, too');
  t.notOk(rig.hot().some((name) => name.endsWith('.part')));
  rmSync(a.path);
  (await next.use(order(a.path))).done({ spent: false });
});

t.test('what snapd leaves is taken in whole, and counts', async (t) => {
  const rig = openRig(t);
  const cache = rig.open(10 * unpackedBytes);
  const { path, name } = await rig.seal();
  const memory = join(rig.folder, 'memory');
  (await cache.use(order(path))).done({ spent: false });
  renameSync(join(memory, 'hot', name), join(memory, 'incoming', name));
  const later = rig.open(10 * unpackedBytes);
  t.notOk(existsSync(join(memory, 'incoming', name)));
  rmSync(path);
  (await later.use(order(path))).done({ spent: true });
  t.same(rig.hot(), [], 'spent');
});

t.test('one that is hot is refused as well', async (t) => {
  const rig = openRig(t);
  const cache = rig.open(10 * unpackedBytes);
  const { path } = await rig.seal(2);
  (await cache.use(order(path, 2))).done({ spent: false });
  await t.rejects(cache.use(order(path, 1)), { code: 'snapshot-refused', message: /of release 2, not 1/ });
  await t.rejects(cache.use({ ...order(path, 2), owner: { ...ann, provider: 'bob' } }), { code: 'snapshot-refused', message: /another provider/ });
  rig.here = { ...fingerprint, baseRoot: 'replaced meanwhile' };
  await t.rejects(cache.use(order(path, 2)), { code: 'snapshot-refused', message: /another base root/ });
  rig.here = fingerprint;
  (await cache.use(order(path, 2))).done({ spent: false });
});

t.test('an unpacking that fails leaves nothing, and the next one may succeed', async (t) => {
  const rig = openRig(t);
  const cache = rig.open(10 * unpackedBytes);
  const { path } = await rig.seal();
  const aside = `${path}.aside`;
  renameSync(path, aside);
  await Promise.all([1, 2].map(() => t.rejects(cache.use(order(path)), { code: 'snapshot-refused', message: /not there/ })));
  t.same(rig.hot(), []);
  renameSync(aside, path);
  t.ok(await cache.use(order(path)));
});
