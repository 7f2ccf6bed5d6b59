import fc from 'fast-check';
import t from 'tap';
import { changeCatalogue, isFull, planChunks, snapshotsMax, storedBytes, unreferenced } from '../../edgepoint/model/volume-plan.ts';
import type { CatalogueChange, ChunkRef, VolumeCatalogue } from '../../edgepoint/model/volumes.ts';
import { whyNoRoom } from '../../edgepoint/volumes/limits.ts';

const mark = (seed: number): string => `${seed}`.padStart(64, '0');
const chunk = (number: number, sequence: number, seed: number): ChunkRef => ({ number, sequence, bytes: 10 + (seed % 7), digest: mark(seed), mark: mark(seed) });
const marksArbitrary = fc.dictionary(fc.integer({ min: 0, max: 12 }).map(String), fc.integer({ min: 0, max: 3 })).map((seeds) => new Map(Object.entries(seeds).map(([number, seed]) => [Number(number), mark(seed)])));

t.test('a new snapshot has all chunks of now, and seals only what the last one has not', async (t) => {
  fc.assert(
    fc.property(fc.array(marksArbitrary, { minLength: 1, maxLength: 6 }), fc.boolean(), (states, resized) => {
      let before: { sizeBytes: number; chunks: readonly ChunkRef[] } | null = null;
      for (const [index, marks] of states.entries()) {
        const sequence = index + 1;
        const sizeBytes = resized && index === states.length - 1 ? 200 : 100;
        const { keep, seal }: ReturnType<typeof planChunks> = planChunks(before, { sizeBytes, marks });
        const chunks: ChunkRef[] = [...keep, ...seal.map((number) => ({ ...chunk(number, sequence, 0), mark: marks.get(number) ?? '' }))];
        const told = new Map(chunks.map((one) => [one.number, one.mark]));
        if (told.size !== chunks.length || told.size !== marks.size) return false;
        for (const [number, is] of marks) if (told.get(number) !== is) return false;
        // The twin: a chunk is sealed when it was not there, was another, or the volume had another size.
        const was = new Map((before?.sizeBytes === sizeBytes ? before.chunks : []).map((one) => [one.number, one.mark]));
        const wanted = [...marks].filter(([number, is]) => was.get(number) !== is).map(([number]) => number).toSorted((one, other) => one - other);
        if (wanted.join() !== seal.join()) return false;
        before = { sizeBytes, chunks };
      }
      return true;
    }),
  );
  t.pass();
});

t.test('what a snapshot leaves is what no other has, and what is stored is counted once', async (t) => {
  const indexArbitrary = fc.array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 1, max: 4 })), { maxLength: 8 }).map((places) => ({ chunks: [...new Map(places.map(([number, sequence]) => [number, chunk(number, sequence, number * 10 + sequence)])).values()] }));
  fc.assert(
    fc.property(indexArbitrary, fc.array(indexArbitrary, { maxLength: 4 }), (leaving, staying) => {
      const gone = unreferenced(leaving, staying);
      const has = (index: { chunks: readonly ChunkRef[] }, one: ChunkRef): boolean => index.chunks.some((other) => other.number === one.number && other.sequence === one.sequence);
      const wanted = leaving.chunks.filter((one) => !staying.some((index) => has(index, one)));
      const sum = (chunks: readonly ChunkRef[]): number => chunks.reduce((bytes, one) => bytes + one.bytes, 0);
      return gone.length === wanted.length && wanted.every((one) => gone.includes(one)) && storedBytes([leaving, ...staying]) === storedBytes(staying) + sum(gone);
    }),
  );
  t.pass();
});

const empty: VolumeCatalogue = { version: 1, zone: 'z', edgepoint: 'e', owner: { provider: 'ann', scope: 'main', app: 'shop' }, volume: 'data', salt: mark(1), next: 1, begun: null, snapshots: [], leaving: [], grants: {} };
const entry = (sequence: number) => ({ sequence, takenWallMs: sequence, release: 1, sizeBytes: 100, dataBytes: 10, newBytes: 10, index: { bytes: 10, digest: mark(sequence) } });

