import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { RandomBytes } from '../kit/ids.ts';

const nonceBytes = 12;
const tagBytes = 16;

/**
 * What is stored encrypted: AES-256-GCM (NIST SP 800-38D) under a key of 32 bytes, bound to what it is about, so that it does not open in another's
 * place. Nonce, what is sealed, tag.
 */
export function seal(key: Buffer, about: string, plain: Uint8Array, randomBytes: RandomBytes): Buffer {
  const nonce = randomBytes(nonceBytes);
  const sealing = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(about));
  return Buffer.concat([nonce, sealing.update(plain), sealing.final(), sealing.getAuthTag()]);
}

/** Null when it is not authentic: of another key or place, or changed. */
export function openSealed(key: Buffer, about: string, sealed: Uint8Array): Buffer | null {
  const bytes = Buffer.from(sealed);
  if (bytes.length < nonceBytes + tagBytes) return null;
  const opening = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, nonceBytes)).setAAD(Buffer.from(about));
  opening.setAuthTag(bytes.subarray(-tagBytes));
  try {
    return Buffer.concat([opening.update(bytes.subarray(nonceBytes, -tagBytes)), opening.final()]);
  } catch {
    return null;
  }
}
