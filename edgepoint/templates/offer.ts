import { type KeyObject, sign, verify } from 'node:crypto';
import { z } from 'zod';
import { namePattern, ownerKey, siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import type { WantedTemplate } from '../model/exchange.ts';
import { type Fingerprint, whyNotRestorable } from './fingerprint.ts';
import { type Judged, sealedName } from './sealed-index.ts';

/** What an edgepoint says of one of its templates in the object store, signed: enough to know beforehand whether it can be used. */
const name = z.string().regex(namePattern);
const offerSchema = z.object({
  version: z.literal(1),
  zone: name,
  edgepoint: name,
  owner: z.object({ provider: name, scope: name, app: name }),
  release: z.int().min(1),
  orderDigest: z.string(),
  /** Of the sealed snapshot: the digest of its index, and its length. */
  name: z.string().regex(sealedName),
  bytes: z.int().min(1),
  imageBytes: z.number().min(0),
  coldBootMs: z.number().min(0),
  fingerprint: z.object({
    architecture: z.string(),
    cpuFeatures: z.array(z.string()),
    kernel: z.string(),
    criu: z.string(),
    baseRoot: z.string(),
    box: z.string(),
    cpuVendor: z.string().optional(),
    guard: z.string().optional(),
  }),
  /** The snapshot's key (grant.ts), by `<zone>.<edgepoint>` of whom it is wrapped for. */
  grants: z.record(z.string(), z.string()),
});
export type Offer = z.output<typeof offerSchema>;

const signedSchema = z.object({ offer: z.string(), signature: z.string() });
const signedText = (offer: string): Buffer => Buffer.from(`edgepoint template offer 1\n${offer}`);

export function encodeOffer(offer: Offer, privateKey: KeyObject): string {
  const text = JSON.stringify(offer);
  return JSON.stringify({ offer: text, signature: sign(null, signedText(text), privateKey).toString('base64') });
}

const refuse = (refusal: string): { ok: false; refusal: string } => ({ ok: false, refusal });

/** The offer in a text that was found in the store of `from`, when that edgepoint has signed it. A refusal goes on from "cannot be used here: ". */
export function readOffer(text: string, from: Site, signs: KeyObject | null): Judged<Offer> {
  if (signs === null) return refuse(`${siteKey(from)} is not among the edgepoints whose templates are used here`);
  const signed = parsed(text, signedSchema);
  if (signed === null) return refuse('what is said of it cannot be read');
  if (!verify(null, signedText(signed.offer), signs, Buffer.from(signed.signature, 'base64'))) return refuse(`${siteKey(from)} has not signed what is said of it`);
  const offer = parsed(signed.offer, offerSchema);
  if (offer === null) return refuse('what is said of it is of a kind that this edgepoint does not know');
  if (siteKey(offer) !== siteKey(from)) return refuse(`it was offered by ${siteKey(offer)}, not by ${siteKey(from)}`);
  return { ok: true, value: offer };
}

function parsed<Value>(text: string, schema: z.ZodType<Value>): Value | null {
  try {
    const read = schema.safeParse(JSON.parse(text));
    return read.success ? read.data : null;
  } catch {
    return null; // not JSON
  }
}

/** Why a template, however authentic its offer, is not for this wish and this machine; empty when it is. */
export function whyNotUsable(offer: Offer, wanted: WantedTemplate, here: Fingerprint): string[] {
  if (ownerKey(offer.owner) !== ownerKey(wanted.owner)) return ['it is of another app'];
  if (offer.release !== wanted.release) return [`it is of release ${offer.release}, not ${wanted.release}`];
  if (offer.orderDigest !== wanted.orderDigest) return ['it was made of another artefact or manifest'];
  return whyNotRestorable(offer.fingerprint as Fingerprint, here, { continues: false });
}
