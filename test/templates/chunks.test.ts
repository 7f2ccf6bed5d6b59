import fc from 'fast-check';
import t from 'tap';
import { type ChunkPlace, openChunk, sealChunk, snapshotKey } from '../../edgepoint/templates/chunks.ts';

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const place = fc.record({ provider: fc.constantFrom('ann', 'bob'), salt: fc.constantFrom('00'.repeat(32), 'ab'.repeat(32)), number: fc.nat(3), count: fc.integer({ min: 4, max: 6 }) });

t.test('a chunk opens at its own place with its own key, and nowhere else', async () => {
  fc.assert(
    fc.property(bytes(32), bytes(32), place, place, fc.uint8Array({ maxLength: 300 }), (key, otherKey, here, there, plain) => {
      const sealed = sealChunk(snapshotKey(key, here.salt), here, plain);
      const opens = (provider: Uint8Array, at: ChunkPlace): boolean => openChunk(snapshotKey(provider, at.salt), at, sealed) !== null;
      if (!Buffer.from(plain).equals(openChunk(snapshotKey(key, here.salt), here, sealed) ?? Buffer.alloc(0))) return false;
      const same = here.provider === there.provider && here.salt === there.salt && here.number === there.number && here.count === there.count;
      return opens(key, there) === same && opens(otherKey, here) === Buffer.from(key).equals(otherKey);
    }),
  );
});

t.test('no bit of it can be changed, and none left out', async () => {
  const key = snapshotKey(Buffer.alloc(32, 1), '00'.repeat(32));
  const here = { provider: 'ann', salt: '00'.repeat(32), number: 0, count: 1 };
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.nat(), fc.nat(7), (plain, at, bit) => {
      const sealed = sealChunk(key, here, plain);
      const flipped = Buffer.from(sealed);
      flipped[at % sealed.length] = (flipped[at % sealed.length] as number) ^ (1 << bit);
      return openChunk(key, here, flipped) === null && openChunk(key, here, sealed.subarray(0, at % sealed.length)) === null;
    }),
  );
});

t.test('snapshots of one provider have keys of their own', async (t) => {
  const provider = Buffer.alloc(32, 1);
  t.notSame(snapshotKey(provider, '00'.repeat(32)), snapshotKey(provider, '01'.repeat(32)));
  t.notSame(snapshotKey(provider, '00'.repeat(32)), provider);
});
