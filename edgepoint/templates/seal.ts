import { closeSync, constants, fchmodSync, fsyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import type { Owner, RandomBytes, Site } from '../../kit/ids.ts';
import { chunkBytes, digestOf, sealChunk, snapshotKey } from './chunks.ts';
import type { FileCalls } from '../model/file-calls.ts';
import { captureTree, contentBytes, encodeEntries, plainPieces, type TreeEntry } from './file-tree.ts';
import type { Fingerprint } from './fingerprint.ts';
import type { KeyRing } from './keys.ts';
import { encodeIndex, type SealedIndex } from './sealed-index.ts';

/** A compressor that gives back what it was given. `effort` small costs more time for fewer bytes. */
export interface Codec {
  readonly name: string;
  compress(plain: Uint8Array, effort: Effort): Promise<Uint8Array>;
  decompress(packed: Uint8Array): Promise<Uint8Array>;
}
export type Effort = 'quick' | 'small';

/** What sealing and unsealing stand on. */
export interface SealPorts {
  readonly site: Site;
  readonly keys: KeyRing;
  readonly codec: Codec;
  readonly calls: FileCalls;
  readonly randomBytes: RandomBytes;
}

export interface SealOrder {
  /** Holds `images` and `disk`; nothing in it changes meanwhile. */
  readonly folder: string;
  /** The file to write; what is there is overwritten. */
  readonly target: string;
  readonly owner: Owner;
  readonly release: number;
  readonly instance: string;
  readonly fingerprint: Fingerprint;
  readonly effort: Effort;
}

export const parts = ['images', 'disk'] as const;
const saltBytes = 32;
/** Chunks compressed at the same time: no more, for whoever is served meanwhile wants the processors, too. */
const ahead = 2;

/** Writes a folder's files as one sealed file, on the disk when this returns; its name is for the caller to give. */
export async function sealSnapshot(order: SealOrder, ports: SealPorts): Promise<{ name: string; bytes: number; index: SealedIndex }> {
  const { owner } = order;
  const signingKey = ports.keys.signingKey();
  const salt = Buffer.from(ports.randomBytes(saltBytes)).toString('hex');
  const key = snapshotKey(ports.keys.makeProviderKey(owner.provider), salt);
  const entries = captureTree(order.folder, parts, ports.calls);
  const plainBytes = plainLength(entries);
  const count = Math.ceil(plainBytes / chunkBytes);
  const chunks: { bytes: number; digest: string }[] = [];
  // Not truncated: its room may have been reserved.
  const fd = openSync(order.target, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  try {
    // Nobody writes it again, and whoever reserved its room may have left others a look.
    fchmodSync(fd, 0o400);
    let at = 0;
    const write = (bytes: Uint8Array): void => {
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, at + done);
      at += bytes.length;
    };
    const packing: Promise<Uint8Array>[] = [];
    const writeNext = async (): Promise<void> => {
      const packed = await (packing.shift() as Promise<Uint8Array>);
      const sealed = sealChunk(key, { provider: owner.provider, salt, number: chunks.length, count }, packed);
      chunks.push({ bytes: sealed.length, digest: digestOf(sealed) });
      write(sealed);
    };
    for (const chunk of inChunks(plainPieces(order.folder, entries, chunkBytes))) {
      packing.push(ports.codec.compress(chunk, order.effort));
      if (packing.length >= ahead) await writeNext();
    }
    while (packing.length > 0) await writeNext();
    if (chunks.length !== count) throw new Error(`${chunks.length} chunks of ${count}: the snapshot changed while it was sealed`);
    const index: SealedIndex = {
      version: 1,
      codec: ports.codec.name,
      ...ports.site,
      owner,
      release: order.release,
      instance: order.instance,
      salt,
      plainBytes,
      imageBytes: unpackedBytes(entries, 'images'),
      diskBytes: unpackedBytes(entries, 'disk'),
      fingerprint: order.fingerprint,
      chunks,
    };
    const end = encodeIndex(index, signingKey);
    write(end.bytes);
    ftruncateSync(fd, at);
    fsyncSync(fd);
    return { name: end.name, bytes: at, index };
  } finally {
    closeSync(fd);
  }
}

function plainLength(entries: readonly TreeEntry[]): number {
  return encodeEntries(entries).length + parts.reduce((sum, part) => sum + contentBytes(entries, part), 0);
}

/** In memory: each file begins a page, and each entry takes an inode. */
function unpackedBytes(entries: readonly TreeEntry[], part: string): number {
  const pageBytes = 4096;
  return contentBytes(entries, part) + entries.filter((entry) => entry.path.split('/', 1)[0] === part).length * pageBytes;
}

/** Pieces of any size as chunks of one size, but for the last. */
function* inChunks(pieces: Iterable<Buffer>): Generator<Buffer> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  for (let piece of pieces) {
    while (heldBytes + piece.length >= chunkBytes) {
      const part = piece.subarray(0, chunkBytes - heldBytes);
      yield held.length === 0 ? part : Buffer.concat([...held, part]);
      piece = piece.subarray(part.length);
      held = [];
      heldBytes = 0;
    }
    if (piece.length === 0) continue;
    held.push(piece);
    heldBytes += piece.length;
  }
  if (heldBytes > 0) yield Buffer.concat(held);
}
