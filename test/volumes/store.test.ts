import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { changeCatalogue, newestOf, planChunks, volumeObjects } from '../../edgepoint/model/volume-plan.ts';
import type { ChunkRef, VolumeCalls, VolumeCatalogue, VolumeIndex } from '../../edgepoint/model/volumes.ts';
import { readUnverified } from '../../edgepoint/volumes/catalogue.ts';
import type { StoredVolume, VolumesPorts } from '../../edgepoint/volumes/ports.ts';
import { Volumes } from '../../edgepoint/volumes/run.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import { Failure } from '../../kit/errors.ts';

const owner = { provider: 'ann', scope: 'main', app: 'shop' };
const about = { owner, volume: 'data' };
const site = { zone: 'z', edgepoint: 'e' };
const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const names = volumeObjects('ann.main.shop', 'data');
class Killed extends Error {}

/**
 * The object store as a map, and snapd as what it is for this: chunks are sealed as they are. `life` kills at the nth thing that is written or
 * removed: from then on nothing of that life happens any more, as after kill -9.
 */
function openRig() {
  const store = new Map<string, Uint8Array | string>();
  const records = new Map<string, StoredVolume>();
  let volume: readonly number[] = [0, 0, 0, 0];
  let files = new Map<string, Buffer>();
  let restored: readonly number[] | null = null;
  const life = (killAt: number): Volumes => {
    let steps = 0;
    const alive = (): void => {
      steps += 1;
      if (steps > killAt) throw new Killed();
    };
    let copy = { index: Buffer.alloc(0), chunks: Buffer.alloc(0) };
    const calls: Partial<VolumeCalls> = {
      copyVolume: async ({ catalogue, indexFile }) => {
        alive();
        const { begun, snapshots } = readUnverified(catalogue);
        const before = indexFile === '' ? null : (JSON.parse((files.get(indexFile) ?? '').toString()) as VolumeIndex);
        if ((before?.sequence ?? null) !== (newestOf({ snapshots })?.sequence ?? null)) throw new Error('it is compared with another snapshot than the last');
        const mark = (seed: number): string => sha(Buffer.from([seed]));
        const marks = new Map(volume.flatMap((seed, number) => (seed === 0 ? [] : [[number, mark(seed)] as const])));
        const { keep, seal } = planChunks(before, { sizeBytes: volume.length, marks });
        const sealed: ChunkRef[] = seal.map((number) => ({ number, sequence: begun ?? 0, bytes: 1, digest: sha(Buffer.from([volume[number] ?? 0])), mark: marks.get(number) ?? '' }));
        const chunks = [...keep, ...sealed].toSorted((one, other) => one.number - other.number);
        const index = Buffer.from(JSON.stringify({ version: 1, ...about, sequence: begun, sizeBytes: volume.length, codec: 'none', salts: {}, chunks }));
        copy = { index, chunks: Buffer.from(seal.map((number) => volume[number] ?? 0)) };
        return { frozenMs: 0, copyMs: 0, sealMs: 0, sizeBytes: volume.length, dataBytes: marks.size, newChunks: seal.length, newBytes: seal.length + index.length, index: { bytes: index.length, digest: sha(index) } };
      },
      readVolumeCopy: async ({ part, from, bytes }) => ({ base64: copy[part].subarray(from, from + bytes).toString('base64') }),
      discardVolumeCopy: async () => undefined,
      changeCatalogue: async ({ catalogue, change }) => {
        const before: VolumeCatalogue = catalogue === '' ? { version: 1, ...site, ...about, salt: '0'.repeat(64), next: 1, begun: null, snapshots: [], leaving: [], grants: {} } : readUnverified(catalogue);
        const changed = changeCatalogue(before, change);
        if (!changed.ok) throw new Failure('snapshot-unknown', changed.reason);
        return { text: JSON.stringify({ catalogue: JSON.stringify(changed.catalogue), signature: '' }) };
      },
      admitVolume: async ({ indexFile, chunksFile }) => {
        alive();
        const index = JSON.parse((files.get(indexFile) ?? '').toString()) as VolumeIndex;
        const bytes = files.get(chunksFile) ?? Buffer.alloc(0);
        const image = Array.from({ length: index.sizeBytes }, () => 0);
        index.chunks.forEach((chunk, place) => (image[chunk.number] = bytes[place] ?? 0));
        restored = image;
        return { tookMs: 0 };
      },
      swapVolume: async () => {
        alive();
        volume = restored ?? volume;
      },
    };
    const ports: VolumesPorts = {
      site,
      calls: calls as VolumeCalls,
      records: {
        storedVolumes: async () => [...records.values()],
        saveStoredVolume: async (stored) => void (stored.bytes === 0 ? records.delete('data') : records.set('data', stored)),
      },
      limits: { bytesMax: 1e9, providerBytesMax: 1e9 },
      objects: () => ({
        put: async (id, content) => {
          alive();
          store.set(id, content);
        },
        get: async (id, { bytes, digest }) => {
          const found = store.get(id);
          if (!(found instanceof Uint8Array) || found.length !== bytes || sha(found) !== digest) throw new Failure('object-broken', `${id} is not there`);
          return found;
        },
        drop: async (id) => {
          alive();
          store.delete(id);
        },
        note: async (id) => (store.get(id) as string | undefined) ?? null,
        putNote: async (id, text) => {
          alive();
          store.set(id, text);
        },
      }),
      // 2 MiB a chunk: 8 MiB have the 4 chunks that there are.
      serving: () => ({ release: 1, manifest: manifestSchema.parse({ app: 'shop', command: ['x'], port: 1, volume: [{ name: 'data', path: '/d', sizeMegabytes: 8 }] }) }) as unknown as ReturnType<VolumesPorts['serving']>,
      hosts: () => true,
      hold: async (_owner, _reason, work) => {
        await work();
        return 0;
      },
      withFile: async (name, work) => {
        files = new Map([...files, [name, Buffer.alloc(0)]]);
        return work(name, async (bytes) => void files.set(name, Buffer.concat([files.get(name) ?? Buffer.alloc(0), bytes])));
      },
      nowMs: () => 0,
      wallMs: () => 0,
      warn: () => undefined,
    };
    return new Volumes(ports);
  };
  return { store, records, life, write: (next: readonly number[]) => (volume = next), volume: () => volume };
}

