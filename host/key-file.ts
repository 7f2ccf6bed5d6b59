import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, linkSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Failure, codeOf } from '../kit/errors.ts';

/** Of a key of AES-256. */
export const secretKeyBytes = 32;
const others = 0o077;

/**
 * A key in a file that belongs to this process's user, and that nobody else can read; null when there is no such file. Failure `key-exposed` when
 * it is another's, can be read by others, or is no plain file.
 */
export function readKeyFile(path: string): Buffer | null {
  let descriptor: number;
  try {
    // What is looked at is what is read, and no link leads elsewhere.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return null;
    throw codeOf(thrown) === 'ELOOP' ? exposed(path) : thrown;
  }
  try {
    const status = fstatSync(descriptor);
    if (!status.isFile() || status.uid !== (process.geteuid?.() ?? 0) || (status.mode & others) !== 0) throw exposed(path);
    return readFileSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

const exposed = (path: string): Failure =>
  new Failure('key-exposed', `the key ${path} is not a file of this process's user alone`, { remedy: `chmod 600 ${path}, see that it belongs to that user, and ask whether somebody has read it.` });

/** The same, made of `bytes` when there is none; two processes may make it at the same time: the first one's counts, and none is seen half written. */
export function makeKeyFile(path: string, bytes: () => Uint8Array | string): Buffer {
  const found = readKeyFile(path);
  if (found !== null) return found;
  const aside = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.new`;
  writeFileSync(aside, bytes(), { mode: 0o600, flag: 'wx', flush: true });
  try {
    linkSync(aside, path);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error; // somebody else has made it meanwhile
  } finally {
    rmSync(aside, { force: true });
  }
  return makeKeyFile(path, bytes);
}

/** A key of AES-256 as it was read; Failure `key-spoilt` when it is none. */
export function checkSecretKey(key: Buffer, what: string): Buffer {
  if (key.length === secretKeyBytes) return key;
  throw new Failure('key-spoilt', `${what} has ${key.length} of ${secretKeyBytes} bytes`, { remedy: 'Put the file back as it was.' });
}
