import type { KeyObject } from 'node:crypto';
import { openSealed, sealFor } from '../../host/sealed-for.ts';
import { siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';

/** The key of one snapshot, for one other edgepoint. Snapshot and recipient are bound to it: in another place it does not open. */

export interface GrantPlace {
  /** The snapshot's name, the digest of its index. */
  readonly name: string;
  readonly recipient: Site;
}

const contextOf = ({ name, recipient }: GrantPlace): string => `edgepoint grant 1\n${name}\n${siteKey(recipient)}`;

export const wrapKey = (key: Uint8Array, recipientKey: KeyObject, place: GrantPlace): string => sealFor(key, recipientKey, contextOf(place));

/** Null when it is not for this key and this place. */
export const unwrapKey = (grant: string, privateKey: KeyObject, place: GrantPlace): Buffer | null => openSealed(grant, privateKey, contextOf(place));
