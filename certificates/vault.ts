import { randomBytes } from 'node:crypto';
import { checkSecretKey, makeKeyFile, secretKeyBytes } from '../host/key-file.ts';
import { openSealed, seal } from '../host/seal.ts';
import { Failure } from '../kit/errors.ts';

/** Private keys as they are stored: sealed under the key of one file, each bound to what it is the key of. */
export interface Vault {
  seal(text: string, place: string): Uint8Array;
  /** Failure `vault-key` when it was sealed with another key or for another place, or changed. */
  open(sealed: Uint8Array, place: string): string;
}

/** Makes the key when there is none. Failures of `host/key-file.ts` when others may read it, or it is no key. */
export function openVault(keyFile: string): Vault {
  const key = checkSecretKey(makeKeyFile(keyFile, () => randomBytes(secretKeyBytes)), `the key ${keyFile}`);
  return {
    seal: (text, place) => seal(key, place, Buffer.from(text, 'utf8'), randomBytes),
    open(sealed, place) {
      const opened = openSealed(key, place, sealed);
      if (opened !== null) return opened.toString('utf8');
      throw new Failure('vault-key', `what is stored for ${place} does not open with the key in ${keyFile}`, { remedy: 'Put the right key there; without it, remove the database, and everything is ordered anew.' });
    },
  };
}
