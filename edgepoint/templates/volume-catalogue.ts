import { createHmac, createPublicKey, hkdfSync, sign, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { Failure } from '../../kit/errors.ts';
import { ownerKey, siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { changeCatalogue } from '../model/volume-plan.ts';
import { catalogueBytesMax, catalogueSchema } from '../model/volumes.ts';
import type { CatalogueChange, VolumeCatalogue, VolumeName } from '../model/volumes.ts';
import { snapshotKey } from './chunks.ts';
import { unwrapKey, wrapKey } from './grant.ts';
import type { SealPorts } from './seal.ts';
import { findTrusted, type TrustedEdgepoint } from './trusted.ts';

export interface VolumePorts extends SealPorts {
  /** Whom the operator named; read anew at each call. */
  readonly trusted: () => readonly TrustedEdgepoint[];
}

/** So that whoever asks knows that it is of no use; the volume stays as it is. */
export const refusal = (reason: string): Failure => new Failure('snapshot-refused', `the snapshot is refused: ${reason}`);

const signedSchema = z.object({ catalogue: z.string(), signature: z.string() });
const signedText = (text: string): Buffer => Buffer.from(`edgepoint volume catalogue 1\n${text}`);
const saltBytes = 32;

/** The catalogue in a text that was found in the store of `from`, when that edgepoint has signed it for this volume. Failure `snapshot-refused`. */
export function readCatalogue(text: string, { owner, volume }: VolumeName, from: Site, ports: VolumePorts): VolumeCatalogue {
  const signs = signsOf(from, ports);
  if (signs === null) throw refusal(`${siteKey(from)} is not among the edgepoints whose snapshots are used here`);
  if (text.length > catalogueBytesMax) throw refusal(`its catalogue is longer than ${catalogueBytesMax} bytes`);
  const signed = parsed(text, signedSchema);
  if (signed === null) throw refusal('its catalogue cannot be read');
  if (!verify(null, signedText(signed.catalogue), signs, Buffer.from(signed.signature, 'base64'))) throw refusal(`${siteKey(from)} has not signed its catalogue, or it was altered since`);
  const catalogue = parsed(signed.catalogue, catalogueSchema);
  if (catalogue === null) throw refusal('its catalogue is of a kind that this edgepoint does not know');
  if (siteKey(catalogue) !== siteKey(from)) throw refusal(`it was made by ${siteKey(catalogue)}, not by ${siteKey(from)}`);
  if (ownerKey(catalogue.owner) !== ownerKey(owner) || catalogue.volume !== volume) throw refusal(`it is of the volume ${catalogue.volume} of ${ownerKey(catalogue.owner)}`);
  return catalogue;
}

/** Text of this edgepoint's catalogue after a change; of a volume that had none (empty) a new one, with a key of its own. */
export function changedCatalogue(text: string, about: VolumeName, change: CatalogueChange, ports: VolumePorts): string {
  const before = text === '' ? newCatalogue(about, ports) : readCatalogue(text, about, ports.site, ports);
  const changed = changeCatalogue(before, change);
  if (!changed.ok) throw new Failure('snapshot-unknown', changed.reason);
  const key = volumeKey(before, ports);
  // Those that are trusted by now, no others: who was taken out has the key of before, and of this volume what he could fetch.
  const others = ports.trusted().filter((other) => other.zone === ports.site.zone && siteKey(other) !== siteKey(ports.site));
  const grants = Object.fromEntries(others.map((other) => [siteKey(other), wrapKey(key, other.opens, { name: grantName(before), recipient: other })]));
  const told = JSON.stringify({ ...changed.catalogue, grants } satisfies VolumeCatalogue);
  const signed = JSON.stringify({ catalogue: told, signature: sign(null, signedText(told), ports.keys.signingKey()).toString('base64') });
  if (signed.length > catalogueBytesMax) throw new Failure('volume-store-full', 'the list of the snapshots of the volume is as long as it may be', { remedy: 'Remove some.' });
  return signed;
}

function newCatalogue({ owner, volume }: VolumeName, { site, randomBytes }: VolumePorts): VolumeCatalogue {
  const salt = Buffer.from(randomBytes(saltBytes)).toString('hex');
  return { version: 1, zone: site.zone, edgepoint: site.edgepoint, owner, volume, salt, next: 1, begun: null, snapshots: [], leaving: [], grants: {} };
}

/** The key of a volume's snapshots: from its provider's key where it was made here, otherwise as it was granted. Failure `snapshot-refused`. */
export function volumeKey(catalogue: VolumeCatalogue, { site, keys }: VolumePorts): Buffer {
  const { owner, salt } = catalogue;
  if (siteKey(catalogue) === siteKey(site)) return snapshotKey(keys.makeProviderKey(owner.provider), salt);
  const grant = Object.hasOwn(catalogue.grants, siteKey(site)) ? catalogue.grants[siteKey(site)] : undefined;
  const key = grant === undefined ? null : unwrapKey(grant, keys.openingKey(), { name: grantName(catalogue), recipient: site });
  if (key === null) throw refusal(`${siteKey(catalogue)} has not given its key to this edgepoint`);
  return key;
}

const grantName = ({ owner, volume, salt }: VolumeCatalogue): string => `volume ${ownerKey(owner)} ${volume} ${salt}`;

/** What a chunk's plain text is told apart by (`ChunkRef.mark`): an HMAC, so that nobody else can tell what lies in a volume. */
export function markerOf(key: Uint8Array): (plain: Uint8Array) => string {
  const markKey = Buffer.from(hkdfSync('sha256', key, '', 'edgepoint volume mark 1', 32));
  return (plain) => createHmac('sha256', markKey).update(plain).digest('hex');
}

function signsOf(from: Site, { site, keys, trusted }: VolumePorts): KeyObject | null {
  return siteKey(from) === siteKey(site) ? createPublicKey(keys.signingKey()) : (findTrusted(trusted(), from)?.signs ?? null);
}

export function parsed<Value>(text: string, schema: z.ZodType<Value>): Value | null {
  try {
    const read = schema.safeParse(JSON.parse(text));
    return read.success ? read.data : null;
  } catch {
    return null; // not JSON
  }
}
