import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { checkSecretKey, makeKeyFile, readKeyFile, secretKeyBytes } from '../../host/key-file.ts';
import { assertInvariant } from '../../kit/errors.ts';
import { namePattern } from '../../kit/ids.ts';

/**
 * The keys of one edgepoint, files of root alone: `edgepoint.pem` (Ed25519, signs indexes and offers), `opening.pem` (X25519, opens what
 * other edgepoints wrapped for this one) and `provider-<provider>.key` (AES-256).
 */
export interface KeyRing {
  /** Null when there is none: nothing of theirs can be opened here. */
  providerKey(provider: string): Buffer | null;
  /** The same, made when there is none. */
  makeProviderKey(provider: string): Buffer;
  publicKey(): KeyObject | null;
  /** Made when there is none. */
  signingKey(): KeyObject;
  /** Made when there is none. */
  openingKey(): KeyObject;
}

/** `folder` is made on first use. Keys are never changed, so what was read once is not read again. */
export function openKeyRing(folder: string): KeyRing {
  const known = new Map<string, Buffer>();

  function read(name: string): Buffer | null {
    const held = known.get(name);
    if (held) return held;
    const bytes = readKeyFile(join(folder, name));
    if (bytes !== null) known.set(name, bytes);
    return bytes;
  }

  function make(name: string, bytes: () => Uint8Array | string): Buffer {
    const found = read(name);
    if (found) return found;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const made = makeKeyFile(join(folder, name), bytes);
    known.set(name, made);
    return made;
  }

  const providerName = (provider: string): string => {
    // It comes from a process of fewer rights and becomes part of a path.
    assertInvariant(namePattern.test(provider), `${JSON.stringify(provider)} is a provider's name`);
    return `provider-${provider}.key`;
  };
  const signingName = 'edgepoint.pem';
  const openingName = 'opening.pem';
  const checked = (provider: string, key: Buffer): Buffer => checkSecretKey(key, `the key of provider ${provider}`);
  return {
    providerKey: (provider) => {
      const key = read(providerName(provider));
      return key === null ? null : checked(provider, key);
    },
    makeProviderKey: (provider) => checked(provider, make(providerName(provider), () => randomBytes(secretKeyBytes))),
    publicKey: () => {
      const pem = read(signingName);
      return pem === null ? null : createPublicKey(createPrivateKey(pem));
    },
    signingKey: () => createPrivateKey(make(signingName, () => generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }))),
    openingKey: () => createPrivateKey(make(openingName, () => generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'pem' }))),
  };
}
