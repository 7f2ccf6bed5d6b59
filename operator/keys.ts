import { readFileSync, statSync } from 'node:fs';
import { Decrypter, Encrypter, generateIdentity, identityToRecipient } from 'age-encryption';
import { Failure, messageOf } from '../kit/errors.ts';

/** Backups are files of the age format (age-encryption.org/v1), so that the program `age` opens them too. */

export interface KeyOptions {
  /** Public keys (`age1...`); who has the identity of one can open the backup. */
  readonly recipient?: readonly string[];
  /** A file with the identity (`AGE-SECRET-KEY-1...`; lines that begin with # are passed over). */
  readonly identity?: string;
  /** A file whose first line is a passphrase. */
  readonly passphraseFile?: string;
}

const passphraseCharactersMin = 12;

export function encrypterOf({ recipient = [], passphraseFile }: KeyOptions): Encrypter {
  if ((recipient.length === 0) === (passphraseFile === undefined)) throw new Failure('no-key', 'say for whom it is encrypted: either --recipient or --passphrase-file', { remedy: '`new-key` makes a key.' });
  const encrypter = new Encrypter();
  try {
    for (const one of recipient) encrypter.addRecipient(one);
  } catch (thrown) {
    throw new Failure('bad-recipient', `that is no recipient: ${messageOf(thrown)}`, { remedy: 'It begins with age1; `new-key` prints it.' });
  }
  if (passphraseFile !== undefined) encrypter.setPassphrase(readPassphrase(passphraseFile));
  return encrypter;
}

export function decrypterOf({ identity, passphraseFile }: KeyOptions): Decrypter {
  if ((identity === undefined) === (passphraseFile === undefined)) throw new Failure('no-key', 'say what it is opened with: either --identity or --passphrase-file');
  const decrypter = new Decrypter();
  if (passphraseFile !== undefined) decrypter.addPassphrase(readPassphrase(passphraseFile));
  if (identity === undefined) return decrypter;
  const lines = readSecret(identity).split('\n').map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'));
  try {
    for (const line of lines) decrypter.addIdentity(line);
  } catch {
    // What the library says may hold what was read.
    throw new Failure('bad-identity', `${identity} holds no identity`, { remedy: 'A line of it begins with AGE-SECRET-KEY-1.' });
  }
  return decrypter;
}

/** The text of a new identity's file, and its recipient. */
export async function newKey(): Promise<{ readonly file: string; readonly recipient: string }> {
  const identity = await generateIdentity();
  const recipient = await identityToRecipient(identity);
  return { file: `# public key: ${recipient}\n${identity}\n`, recipient };
}

function readPassphrase(path: string): string {
  const [passphrase = ''] = readSecret(path).split('\n');
  if (passphrase.length < passphraseCharactersMin) throw new Failure('weak-passphrase', `the first line of ${path} has fewer than ${passphraseCharactersMin} characters`, { remedy: 'Whoever has the file can try passphrases for ever; take a long one.' });
  return passphrase;
}

function readSecret(path: string): string {
  try {
    if ((statSync(path).mode & 0o077) !== 0) throw new Error('others may read it');
    return readFileSync(path, 'utf8');
  } catch (thrown) {
    throw new Failure('bad-key-file', `${path} is not used: ${messageOf(thrown)}`, { remedy: 'It must be a file that you alone may read (chmod 600).' });
  }
}
