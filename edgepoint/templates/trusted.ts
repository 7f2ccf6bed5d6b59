import { createPublicKey, type KeyObject } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { z } from 'zod';
import { codeOf, Failure, messageOf } from '../../kit/errors.ts';
import { namePattern, siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import type { KeyRing } from './keys.ts';

/**
 * The edgepoints whose templates this one uses and for which it opens its own: a file that the operator writes, on this machine. Nothing
 * that comes over the bus adds to it.
 */
export interface TrustedEdgepoint extends Site {
  /** Ed25519: its signatures. */
  readonly signs: KeyObject;
  /** X25519: what is wrapped for it. */
  readonly opens: KeyObject;
}

const name = z.string().regex(namePattern);
const key = z.string().max(200);
const trustedSchema = z.array(z.object({ zone: name, edgepoint: name, signs: key, opens: key })).max(1000);

const others = 0o022;

/** What the operator writes into the files of the others: this edgepoint's public keys, made when there are none. */
export function identityOf(site: Site, keys: KeyRing): z.output<typeof trustedSchema>[number] {
  const text = (of: KeyObject): string => createPublicKey(of).export({ type: 'spki', format: 'der' }).toString('base64');
  return { zone: site.zone, edgepoint: site.edgepoint, signs: text(keys.signingKey()), opens: text(keys.openingKey()) };
}

/** Read anew each time, so that whoever is taken out is trusted no longer. An empty path: nobody is trusted. */
export function readTrusted(path: string): readonly TrustedEdgepoint[] {
  if (path === '') return [];
  const text = readOwn(path);
  try {
    return trustedSchema.parse(JSON.parse(text)).map(({ signs, opens, ...site }) => ({ ...site, signs: keyFrom(signs, 'ed25519'), opens: keyFrom(opens, 'x25519') }));
  } catch (error) {
    throw new Failure('trusted-spoilt', `${path} is no list of edgepoints: ${messageOf(error)}`, { remedy: 'Write it anew from what `edgepoint identity` says on each of them.', cause: error });
  }
}

function readOwn(path: string): string {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    // Not written yet: nobody is trusted.
    if (codeOf(error) === 'ENOENT') return '[]';
    throw error;
  }
  try {
    const status = fstatSync(fd);
    if (!status.isFile() || status.uid !== (process.geteuid?.() ?? 0) || (status.mode & others) !== 0) {
      throw new Failure('trusted-exposed', `${path}, which says whose templates are used, may be changed by others than root`, { remedy: `chown root ${path} && chmod go-w ${path}, and see what stands in it` });
    }
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

function keyFrom(text: string, type: string): KeyObject {
  const made = createPublicKey({ key: Buffer.from(text, 'base64'), type: 'spki', format: 'der' });
  if (made.asymmetricKeyType !== type) throw new Error(`a key of ${made.asymmetricKeyType ?? 'no kind'} where one of ${type} should be`);
  return made;
}

export function findTrusted(trusted: readonly TrustedEdgepoint[], site: Site): TrustedEdgepoint | null {
  return trusted.find((other) => siteKey(other) === siteKey(site)) ?? null;
}
