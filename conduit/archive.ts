import { createGunzip } from 'node:zlib';
import { pipeline } from 'node:stream/promises';
import { Transform, Writable } from 'node:stream';
import type { Readable } from 'node:stream';
import { Parser } from 'tar';
import type { ReadEntry } from 'tar';
import { judgeEntry, judgeSize, openJudgement } from '../kit/archive.ts';
import type { ArchiveCode, ArchiveLimits, EntryKind, Verdict } from '../kit/archive.ts';
import { Failure, messageOf } from '../kit/errors.ts';
import { manifestBytesMax, manifestFile } from './manifest/read.ts';

/** Unpacked in pieces of this size: with zlib's own 16 kB the calls take as long as the work, and each piece is made beside the thread that reads it. */
const pieceBytes = 4 * 1024 * 1024;

export interface Inspection {
  /** The text of edgepoint.toml at the archive's root, or null when there is none. */
  readonly manifestText: string | null;
  readonly entries: number;
  readonly unpackedBytes: number;
}

const entryKinds: Readonly<Record<string, EntryKind>> = {
  File: 'file',
  OldFile: 'file',
  ContiguousFile: 'file',
  Directory: 'directory',
  SymbolicLink: 'symlink',
  Link: 'hardlink',
};

const kindNames: Readonly<Record<string, string>> = { CharacterDevice: 'character device', BlockDevice: 'block device', FIFO: 'fifo' };

/**
 * Reads a tar.gz once, without writing anything, and refuses it by a Failure with one of the ArchiveCodes
 * (or `manifest-too-big`) as soon as one entry is bad. The source is always consumed or destroyed.
 */
export async function inspectArchive(source: Readable, limits?: ArchiveLimits): Promise<Inspection> {
  const judgement = openJudgement(limits);
  const counted = { packed: 0, unpacked: 0 };
  const manifest: { parts: Buffer[] | null; bytes: number } = { parts: null, bytes: 0 };
  // Errors come out of the parser as events, in the midst of a write; the first is what the upload is refused for.
  let refusal: Failure | null = null;
  const refuse = (failure: Failure): void => {
    refusal ??= failure;
  };

  const parser = new Parser({ strict: true, maxMetaEntrySize: 64 * 1024 });
  const onEntry = (entry: ReadEntry): void => {
    // A header announces bytes that have not been read yet, so it cannot tell a bomb from a big file: the bytes read do, below.
    const verdict = refusal ? null : judgeEntry(judgement, describe(entry), Number.POSITIVE_INFINITY);
    if (verdict && !verdict.ok) refuse(failureOf(verdict));
    if (verdict?.ok && verdict.path === manifestFile && entryKinds[entry.type] === 'file') {
      if (entry.size > manifestBytesMax) refuse(new Failure('manifest-too-big', `${manifestFile} is larger than ${manifestBytesMax} bytes`));
      manifest.parts = [];
      entry.on('data', (chunk: Buffer) => manifest.parts?.push(chunk));
    }
    entry.resume();
  };
  parser.on('entry', onEntry);
  parser.on('ignoredEntry', onEntry);
  parser.on('error', (thrown: unknown) => refuse(corrupt(thrown)));
  let begun = false;
  // A tar archive ends with two blocks of zeros (pax(1), "ustar Interchange Format"); without them it was cut.
  let tail: Buffer = Buffer.alloc(0);

  const unpacked = new Writable({
    write(chunk: Buffer, _encoding, done) {
      counted.unpacked += chunk.length;
      if (!begun && isCompressed(chunk)) refuse(new Failure('archive-corrupt', 'the archive is compressed twice'));
      begun = true;
      tail = (chunk.length >= 1024 ? chunk : Buffer.concat([tail, chunk])).subarray(-1024);
      if (!refusal) parser.write(chunk);
      // After the parser, which counts the entries of this piece. Headers and padding count too: an archive of nothing but empty entries is also a bomb.
      const size = judgeSize(judgement.limits, counted.unpacked - judgement.entries * 1024, counted.packed);
      if (size) refuse(failureOf(size));
      done(refusal);
    },
    final(done) {
      if (!refusal && (tail.length < 1024 || tail.some((byte) => byte !== 0))) refuse(cut());
      if (!refusal) parser.end();
      done(refusal);
    },
  });
  const packed = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      counted.packed += chunk.length;
      done(null, chunk);
    },
  });
  try {
    await pipeline(source, packed, createGunzip({ chunkSize: pieceBytes }), unpacked);
  } catch (thrown) {
    throw thrown instanceof Failure ? thrown : corrupt(thrown);
  }
  if (refusal) throw refusal as Failure;
  return {
    manifestText: manifest.parts ? Buffer.concat(manifest.parts).toString('utf8') : null,
    entries: judgement.entries,
    unpackedBytes: judgement.unpackedBytes,
  };
}

function describe(entry: ReadEntry) {
  const kind = entryKinds[entry.type] ?? 'other';
  return { path: entry.path, kind, kindName: kindNames[entry.type] ?? entry.type, bytes: entry.size ?? 0, target: entry.linkpath ?? '' };
}

function failureOf(verdict: Verdict & { ok: false }): Failure {
  return new Failure(verdict.code, `the archive is refused: ${verdict.reason}`, { remedy: remedies[verdict.code] });
}

const remedies: Readonly<Record<ArchiveCode, string>> = {
  'archive-path': 'Pack the folder itself, with paths below it only.',
  'archive-link': 'Replace the link by what it points to, or name it in .edgepointignore.',
  'archive-device': 'Name it in .edgepointignore.',
  'archive-duplicate': 'Pack each file once.',
  'archive-too-many-entries': 'Name what the app does not need in .edgepointignore.',
  'archive-too-big': 'Name what the app does not need in .edgepointignore; put data into a volume.',
  'archive-bomb': 'Name what the app does not need in .edgepointignore; put data into a volume.',
  'archive-truncated': 'Upload it again.',
  'archive-corrupt': 'Pack the folder as a tar archive compressed by gzip.',
};

function corrupt(thrown: unknown): Failure {
  const said = messageOf(thrown);
  if (/unexpected end of file|truncated|premature/i.test(said)) return cut(thrown);
  return new Failure('archive-corrupt', `this is not a tar archive compressed by gzip (${said})`, { remedy: remedies['archive-corrupt'], cause: thrown });
}

const cut = (cause?: unknown): Failure =>
  new Failure('archive-truncated', 'the archive ends too early', { remedy: remedies['archive-truncated'], cause });

/** The parser would unpack a compressed stream inside ours; nothing else that reads the archive does. */
function isCompressed(chunk: Buffer): boolean {
  return (chunk[0] === 0x1f && chunk[1] === 0x8b) || chunk.subarray(0, 4).equals(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]));
}
