import { createHmac, hkdfSync } from 'node:crypto';
import { checkSecretKey, makeKeyFile, readKeyFile, secretKeyBytes } from '../../host/key-file.ts';
import { openSealed, seal } from '../../host/seal.ts';
import { readPublicKey, wrapFor } from '../../host/wrap.ts';
import { Failure } from '../../kit/errors.ts';
import { ownerKey } from '../../kit/ids.ts';
import type { Owner, RandomBytes, Site } from '../../kit/ids.ts';
import { secretsContext } from '../../kit/wire/secrets.ts';
import type { PlainSecrets, WrappedSecrets } from '../../kit/wire/secrets.ts';
import type { Secret } from './change.ts';

/** Keys of providers, each wrapped by the installation's key. */
export interface ProviderKeys {
  find(provider: string): Promise<string | null>;
  /** The one that stands there afterwards: another may have been first. */
  add(provider: string, wrapped: string): Promise<string>;
  /** Any of them. */
  any(): Promise<{ readonly provider: string; readonly wrapped: string } | null>;
}

/** Whose secrets, and of which release: bound to what is sealed, so that a row does not open in another's place. */
export interface SecretsPlace {
  readonly owner: Owner;
  readonly release: number;
}

/**
 * Secrets at rest. Each provider has a key (AES-256), made at its first secret and kept in the database under the installation's key, which is a
 * file beside. Of a provider's key, by HKDF, come those for sealing rows, for the digest and for wrapping.
 */
export interface Vault {
  /** Base64; empty when there are none. */
  seal(place: SecretsPlace, secrets: Readonly<Record<string, Secret>>): Promise<string>;
  open(place: SecretsPlace, sealed: string): Promise<Readonly<Record<string, Secret>>>;
  /** For one edgepoint. The same comes out each time, so that what stands on the bus can be compared. `recipientKey`: as the edgepoint told it. */
  wrap(place: SecretsPlace, site: Site, recipientKey: string, secrets: Readonly<Record<string, Secret>>): Promise<WrappedSecrets>;
}

const keyBytes = secretKeyBytes;

/** As text, for a column. */
const sealText = (key: Buffer, about: string, plain: Buffer, randomBytes: RandomBytes): string => seal(key, about, plain, randomBytes).toString('base64');
const openText = (key: Buffer, about: string, sealed: string): Buffer | null => openSealed(key, about, Buffer.from(sealed, 'base64'));
const derived = (key: Buffer, info: string): Buffer => Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), `conduit ${info} 1`, keyBytes));
const keyAbout = (provider: string): string => `key of provider ${provider}`;
const rowAbout = ({ owner, release }: SecretsPlace): string => `secrets of ${ownerKey(owner)} ${release}`;

export function openVault(installationKey: Buffer, keys: ProviderKeys, randomBytes: RandomBytes): Vault {
  const known = new Map<string, Buffer>();
  const unwrapped = (provider: string, wrapped: string): Buffer => {
    const key = openText(installationKey, keyAbout(provider), wrapped);
    if (key === null) throw keyDiffers();
    known.set(provider, key);
    return key;
  };
  const keyOf = async (provider: string): Promise<Buffer> => {
    const held = known.get(provider);
    if (held !== undefined) return held;
    const found = await keys.find(provider);
    if (found !== null) return unwrapped(provider, found);
    return unwrapped(provider, await keys.add(provider, sealText(installationKey, keyAbout(provider), Buffer.from(randomBytes(keyBytes)), randomBytes)));
  };
  return {
    async seal(place, secrets) {
      if (Object.keys(secrets).length === 0) return '';
      return sealText(derived(await keyOf(place.owner.provider), 'rows'), rowAbout(place), Buffer.from(JSON.stringify(secrets)), randomBytes);
    },
    async open(place, sealed) {
      if (sealed === '') return {};
      const plain = openText(derived(await keyOf(place.owner.provider), 'rows'), rowAbout(place), sealed);
      if (plain === null) throw new Failure('secrets-spoilt', `the secrets of ${place.owner.app} ${place.release} in the database have been altered`, { remedy: 'Go back to another release; the operator may have a copy of the database.' });
      return JSON.parse(plain.toString()) as Record<string, Secret>;
    },
    async wrap({ owner, release }, site, recipientKey, secrets) {
      const recipient = readPublicKey(recipientKey);
      if (recipient === null) throw new Failure('edgepoint-key', `the key that ${site.zone}/${site.edgepoint} told is none`);
      const plain: PlainSecrets = Object.fromEntries(Object.entries(secrets).map(([name, { value }]) => [name, value]).toSorted());
      const text = JSON.stringify(plain);
      const key = await keyOf(owner.provider);
      const context = secretsContext(owner, release, site);
      const digest = createHmac('sha256', derived(key, 'digest')).update(text).digest('hex');
      // Of all that is wrapped, so that no two texts, places or recipients have one seed.
      const seed = createHmac('sha256', derived(key, 'wrapping')).update(JSON.stringify([context, recipientKey, text])).digest();
      return { digest, wrapped: wrapFor(recipient, context, Buffer.from(text), seed) };
    },
  };
}

const keyDiffers = (): Failure =>
  new Failure('key-differs', 'the keys of providers in the database do not open with the key of this installation', { remedy: 'Put the file back that `keyFile` named when they were made.' });

/**
 * The installation's key: a file of this user alone, made when there is none. One that is missing, or another one, while the database has keys
 * under it is a Failure: a new one would lose every secret.
 */
export async function openInstallationKey(path: string, keys: ProviderKeys, randomBytes: RandomBytes): Promise<Buffer> {
  const inUse = await keys.any();
  if (inUse !== null && readKeyFile(path) === null) {
    throw new Failure('key-missing', `there is no ${path}, and secrets in the database need it`, { remedy: 'Put the file back; without it they are lost.' });
  }
  const key = checkSecretKey(makeKeyFile(path, () => randomBytes(keyBytes)), path);
  if (inUse !== null && openText(key, keyAbout(inUse.provider), inUse.wrapped) === null) throw keyDiffers();
  return key;
}
