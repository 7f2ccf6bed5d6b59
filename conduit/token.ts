import { createHash, timingSafeEqual } from 'node:crypto';
import type { RandomBytes } from '../kit/ids.ts';

/**
 * A bearer token is `ep_<id>_<secret>`: the id finds its row, the secret proves it. The secret is 256 random bits, so its plain
 * SHA-256 is stored: slow hashes protect secrets that people choose, and no one can search 2^256.
 */
export interface NewToken {
  readonly id: string;
  /** Shown once, never stored. */
  readonly text: string;
  readonly hash: string;
}

const pattern = /^ep_([0-9a-f]{16})_([A-Za-z0-9_-]{43})$/;

export function newToken(randomBytes: RandomBytes): NewToken {
  const id = Buffer.from(randomBytes(8)).toString('hex');
  const secret = Buffer.from(randomBytes(32)).toString('base64url');
  return { id, text: `ep_${id}_${secret}`, hash: hashSecret(secret) };
}

/** The parts of a token's text, or null when it is none. */
export function splitToken(text: string): { readonly id: string; readonly secret: string } | null {
  const match = pattern.exec(text);
  return match?.[1] && match[2] ? { id: match[1], secret: match[2] } : null;
}

export function hashSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/** Compares in a time that does not tell how much of the hash was right. */
export function secretFits(secret: string, storedHash: string): boolean {
  const stored = Buffer.from(storedHash, 'hex');
  const given = Buffer.from(hashSecret(secret), 'hex');
  return stored.length === given.length && timingSafeEqual(stored, given);
}
