import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { planChunks } from '../model/volume-plan.ts';
import { volumeIndexSchema } from '../model/volumes.ts';
import type { CatalogueEntry, ChunkRef, VolumeCatalogue, VolumeIndex, VolumeName } from '../model/volumes.ts';
import { chunkBytes, digestOf, sealChunk, snapshotKey } from './chunks.ts';
import { markerOf, parsed, refusal, volumeKey, type VolumePorts } from './volume-catalogue.ts';

export interface SealedVolume {
  readonly sizeBytes: number;
  readonly dataBytes: number;
  readonly newChunks: number;
  readonly newBytes: number;
  readonly index: CatalogueEntry['index'];
}

const zeros = Buffer.alloc(chunkBytes);
const saltBytes = 32;

/**
 * Seals what the image in a folder has that the snapshot before (`before`, the text of its index) has not: writes `chunks`, one after the other, and
 * `index` beside it. The snapshot is the one that the catalogue says was begun, or the next one. Nothing in the image changes meanwhile.
 */
export async function sealVolume(folder: string, about: VolumeName & { catalogue: VolumeCatalogue; before: VolumeIndex | null }, ports: VolumePorts): Promise<SealedVolume> {
  const { owner, volume, catalogue, before } = about;
  const sequence = catalogue.begun ?? catalogue.next;
  const key = volumeKey(catalogue, ports);
  const salt = Buffer.from(ports.randomBytes(saltBytes)).toString('hex');
  const chunkKey = snapshotKey(key, salt);
  const image = openSync(join(folder, 'image'), constants.O_RDONLY | constants.O_NOFOLLOW);
  const target = openSync(join(folder, 'chunks'), constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  try {
    const sizeBytes = fstatSync(image).size;
    const count = Math.ceil(sizeBytes / chunkBytes);
    const { marks, dataBytes } = await marksOf(image, sizeBytes, key, ports);
    const { keep, seal } = planChunks(before, { sizeBytes, marks });
    const sealed: ChunkRef[] = [];
    let newBytes = 0;
    for (const number of seal) {
      const plain = readChunk(image, number, sizeBytes);
      const bytes = sealChunk(chunkKey, { provider: owner.provider, salt, number, count }, await ports.codec.compress(plain, 'quick'));
      for (let done = 0; done < bytes.length; ) done += writeSync(target, bytes, done, bytes.length - done);
      newBytes += bytes.length;
      sealed.push({ number, sequence, bytes: bytes.length, digest: digestOf(bytes), mark: marks.get(number) ?? '' });
    }
    fsyncSync(target);
    const salts = Object.fromEntries([...keep.map((chunk) => [chunk.sequence, before?.salts[chunk.sequence] ?? ''] as const), ...(seal.length === 0 ? [] : [[sequence, salt] as const])]);
    const chunks = [...keep, ...sealed].toSorted((one, other) => one.number - other.number);
    const index: VolumeIndex = { version: 1, owner, volume, sequence, sizeBytes, codec: ports.codec.name, salts, chunks };
    const text = Buffer.from(JSON.stringify(index));
    writeFileSync(join(folder, 'index'), text, { mode: 0o600, flag: 'wx' });
    return { sizeBytes, dataBytes, newChunks: seal.length, newBytes: newBytes + text.length, index: { bytes: text.length, digest: digestOf(text) } };
  } finally {
    closeSync(image);
    closeSync(target);
  }
}

/** Marks of all chunks with data that is not zeros. */
async function marksOf(image: number, sizeBytes: number, key: Buffer, { calls }: VolumePorts): Promise<{ marks: Map<number, string>; dataBytes: number }> {
  const mark = markerOf(key);
  const marks = new Map<number, string>();
  let dataBytes = 0;
  for (const [from, length] of calls.dataRanges(image, sizeBytes)) {
    dataBytes += length;
    for (let number = Math.floor(from / chunkBytes); number * chunkBytes < from + length; number += 1) {
      if (marks.has(number)) continue;
      const plain = readChunk(image, number, sizeBytes);
      if (!plain.equals(zeros.subarray(0, plain.length))) marks.set(number, mark(plain));
      await breathe();
    }
  }
  return { marks, dataBytes };
}

export const plainLength = (number: number, sizeBytes: number): number => Math.min(chunkBytes, sizeBytes - number * chunkBytes);

function readChunk(fd: number, number: number, sizeBytes: number): Buffer {
  const plain = Buffer.allocUnsafe(plainLength(number, sizeBytes));
  for (let done = 0; done < plain.length; ) {
    const read = readSync(fd, plain, done, plain.length - done, number * chunkBytes + done);
    if (read === 0) throw new Error(`broken invariant: the copy of a volume ends at chunk ${number}`);
    done += read;
  }
  return plain;
}

/** The index in a file, when it is the one that the catalogue means. Failure `snapshot-refused`. */
export function readIndexFile(file: string, { owner, volume }: VolumeName, entry: CatalogueEntry): VolumeIndex {
  // What lies there may be a pipe, or longer than memory: root waits for nobody.
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const status = fstatSync(fd);
    if (!status.isFile() || status.size !== entry.index.bytes) throw refusal(`its index is not the ${entry.index.bytes} bytes that it should be`);
    const text = readFileSync(fd);
    if (digestOf(text) !== entry.index.digest) throw refusal('its index is not the one that was signed for');
    const index = parsed(text.toString(), volumeIndexSchema);
    if (index === null || index.volume !== volume || index.sequence !== entry.sequence || index.owner.provider !== owner.provider || index.owner.app !== owner.app || index.owner.scope !== owner.scope) throw refusal('its index is of another volume, or of a kind that this edgepoint does not know');
    return index;
  } finally {
    closeSync(fd);
  }
}

/** Others are served between two chunks: a big volume takes a while. */
export const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
