import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { inspectArchive } from '../../conduit/archive.ts';
import { archiveLimits } from '../../kit/archive.ts';
import type { ArchiveLimits } from '../../kit/archive.ts';
import { codeOf } from '../../kit/errors.ts';
import { rawTar, rawTarGz } from './archives.ts';

/** In pieces as a network brings them. */
const inPieces = (bytes: Buffer, pieceBytes: number): Readable =>
  Readable.from((function* () {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
  })());

const judge = async (bytes: Buffer, limits?: ArchiveLimits, pieceBytes = 64 * 1024): Promise<string> =>
  inspectArchive(inPieces(bytes, pieceBytes), limits).then(
    (found) => `${found.entries} entries, ${found.unpackedBytes} bytes`,
    (thrown: unknown) => codeOf(thrown),
  );

const strict: ArchiveLimits = { ...archiveLimits, ratioFromBytes: 100_000, ratioMax: 20 };

t.test('a bomb is told from a big file', async (t) => {
  const noise = randomBytes(1_000_000);
  t.equal(await judge(rawTarGz([{ path: 'noise', content: noise }]), strict, 1000), '1 entries, 1000000 bytes', 'a big file that does not pack passes');
  t.equal(await judge(rawTarGz([{ path: 'a', content: noise }, { path: 'zeros', content: Buffer.alloc(1_000_000) }]), strict, 1000), '2 entries, 2000000 bytes', 'and carries a small one that does');
  t.equal(await judge(rawTarGz([{ path: 'zeros', content: Buffer.alloc(1_000_000) }]), strict, 1000), 'archive-bomb');
  const empty = Array.from({ length: 5000 }, (_, index) => ({ path: `f${index}` }));
  t.equal(await judge(rawTarGz(empty), { ...strict, entriesMax: 1000 }), 'archive-too-many-entries');
  t.equal(await judge(rawTarGz(empty.slice(0, 900)), { ...strict, entriesMax: 1000 }), '900 entries, 0 bytes');
  t.equal(await judge(rawTarGz([{ path: 'big', content: noise }]), { ...strict, unpackedBytesMax: 999_999 }), 'archive-too-big');
});

t.test('an archive cut or damaged anywhere is refused, and never hangs', async (t) => {
  const whole = rawTar([{ path: 'edgepoint.toml', content: 'app = "x"' }, { path: 'd', type: '5' }, { path: 'd/l', type: '2', target: '../x' }, { path: 'x', content: 'x'.repeat(3000) }]);
  const packed = gzipSync(whole);
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  t.comment(`seed ${seed}`);
  t.equal(await judge(packed), '4 entries, 3009 bytes');
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: packed.length - 1 }), fc.integer({ min: 1, max: 600 }), async (end, pieceBytes) => (await judge(packed.subarray(0, end), undefined, pieceBytes)) === 'archive-truncated'),
    { numRuns: 100, seed },
  );
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: whole.length - 1024 }), async (end) => (await judge(gzipSync(whole.subarray(0, end)))) === 'archive-truncated'),
    { numRuns: 100, seed },
  );
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 511 }), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ change;
      // The checksum of a header finds it, unless the change is in the checksum's own closing bytes.
      const told = await judge(gzipSync(damaged));
      return told.startsWith('archive-') || (at >= 148 && at < 156);
    }),
    { numRuns: 200, seed },
  );
});

t.test('nothing of what it reads is believed twice: names in extended headers are judged too', async (t) => {
  const record = (key: string, value: string): string => {
    const rest = ` ${key}=${value}\n`;
    const length = rest.length + String(rest.length + 2).length;
    return `${length}${rest}`;
  };
  t.equal(await judge(rawTarGz([{ path: 'pax', type: 'x', content: record('path', '../../evil') }, { path: 'harmless', content: 'x' }])), 'archive-path');
  t.equal(await judge(rawTarGz([{ path: 'pax', type: 'x', content: record('linkpath', '/etc') }, { path: 'l', type: '2', target: 'harmless' }])), 'archive-link');
  t.equal(await judge(rawTarGz([{ path: '././@LongLink', type: 'L', content: '../evil\0' }, { path: 'harmless', content: 'x' }])), 'archive-path');
  t.equal(await judge(rawTarGz([{ path: 'pax', type: 'x', content: 'x'.repeat(100_000) }, { path: 'a' }])).then((told) => told.startsWith('archive-')), true, 'a huge extended header');
});
