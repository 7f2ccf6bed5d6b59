import { createCipheriv, createDecipheriv, createPublicKey, diffieHellman, generateKeyPairSync, hkdfSync, type KeyObject } from 'node:crypto';
import { siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';

/**
 * The key of one snapshot, for one other edgepoint: an X25519 key made for the occasion and the recipient's agree on a secret, HKDF makes
 * of it a key that is used once, and AES-256-GCM wraps (as HPKE's base mode does, RFC 9180). Snapshot and recipient are bound to it: in
 * another place it does not open.
 */

export interface GrantPlace {
  /** The snapshot's name, the digest of its index. */
  readonly name: string;
  readonly recipient: Site;
}

const publicBytes = 44; // X25519 as SubjectPublicKeyInfo (RFC 8410)
const tagBytes = 16;
const nonce = Buffer.alloc(12); // the key is used once

function wrappingKey(secret: Buffer, made: Buffer, recipientPublic: Buffer, { name, recipient }: GrantPlace): Buffer {
  const info = `edgepoint grant 1\n${name}\n${siteKey(recipient)}\n${made.toString('hex')}\n${recipientPublic.toString('hex')}`;
  return Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), info, 32));
}

const encoded = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' });

export function wrapKey(key: Uint8Array, recipientKey: KeyObject, place: GrantPlace): string {
  const { publicKey, privateKey } = generateKeyPairSync('x25519');
  const made = encoded(publicKey);
  const wrapping = createCipheriv('aes-256-gcm', wrappingKey(diffieHellman({ privateKey, publicKey: recipientKey }), made, encoded(recipientKey), place), nonce);
  return Buffer.concat([made, wrapping.update(key), wrapping.final(), wrapping.getAuthTag()]).toString('base64');
}

/** Null when it is not for this key and this place. */
export function unwrapKey(grant: string, privateKey: KeyObject, place: GrantPlace): Buffer | null {
  const bytes = Buffer.from(grant, 'base64');
  if (bytes.length <= publicBytes + tagBytes) return null;
  const made = bytes.subarray(0, publicBytes);
  try {
    const publicKey = createPublicKey({ key: made, type: 'spki', format: 'der' });
    const key = wrappingKey(diffieHellman({ privateKey, publicKey }), made, encoded(createPublicKey(privateKey)), place);
    const opening = createDecipheriv('aes-256-gcm', key, nonce);
    opening.setAuthTag(bytes.subarray(-tagBytes));
    return Buffer.concat([opening.update(bytes.subarray(publicBytes, -tagBytes)), opening.final()]);
  } catch {
    return null; // no key of this kind, or not authentic
  }
}