const stateArbitrary = fc.array(fc.nat(3), { minLength: 4, maxLength: 4 });
const stepArbitrary = fc.record({
  write: stateArbitrary,
  kind: fc.constantFrom('snapshot' as const, 'snapshot' as const, 'restore' as const, 'remove' as const),
  pick: fc.nat(10),
  keep: fc.option(fc.integer({ min: 1, max: 3 })),
  killAt: fc.option(fc.nat(14), { freq: 2 }),
});
const listedIn = (store: ReadonlyMap<string, Uint8Array | string>): number[] => {
  const text = store.get(names.catalogue);
  return typeof text === 'string' ? readUnverified(text).snapshots.map(({ sequence }) => sequence) : [];
};
const quiet = (): void => undefined;

t.test('killed at any step, every snapshot that is listed is whole, a volume is old or new, and nothing else stays in the store', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(stepArbitrary, { minLength: 1, maxLength: 10 }), async (steps) => {
      const { store, records, life, write, volume } = openRig();
      /** What each snapshot held, by its number: filled when it is first listed. */
      const held = new Map<number, readonly number[]>();
      
      for (const { write: next, kind, pick, keep, killAt } of steps) {
        const before = listedIn(store);
        const target = before[pick % Math.max(1, before.length)] ?? 1;
        if (kind === 'snapshot') write(next);
        const was = volume();
        const working = life(killAt ?? Infinity);
        try {
          if (kind === 'snapshot') await working.snapshot(about, keep, quiet);
          else if (kind === 'restore') await working.restore(about, { sequence: target, from: site }, quiet);
          else await working.remove(about, target);
        } catch (failure) {
          if (!(failure instanceof Killed) && !(before.length === 0 && failure instanceof Failure)) throw failure;
        }
        const after = listedIn(store);
        for (const sequence of after) if (!held.has(sequence)) held.set(sequence, was);
        if (kind === 'restore' && JSON.stringify(volume()) !== JSON.stringify(was) && JSON.stringify(volume()) !== JSON.stringify(held.get(target))) return false;
        // All that are listed can be gone back to, and hold what they held.
        const now = volume();
        for (const sequence of after) {
          await life(Infinity).restore(about, { sequence, from: site }, quiet);
          if (JSON.stringify(volume()) !== JSON.stringify(held.get(sequence))) return false;
        }
        write(now);
      }
      // The next work finishes what was cut off, and then everything that lies there is named.
      await life(Infinity).snapshot(about, 1, quiet);
      await life(Infinity).remove(about, listedIn(store)[0] ?? 0);
      return [...store.keys()].join() === names.catalogue && records.size === 0;
    }),
    { numRuns: process.env['LONG'] ? 2000 : 200 },
  );
  t.pass();
});
