import type { KeyObject } from 'node:crypto';
import { unwrap } from '../../host/wrap.ts';
import { Failure } from '../../kit/errors.ts';
import type { Site } from '../../kit/ids.ts';
import { plainSecretsSchema, secretsContext } from '../../kit/wire/secrets.ts';
import type { PlainSecrets } from '../../kit/wire/secrets.ts';
import type { BoxOrder } from '../model/calls.ts';

/** Opens the secrets of an order with this edgepoint's key; none when it has none. A Failure tells nothing of what they hold. */
export function openSecrets({ secrets, owner, release }: Pick<BoxOrder, 'secrets' | 'owner' | 'release'>, site: Site, openingKey: () => KeyObject): PlainSecrets {
  if (secrets === undefined) return {};
  const text = unwrap(secrets.wrapped, openingKey(), secretsContext(owner, release, site));
  if (text === null) throw unreadable(release);
  try {
    return plainSecretsSchema.parse(JSON.parse(text.toString()));
  } catch {
    throw unreadable(release);
  }
}

const unreadable = (release: number): Failure =>
  new Failure('secrets-unreadable', `the secrets of release ${release} were not wrapped for this edgepoint`, { remedy: 'Set one of them again; if it stays, tell the operator.' });
