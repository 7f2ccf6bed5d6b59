import { createCipheriv, createDecipheriv, createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync, hkdfSync, type KeyObject } from 'node:crypto';

/**
 * A few bytes for one recipient: an X25519 key made for the occasion and the recipient's agree on a secret, HKDF makes of it a key that is
 * used once, and AES-256-GCM wraps (as HPKE's base mode does, RFC 9180). The context, a text that both sides know, is bound to it: what is
 * wrapped in one context does not open in another.
 */

const publicBytes = 44; // X25519 as SubjectPublicKeyInfo (RFC 8410)
const tagBytes = 16;
const seedBytes = 32;
const nonce = Buffer.alloc(12); // the key is used once
/** What stands before the 32 bytes of an X25519 private key in PKCS #8 (RFC 8410). */
const privatePrefix = Buffer.from('302e020100300506032b656e04220420', 'hex');

function wrappingKey(secret: Buffer, made: Buffer, recipientPublic: Buffer, context: string): Buffer {
  const info = `${context}\n${made.toString('hex')}\n${recipientPublic.toString('hex')}`;
  return Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), info, 32));
}

const encoded = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' });

/**
 * Base64. `seed`: 32 secret bytes that the key of the occasion is made of, so that the same comes out again. Another plain text, context or
 * recipient needs another seed.
 */
export function wrapFor(recipientKey: KeyObject, context: string, plain: Uint8Array, seed: Uint8Array | null = null): string {
  const privateKey = seed === null ? generateKeyPairSync('x25519').privateKey : seededKey(seed);
  const made = encoded(createPublicKey(privateKey));
  const key = wrappingKey(diffieHellman({ privateKey, publicKey: recipientKey }), made, encoded(recipientKey), context);
  const wrapping = createCipheriv('aes-256-gcm', key, nonce);
  return Buffer.concat([made, wrapping.update(plain), wrapping.final(), wrapping.getAuthTag()]).toString('base64');
}

function seededKey(seed: Uint8Array): KeyObject {
  if (seed.length !== seedBytes) throw new Error(`broken invariant: a seed has ${seedBytes} bytes`);
  return createPrivateKey({ key: Buffer.concat([privatePrefix, seed]), format: 'der', type: 'pkcs8' });
}

/** Null when it is not for this key and this context. */
export function unwrap(text: string, privateKey: KeyObject, context: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length <= publicBytes + tagBytes) return null;
  const made = bytes.subarray(0, publicBytes);
  try {
    const publicKey = createPublicKey({ key: made, type: 'spki', format: 'der' });
    const key = wrappingKey(diffieHellman({ privateKey, publicKey }), made, encoded(createPublicKey(privateKey)), context);
    const opening = createDecipheriv('aes-256-gcm', key, nonce);
    opening.setAuthTag(bytes.subarray(-tagBytes));
    return Buffer.concat([opening.update(bytes.subarray(publicBytes, -tagBytes)), opening.final()]);
  } catch {
    return null; // no key of this kind, or not authentic
  }
}

/** A public key as `publicText` writes it; null when it is none of X25519. */
export function readPublicKey(text: string): KeyObject | null {
  try {
    const key = createPublicKey({ key: Buffer.from(text, 'base64'), type: 'spki', format: 'der' });
    return key.asymmetricKeyType === 'x25519' ? key : null;
  } catch {
    return null; // no key at all
  }
}

/** The public half of a private key: SubjectPublicKeyInfo in base64. */
export const publicText = (privateKey: KeyObject): string => encoded(createPublicKey(privateKey)).toString('base64');
