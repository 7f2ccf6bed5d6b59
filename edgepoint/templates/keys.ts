import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { linkSync, lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assertInvariant, Failure } from '../../kit/errors.ts';
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

const keyBytes = 32;
const others = 0o077;

/** `folder` is made on first use. Keys are never changed, so what was read once is not read again. */
export function openKeyRing(folder: string): KeyRing {
  const known = new Map<string, Buffer>();

  function read(name: string): Buffer | null {
    const held = known.get(name);
    if (held) return held;
    const path = join(folder, name);
    const status = lstatSync(path, { throwIfNoEntry: false });
    if (status === undefined) return null;
    if (!status.isFile() || status.uid !== (process.geteuid?.() ?? 0) || (status.mode & others) !== 0) {
      throw new Failure('key-exposed', `the key ${path} is not a file of root alone`, { remedy: `chown root ${path} && chmod 600 ${path}, and ask whether somebody has read it` });
    }
    const bytes = readFileSync(path);
    known.set(name, bytes);
    return bytes;
  }

  /** Two processes may make it at the same time: the first one's counts, and none is seen half written. */
  function make(name: string, bytes: () => Uint8Array | string): Buffer {
    const found = read(name);
    if (found) return found;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const path = join(folder, name);
    const aside = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.new`;
    writeFileSync(aside, bytes(), { mode: 0o600, flag: 'wx', flush: true });
    try {
      linkSync(aside, path);
    } catch (error) {
      if ((error as { code?: string }).code !== 'EEXIST') throw error; // somebody else has made it meanwhile
    } finally {
      rmSync(aside, { force: true });
    }
    return make(name, bytes);
  }

  const providerName = (provider: string): string => {
    // It comes from a process of fewer rights and becomes part of a path.
    assertInvariant(namePattern.test(provider), `${JSON.stringify(provider)} is a provider's name`);
    return `provider-${provider}.key`;
  };
  const signingName = 'edgepoint.pem';
  const openingName = 'opening.pem';
  const checked = (provider: string, key: Buffer | null): Buffer | null => {
    if (key !== null && key.length !== keyBytes) throw new Failure('key-spoilt', `the key of provider ${provider} has ${key.length} of ${keyBytes} bytes`);
    return key;
  };
  return {
    providerKey: (provider) => checked(provider, read(providerName(provider))),
    makeProviderKey: (provider) => checked(provider, make(providerName(provider), () => randomBytes(keyBytes))) as Buffer,
    publicKey: () => {
      const pem = read(signingName);
      return pem === null ? null : createPublicKey(createPrivateKey(pem));
    },
    signingKey: () => createPrivateKey(make(signingName, () => generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }))),
    openingKey: () => createPrivateKey(make(openingName, () => generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'pem' }))),
  };
}
