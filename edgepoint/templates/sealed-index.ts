import { type KeyObject, sign, verify } from 'node:crypto';
import type { Owner, Site } from '../../kit/ids.ts';
import { digestOf } from './chunks.ts';
import type { Fingerprint } from './fingerprint.ts';

/**
 * A sealed snapshot is one file: its chunks one after another, then the index that names them all, the edgepoint's signature of the
 * index (Ed25519, 64 bytes), the index's length (4 bytes, little endian) and the mark. Its name is the SHA-256 of the index.
 */
export interface SealedIndex {
  readonly version: 1;
  /** How chunks are compressed. */
  readonly codec: string;
  readonly zone: string;
  readonly edgepoint: string;
  readonly owner: Owner;
  readonly release: number;
  /** The instance it was taken of. */
  readonly instance: string;
  /** 32 random bytes, hexadecimal: one for each snapshot, so that each has a key of its own. */
  readonly salt: string;
  readonly plainBytes: number;
  /** What its parts take when they are unpacked. */
  readonly imageBytes: number;
  readonly diskBytes: number;
  readonly fingerprint: Fingerprint;
  /** In order: their length, and the SHA-256 of what is stored. */
  readonly chunks: readonly { readonly bytes: number; readonly digest: string }[];
  /** Of one that came from another edgepoint: who made it, and its name there. What is above was true there; keys and signature are ours. */
  readonly madeBy?: Site & { readonly name: string };
}

export const sealMark = Buffer.from('EPSEAL01');
export const signatureBytes = 64;
/** What follows the index. */
export const trailerBytes = signatureBytes + 4 + sealMark.length;
export const indexBytesMax = 16 * 1024 * 1024;
/** What a sealed snapshot's file is called: the digest of its index. */
export const sealedName = /^[0-9a-f]{64}$/;

const signedText = (index: Uint8Array): Buffer => Buffer.concat([Buffer.from('edgepoint snapshot index 1\n'), index]);

/** The end of a sealed file, and the name of the whole. */
export function encodeIndex(index: SealedIndex, privateKey: KeyObject): { bytes: Buffer; name: string } {
  const text = Buffer.from(JSON.stringify(index));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return { bytes: Buffer.concat([text, sign(null, signedText(text), privateKey), length, sealMark]), name: digestOf(text) };
}

/** A refusal is a sentence that goes on from "its snapshot is refused: ". */
export type Judged<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly refusal: string };

const refuse = (refusal: string): { ok: false; refusal: string } => ({ ok: false, refusal });

/** How long the index is, from the last `trailerBytes` of a file of `fileBytes`. */
export function indexLength(trailer: Uint8Array, fileBytes: number): Judged<number> {
  if (trailer.length < trailerBytes || !Buffer.from(trailer.subarray(-sealMark.length)).equals(sealMark)) return refuse('its end is missing or is none of a sealed snapshot');
  const bytes = Buffer.from(trailer).readUInt32LE(signatureBytes);
  if (bytes > indexBytesMax || bytes + trailerBytes > fileBytes) return refuse('its index is longer than it can be');
  return { ok: true, value: bytes };
}

/** The index, when this edgepoint has signed it and it describes a file of this length. `name` null: whatever its name. */
export function readIndex(
  text: Uint8Array,
  signature: Uint8Array,
  about: { readonly fileBytes: number; readonly name: string | null; readonly publicKey: KeyObject },
): Judged<SealedIndex> {
  if (!verify(null, signedText(text), about.publicKey, signature)) return refuse('its edgepoint has not signed it, or it was altered since');
  const name = digestOf(text);
  if (about.name !== null && about.name !== name) return refuse(`it is another snapshot (${name.slice(0, 12)}) than the one named (${about.name.slice(0, 12)})`);
  const index = JSON.parse(Buffer.from(text).toString()) as SealedIndex;
  if (index.version !== 1) return refuse(`it is of version ${String(index.version)}, which this edgepoint does not know`);
  const chunkBytes = index.chunks.reduce((sum, chunk) => sum + chunk.bytes, 0);
  if (chunkBytes + text.length + trailerBytes !== about.fileBytes) return refuse('it is not as long as it was');
  return { ok: true, value: index };
}

/** What an order wants of a snapshot. */
export interface WantedSnapshot {
  readonly owner: Owner;
  readonly release: number;
}

/** Why a snapshot, however authentic, is not the one an order means; null when it is. */
export function whyForeign(index: SealedIndex, wanted: WantedSnapshot, here: Site): string | null {
  const { owner } = index;
  if (index.zone !== here.zone || index.edgepoint !== here.edgepoint) return `it was made for ${index.edgepoint} in ${index.zone}`;
  if (owner.provider !== wanted.owner.provider) return 'it belongs to another provider';
  if (owner.scope !== wanted.owner.scope || owner.app !== wanted.owner.app) return `it is of another app, ${owner.scope}/${owner.app}`;
  if (index.release !== wanted.release) return `it is of release ${index.release}, not ${wanted.release}`;
  return null;
}
