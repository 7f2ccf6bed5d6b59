import { createHash } from 'node:crypto';
import { Transform, Writable } from 'node:stream';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { Parser } from 'tar';
import type { ReadEntry } from 'tar';
import type { EntryKind } from '../kit/archive.ts';
import { Failure, messageOf } from '../kit/errors.ts';
import { judgeLayerEntry, judgeLayerExtension, judgeLayerSize } from '../kit/image.ts';
import type { LayerCount, LayerEntry, LayerRefusal } from '../kit/image.ts';

/** With zlib's own 16 kB the calls take as long as the work. */
const pieceBytes = 1024 * 1024;

const entryKinds: Readonly<Record<string, EntryKind>> = { File: 'file', OldFile: 'file', ContiguousFile: 'file', Directory: 'directory', SymbolicLink: 'symlink', Link: 'hardlink' };
const kindNames: Readonly<Record<string, string>> = { CharacterDevice: 'character device', BlockDevice: 'block device', FIFO: 'fifo' };

export interface LayerRead {
  /** Of the tar: the layer's name. */
  readonly digest: string;
  /** Of the bytes as they came, packed. */
  readonly packedDigest: string;
  readonly packedBytes: number;
}

/**
 * Reads a layer (a tar compressed by gzip) once, writes nothing, and refuses it by a Failure of a LayerCode as soon as something in it is bad.
 * `count` is that of the image so far. The source is always consumed or destroyed.
 */
export async function readLayer(source: Readable, count: LayerCount): Promise<LayerRead> {
  const digest = createHash('sha256');
  const packedDigest = createHash('sha256');
  const bytes = { packed: 0, unpacked: 0 };
  let refusal: Failure | null = null;
  const refuse = (why: LayerRefusal | null): void => {
    if (why !== null) refusal ??= new Failure(why.code, `the layer is refused: ${why.reason}`, { remedy: 'Build the image without it.' });
  };
  const parser = new Parser({ strict: true, maxMetaEntrySize: 64 * 1024 });
  const onEntry = (entry: ReadEntry): void => {
    if (refusal === null) refuse(judgeLayerEntry(count, describe(entry)));
    entry.resume();
  };
  parser.on('entry', onEntry);
  parser.on('ignoredEntry', onEntry);
  parser.on('meta', (text: string) => refuse(judgeLayerExtension(text)));
  parser.on('error', (thrown: unknown) => (refusal ??= corrupt(thrown)));
  const unpacked = new Writable({
    write(chunk: Buffer, _encoding, done) {
      // The parser would unpack a compressed stream inside ours; nothing else that reads the layer does.
      if (bytes.unpacked === 0 && isCompressed(chunk)) refuse({ code: 'layer-corrupt', reason: 'it is compressed twice' });
      bytes.unpacked += chunk.length;
      digest.update(chunk);
      if (refusal === null) parser.write(chunk);
      refuse(judgeLayerSize(bytes.unpacked, bytes.packed));
      done(refusal);
    },
    final(done) {
      // Some builders leave out what stands after the last file (umoci's insert does); that nothing was cut is said by the digest.
      if (refusal === null) parser.end(Buffer.alloc(((512 - (bytes.unpacked % 512)) % 512) + 1024));
      done(refusal);
    },
  });
  const packed = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes.packed += chunk.length;
      packedDigest.update(chunk);
      done(null, chunk);
    },
  });
  try {
    await pipeline(source, packed, createGunzip({ chunkSize: pieceBytes }), unpacked);
  } catch (thrown) {
    throw thrown instanceof Failure ? thrown : corrupt(thrown);
  }
  return { digest: `sha256:${digest.digest('hex')}`, packedDigest: `sha256:${packedDigest.digest('hex')}`, packedBytes: bytes.packed };
}

function describe(entry: ReadEntry): LayerEntry {
  const kind = entryKinds[entry.type] ?? 'other';
  const { path, type, linkpath, size, uid, gid } = entry;
  return { path, kind, kindName: kindNames[type] ?? type, bytes: kind === 'file' ? (size ?? 0) : 0, target: linkpath ?? '', uid: uid ?? 0, gid: gid ?? 0 };
}

const corrupt = (thrown: unknown): Failure =>
  new Failure('layer-corrupt', `a layer is not a tar archive compressed by gzip, or was cut (${messageOf(thrown)})`, { remedy: 'Save or pull the image again.', cause: thrown });

const isCompressed = (chunk: Buffer): boolean => (chunk[0] === 0x1f && chunk[1] === 0x8b) || chunk.subarray(0, 4).equals(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]));
