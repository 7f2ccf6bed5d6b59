import { createCipheriv, createDecipheriv, createHash, hkdfSync } from 'node:crypto';

/** So much plain text goes into one chunk: what is decrypted, verified and unpacked in one step. */
export const chunkBytes = 2 * 1024 * 1024;

/** Where a chunk belongs. It is bound to the chunk as associated data, so that one in another place is not authentic. */
export interface ChunkPlace {
  readonly provider: string;
  /** The random salt of its snapshot, hexadecimal. */
  readonly salt: string;
  /** From 0. */
  readonly number: number;
  readonly count: number;
}

const cipher = 'aes-256-gcm';
const tagBytes = 16;

/**
 * The key of one snapshot, from its provider's key and its own random salt (HKDF, RFC 5869). No two snapshots have the same key, so
 * the number of a chunk serves as its nonce and none is used twice with one key.
 */
export function snapshotKey(providerKey: Uint8Array, salt: string): Buffer {
  return Buffer.from(hkdfSync('sha256', providerKey, Buffer.from(salt, 'hex'), 'edgepoint snapshot 1', 32));
}

function nonceOf(place: ChunkPlace): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32BE(place.number, 8);
  return nonce;
}

function associatedData({ provider, salt, number, count }: ChunkPlace): Buffer {
  return Buffer.from(`edgepoint chunk 1\n${provider}\n${salt}\n${number} of ${count}`);
}

/** Cipher text, then the tag of 16 bytes. */
export function sealChunk(key: Uint8Array, place: ChunkPlace, plain: Uint8Array): Buffer {
  const sealing = createCipheriv(cipher, key, nonceOf(place));
  sealing.setAAD(associatedData(place));
  return Buffer.concat([sealing.update(plain), sealing.final(), sealing.getAuthTag()]);
}

/** Null when it is not what was sealed with this key at this place. */
export function openChunk(key: Uint8Array, place: ChunkPlace, sealed: Uint8Array): Buffer | null {
  if (sealed.length < tagBytes) return null;
  const opening = createDecipheriv(cipher, key, nonceOf(place));
  opening.setAAD(associatedData(place));
  opening.setAuthTag(sealed.subarray(-tagBytes));
  const plain = opening.update(sealed.subarray(0, -tagBytes));
  try {
    return Buffer.concat([plain, opening.final()]);
  } catch {
    return null; // the one thing that final() complains of
  }
}

export function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
