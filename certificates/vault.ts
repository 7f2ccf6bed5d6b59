import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, statSync, writeSync } from 'node:fs';
import { Failure, codeOf } from '../kit/errors.ts';

const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

/** Private keys as they are stored: AES-256-GCM under the key of one file, each bound to what it is the key of. */
export interface Vault {
  seal(text: string, place: string): Uint8Array;
  /** Failure `vault-key` when it was sealed with another key or for another place, or changed. */
  open(sealed: Uint8Array, place: string): string;
}

/** Makes the key when there is none. Failure `vault-key` when others may read it, or it is no key. */
export function openVault(keyFile: string): Vault {
  const key = existsSync(keyFile) ? readKey(keyFile) : makeKey(keyFile);
  return {
    seal(text, place) {
      const nonce = randomBytes(nonceBytes);
      const sealing = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(place));
      return Buffer.concat([nonce, sealing.update(text, 'utf8'), sealing.final(), sealing.getAuthTag()]);
    },
    open(sealed, place) {
      const bytes = Buffer.from(sealed);
      try {
        const opening = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, nonceBytes)).setAAD(Buffer.from(place));
        opening.setAuthTag(bytes.subarray(-tagBytes));
        return Buffer.concat([opening.update(bytes.subarray(nonceBytes, -tagBytes)), opening.final()]).toString('utf8');
      } catch (cause) {
        throw new Failure('vault-key', `what is stored for ${place} does not open with the key in ${keyFile}`, { cause, remedy: 'Put the right key there; without it, remove the database, and everything is ordered anew.' });
      }
    },
  };
}

function readKey(keyFile: string): Buffer {
  let text: string;
  try {
    if ((statSync(keyFile).mode & 0o077) !== 0) throw new Failure('vault-key', `others may read ${keyFile}`, { remedy: `chmod 600 ${keyFile}, and ask whether somebody has read it.` });
    text = readFileSync(keyFile, 'latin1').trim();
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    throw new Failure('vault-key', `${keyFile} cannot be read: ${codeOf(cause)}`, { cause });
  }
  const key = Buffer.from(text, 'base64');
  if (key.length === keyBytes) return key;
  throw new Failure('vault-key', `${keyFile} holds no key of ${keyBytes} bytes`, { remedy: 'Put the right key there; without it, remove it and the database, and everything is ordered anew.' });
}

/** On the disk before anything is sealed with it. */
function makeKey(keyFile: string): Buffer {
  const key = randomBytes(keyBytes);
  const beside = `${keyFile}.new`;
  const descriptor = openSync(beside, 'w', 0o600);
  try {
    writeSync(descriptor, `${key.toString('base64')}\n`);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(beside, keyFile);
  return key;
}
