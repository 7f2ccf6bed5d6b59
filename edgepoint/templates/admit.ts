import { closeSync, constants, fstatSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { KeyObject } from 'node:crypto';
import { codeOf, Failure } from '../../kit/errors.ts';
import { siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { chunkBytes, digestOf, openChunk, sealChunk, snapshotKey } from './chunks.ts';
import { readAt } from './read-at.ts';
import type { SealPorts } from './seal.ts';
import { encodeIndex, indexLength, readIndex, type SealedIndex, signatureBytes, trailerBytes, type WantedSnapshot, whyForeign } from './sealed-index.ts';
import { refusal } from './unseal.ts';

/** A sealed file that came from outside: who made it, and the key that opens its chunks. */
export interface ComingSnapshot {
  readonly file: string;
  readonly name: string;
  readonly bytes: number;
  readonly maker: Site;
  readonly signs: KeyObject;
  readonly wanted: WantedSnapshot;
  /** Of the snapshot, from its index's salt or from a grant. */
  keyOf(index: SealedIndex): Buffer | null;
}

const saltBytes = 32;

/**
 * Verifies every byte of a sealed file and writes it as this edgepoint's own: each chunk under a key of its own provider key, the index
 * signed by it and naming where it came from. From then on it is as any other, and nobody else's keys are needed. One that this edgepoint
 * has made itself stays as it is. `folder` does not exist yet; whole or not at all.
 */
export async function admitSnapshot(coming: ComingSnapshot, folder: string, ports: SealPorts): Promise<{ snapshotPath: string; bytes: number }> {
  const part = `${folder}.part`;
  rmSync(part, { recursive: true, force: true });
  mkdirSync(part, { recursive: true, mode: 0o700 });
  try {
    const sealing = join(part, 'sealing');
    const { name, bytes } = await copySealed(coming, sealing, ports);
    renameSync(sealing, join(part, name));
    renameSync(part, folder);
    return { snapshotPath: join(folder, name), bytes };
  } catch (error) {
    rmSync(part, { recursive: true, force: true });
    if (codeOf(error) === 'ENOSPC') throw new Failure('disk-full', 'the disk of the edgepoint is full', { cause: error });
    throw error;
  }
}

async function copySealed(coming: ComingSnapshot, target: string, ports: SealPorts): Promise<{ name: string; bytes: number }> {
  // What lies there may be a pipe: root waits for nobody.
  const from = openSync(coming.file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const { index, end } = judgeFile(from, coming);
    const to = openSync(target, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o400);
    try {
      const copied = await (siteKey(index) === siteKey(ports.site) ? copyOwn(from, to, index, end) : sealAgain(from, to, index, coming, ports));
      fsyncSync(to);
      return copied;
    } finally {
      closeSync(to);
    }
  } finally {
    closeSync(from);
  }
}

/** The verified index, and the end of the file as it stands. */
function judgeFile(fd: number, coming: ComingSnapshot): { index: SealedIndex; end: Buffer } {
  const status = fstatSync(fd);
  if (!status.isFile() || status.size !== coming.bytes) throw refusal(`it is not the ${coming.bytes} bytes that were offered`);
  const trailer = readAt(fd, Math.max(0, status.size - trailerBytes), Math.min(status.size, trailerBytes));
  const length = indexLength(trailer, status.size);
  if (!length.ok) throw refusal(length.refusal);
  const text = readAt(fd, status.size - trailerBytes - length.value, length.value);
  const read = readIndex(text, trailer.subarray(0, signatureBytes), { fileBytes: status.size, name: coming.name, publicKey: coming.signs });
  if (!read.ok) throw refusal(read.refusal);
  const foreign = whyForeign(read.value, coming.wanted, coming.maker);
  if (foreign !== null) throw refusal(foreign);
  if (read.value.chunks.some(({ bytes }) => !Number.isSafeInteger(bytes) || bytes <= 0 || bytes > 2 * chunkBytes)) throw refusal('a chunk of it has no length it can have');
  return { index: read.value, end: Buffer.concat([text, trailer]) };
}

async function copyOwn(from: number, to: number, index: SealedIndex, end: Buffer): Promise<{ name: string; bytes: number }> {
  let at = 0;
  for (const [number, chunk] of index.chunks.entries()) {
    const sealed = readAt(from, at, chunk.bytes);
    if (digestOf(sealed) !== chunk.digest) throw refusal(`its chunk ${number + 1} of ${index.chunks.length} is not what was sealed`);
    writeAll(to, sealed, at);
    at += sealed.length;
    await breathe();
  }
  writeAll(to, end, at);
  return { name: digestOf(end.subarray(0, -trailerBytes)), bytes: at + end.length };
}

async function sealAgain(from: number, to: number, index: SealedIndex, coming: ComingSnapshot, ports: SealPorts): Promise<{ name: string; bytes: number }> {
  const { provider } = index.owner;
  const theirKey = coming.keyOf(index);
  if (theirKey === null) throw refusal('its key was not given to this edgepoint');
  if (index.codec !== ports.codec.name) throw refusal(`it is packed by ${index.codec}, which this edgepoint does not know`);
  const salt = Buffer.from(ports.randomBytes(saltBytes)).toString('hex');
  const ourKey = snapshotKey(ports.keys.makeProviderKey(provider), salt);
  const count = index.chunks.length;
  const chunks: { bytes: number; digest: string }[] = [];
  let read = 0;
  let written = 0;
  for (const [number, chunk] of index.chunks.entries()) {
    const theirs = readAt(from, read, chunk.bytes);
    read += chunk.bytes;
    const packed = digestOf(theirs) === chunk.digest ? openChunk(theirKey, { provider, salt: index.salt, number, count }, theirs) : null;
    if (packed === null) throw refusal(`its chunk ${number + 1} of ${count} is not what was sealed`);
    const ours = sealChunk(ourKey, { provider, salt, number, count }, packed);
    writeAll(to, ours, written);
    written += ours.length;
    chunks.push({ bytes: ours.length, digest: digestOf(ours) });
    await breathe();
  }
  const { zone, edgepoint } = index;
  const end = encodeIndex({ ...index, ...ports.site, salt, chunks, madeBy: { zone, edgepoint, name: coming.name } }, ports.keys.signingKey());
  writeAll(to, end.bytes, written);
  return { name: end.name, bytes: written + end.bytes.length };
}

/** Others are served between two chunks: a big template takes a while. */
const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function writeAll(fd: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, at + done);
}
