import { createCipheriv, createDecipheriv, createPublicKey, diffieHellman, generateKeyPairSync, hkdfSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

/**
 * Bytes for the holder of one key: an X25519 key made for the occasion and the recipient's agree on a secret, HKDF makes of it a key
 * that is used once, and AES-256-GCM seals (as HPKE's base mode does, RFC 9180). The `context` is bound to it: what was sealed under
 * another does not open. Says nothing of who sealed it.
 */

const publicBytes = 44; // X25519 as SubjectPublicKeyInfo (RFC 8410)
const tagBytes = 16;
const nonce = Buffer.alloc(12); // the key is used once

const encoded = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' });

function sealingKey(secret: Buffer, made: Buffer, recipient: Buffer, context: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), `${context}\n${made.toString('hex')}\n${recipient.toString('hex')}`, 32));
}

/** A public X25519 key as base64 of its SubjectPublicKeyInfo, and back; null when the text is none. */
export const publicKeyText = (key: KeyObject): string => encoded(key).toString('base64');
export function readPublicKey(text: string): KeyObject | null {
  try {
    const key = createPublicKey({ key: Buffer.from(text, 'base64'), type: 'spki', format: 'der' });
    return key.asymmetricKeyType === 'x25519' ? key : null;
  } catch {
    return null;
  }
}

/** Base64. */
export function sealFor(bytes: Uint8Array, recipientKey: KeyObject, context: string): string {
  const { publicKey, privateKey } = generateKeyPairSync('x25519');
  const made = encoded(publicKey);
  const sealing = createCipheriv('aes-256-gcm', sealingKey(diffieHellman({ privateKey, publicKey: recipientKey }), made, encoded(recipientKey), context), nonce);
  return Buffer.concat([made, sealing.update(bytes), sealing.final(), sealing.getAuthTag()]).toString('base64');
}

/** Null when it is not for this key and context. */
export function openSealed(sealed: string, privateKey: KeyObject, context: string): Buffer | null {
  const bytes = Buffer.from(sealed, 'base64');
  if (bytes.length <= publicBytes + tagBytes) return null;
  const made = bytes.subarray(0, publicBytes);
  try {
    const publicKey = createPublicKey({ key: made, type: 'spki', format: 'der' });
    const opening = createDecipheriv('aes-256-gcm', sealingKey(diffieHellman({ privateKey, publicKey }), made, encoded(createPublicKey(privateKey)), context), nonce);
    opening.setAuthTag(bytes.subarray(-tagBytes));
    return Buffer.concat([opening.update(bytes.subarray(publicBytes, -tagBytes)), opening.final()]);
  } catch {
    return null; // no key of this kind, or not authentic
  }
}