t.test('numbers of snapshots are never used again, and nothing is forgotten before it is swept', async (t) => {
  const changeArbitrary = fc.oneof(
    fc.constant('begin' as const),
    fc.record({ keep: fc.option(fc.integer({ min: 1, max: 4 })) }),
    fc.record({ remove: fc.nat(8) }),
    fc.record({ left: fc.nat(8) }),
    fc.constant('swept' as const),
  );
  fc.assert(
    fc.property(fc.array(changeArbitrary, { maxLength: 40 }), (wishes) => {
      let catalogue = empty;
      const begun: number[] = [];
      const removed = new Set<number>();
      for (const wish of wishes) {
        const change: CatalogueChange =
          wish === 'begin' || wish === 'swept' ? { kind: wish } : 'keep' in wish ? { kind: 'finish', keep: wish.keep, entry: entry(catalogue.begun ?? 99) } : 'remove' in wish ? { kind: 'remove', sequence: wish.remove } : { kind: 'left', sequence: wish.left };
        const changed = changeCatalogue(catalogue, change);
        if (!changed.ok) {
          if (changed.reason === '') return false;
          continue;
        }
        const after = changed.catalogue;
        if (change.kind === 'begin') {
          if (after.begun === null || begun.includes(after.begun)) return false;
          begun.push(after.begun);
        }
        for (const one of catalogue.snapshots) if (!after.snapshots.includes(one)) removed.add(one.sequence);
        // Those that went wait to be swept; those that stay are the newest, in order.
        for (const one of catalogue.snapshots) if (!after.snapshots.includes(one) && !after.leaving.includes(one)) return false;
        if (after.snapshots.some((one, place) => removed.has(one.sequence) || one.sequence <= (after.snapshots[place - 1]?.sequence ?? 0))) return false;
        if (change.kind === 'finish' && change.keep !== null && after.snapshots.length > change.keep) return false;
        if (after.snapshots.length > snapshotsMax) return false;
        catalogue = after;
      }
      return true;
    }),
  );
  t.match(changeCatalogue({ ...empty, begun: 3 }, { kind: 'begin' }), { ok: false, reason: /swept first/ });
  t.match(changeCatalogue({ ...empty, snapshots: Array.from({ length: snapshotsMax }, (_, place) => entry(place + 1)) }, { kind: 'begin' }), { ok: false, reason: /60 snapshots/ });
  t.match(changeCatalogue(empty, { kind: 'finish', entry: entry(1), keep: null }), { ok: false }, 'what was not begun cannot end');
  t.match(changeCatalogue(empty, { kind: 'remove', sequence: 1 }), { ok: false, reason: /no snapshot 1/ });
});

t.test('room in the store, and a volume that is full', async (t) => {
  const owner = (provider: string) => ({ provider, scope: 'main', app: 'shop' });
  const stored = [{ owner: owner('ann'), volume: 'a', bytes: 60 }, { owner: owner('bob'), volume: 'b', bytes: 30 }];
  const limits = { bytesMax: 120, providerBytesMax: 80 };
  t.equal(whyNoRoom(stored, { provider: 'ann', newBytes: 20 }, limits), null);
  t.match(whyNoRoom(stored, { provider: 'ann', newBytes: 21 }, limits), /your snapshots/);
  t.match(whyNoRoom(stored, { provider: 'bob', newBytes: 31 }, limits), /no room for it in the object store/);
  t.equal(isFull({ sizeBytes: 2 ** 30, freeBytes: 2 ** 30 / 50 }), false);
  t.equal(isFull({ sizeBytes: 2 ** 30, freeBytes: 2 ** 20 }), true);
  t.equal(isFull({ sizeBytes: 8 * 2 ** 20, freeBytes: 1000 }), true);
});
