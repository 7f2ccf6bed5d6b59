import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import type { Test } from 'tap';
import { openGrowingFile } from '../../conduit/growing-file.ts';
import { openUploads } from '../../conduit/uploads.ts';
import type { Uploads } from '../../conduit/uploads.ts';
import { Failure } from '../../kit/errors.ts';

function freshFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-uploads-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

t.test('whoever reads while it is written gets every byte once, be it slower or faster', async (t) => {
  const folder = freshFolder(t);
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  t.comment(`seed ${seed}`);
  let files = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.integer({ min: 0, max: 3_000_000 }), fc.boolean()), { maxLength: 8 }), fc.array(fc.boolean(), { maxLength: 8 }), async (writes, waits) => {
      const file = await openGrowingFile(join(folder, `${(files += 1)}`));
      const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
      const parts = writes.map(([bytes]) => randomBytes(bytes));
      const reading = (async () => {
        const got: Buffer[] = [];
        for await (const piece of file.read()) {
          got.push(piece);
          if (waits[got.length % 8] === true) await turn();
        }
        return Buffer.concat(got);
      })();
      for (const [index, part] of parts.entries()) {
        await file.append(part);
        if (writes[index]?.[1] === true) await turn();
      }
      file.end();
      const same = (await reading).equals(Buffer.concat(parts));
      await file.close();
      return same;
    }),
    { numRuns: 40, seed },
  );
});

t.test('one that is cut off tells whoever waits for more', async (t) => {
  const file = await openGrowingFile(join(freshFolder(t), 'cut'));
  await file.append(Buffer.from('some'));
  const pieces = file.read();
  t.equal((await pieces.next()).value?.toString(), 'some');
  const more = pieces.next();
  file.end(new Error('cut off'));
  await t.rejects(more, /cut off/);
  await file.close();
});

/** `cutAt`: the body breaks off after so many pieces. */
async function* body(pieces: readonly Buffer[], cutAt = Infinity): AsyncGenerator<Uint8Array> {
  for (const [index, piece] of pieces.entries()) {
    if (index === cutAt) throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
    yield piece;
  }
}

const refused = new Failure('archive-corrupt', 'it is not what it should be');
const pieces = Array.from({ length: 40 }, () => randomBytes(100_000));
const whole = Buffer.concat(pieces);
const length = async (source: Readable): Promise<number> => {
  let bytes = 0;
  for await (const piece of source) bytes += (piece as Buffer).length;
  return bytes;
};

t.test('a body is judged while it comes', async (t) => {
  const folder = freshFolder(t);
  const uploads = await openUploads(folder, 5_000_000);
  let begin = (): void => undefined;
  const begun = new Promise<void>((resolve) => (begin = resolve));
  // The second half comes only when the judge has seen something of the first.
  const halved = (async function* () {
    yield* pieces.slice(0, 20);
    await begun;
    yield* pieces.slice(20);
  })();
  const digest = `sha256:${createHash('sha256').update(whole).digest('hex')}`;
  const { upload, judged } = await uploads.receive('a', halved, { bytes: whole.length, digest }, async (source) => {
    source.once('data', begin);
    return length(source);
  });
  t.equal(judged, whole.length);
  t.match(upload, { digest, bytes: whole.length });
  t.ok(readFileSync(upload.path).equals(whole));
});

t.test('what is wrong is told in the order of the body, then the archive, and nothing is left', async (t) => {
  const folder = freshFolder(t);
  const uploads: Uploads = await openUploads(folder, 5_000_000);
  const refuse = (source: Readable): Promise<never> => {
    source.destroy();
    return Promise.reject(refused);
  };
  const none = { bytes: null, digest: null };
  let taken = 0;
  const counting = (async function* () {
    for (const piece of pieces) {
      taken += 1;
      yield piece;
    }
  })();
  await t.rejects(uploads.receive('a', counting, none, refuse), { code: 'archive-corrupt' });
  t.equal(taken, pieces.length, 'a client that is still sending is read to the end, for it would not read an answer');
  await t.rejects(uploads.receive('b', body(pieces, 20), none, refuse), { code: 'upload-cut' });
  await t.rejects(uploads.receive('c', body(pieces, 20), none, length), { code: 'upload-cut' });
  await t.rejects(uploads.receive('d', body(pieces), { bytes: null, digest: 'sha256:other' }, refuse), { code: 'upload-damaged' });
  await t.rejects(uploads.receive('e', body([...pieces, ...pieces]), none, length), { code: 'upload-too-big' });
  await t.rejects(uploads.receive('f', body([]), { bytes: 5, digest: null }, length), { code: 'upload-cut' });
  t.same(readdirSync(folder), ['artefacts']);
});
