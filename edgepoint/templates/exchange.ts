import { closeSync, constants, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { createPublicKey, type KeyObject } from 'node:crypto';
import { Failure } from '../../kit/errors.ts';
import { siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { type AdmitOrder, type ExchangeCalls, type OfferOrder, pieceBytesMax, type WeighedOffer } from '../model/exchange.ts';
import { admitSnapshot } from './admit.ts';
import { snapshotKey } from './chunks.ts';
import type { Fingerprint } from './fingerprint.ts';
import { unwrapKey, wrapKey } from './grant.ts';
import { encodeOffer, type Offer, readOffer, whyNotUsable } from './offer.ts';
import { findTrusted, type TrustedEdgepoint } from './trusted.ts';
import type { SealPorts } from './seal.ts';
import { type Judged, sealedName } from './sealed-index.ts';
import { openSealed, refusal } from './unseal.ts';

export interface ExchangePorts extends SealPorts {
  /** Where sealed snapshots lie, in folders of their own. */
  readonly dataFolder: string;
  readonly here: () => Fingerprint;
  /** Whom the operator named; read anew at each call. */
  readonly trusted: () => readonly TrustedEdgepoint[];
}

/** What leaves this edgepoint's templates for others, and what comes in. */
export function openExchange(ports: ExchangePorts): ExchangeCalls {
  const isHere = (site: Site): boolean => siteKey(site) === siteKey(ports.site);

  /** Whose signature of an offer counts: ours, and that of edgepoints the operator named. */
  function signsOf(site: Site): KeyObject | null {
    return isHere(site) ? createPublicKey(ports.keys.signingKey()) : (findTrusted(ports.trusted(), site)?.signs ?? null);
  }

  function offer({ snapshotPath, owner, release, orderDigest, imageBytes, coldBootMs, sites }: OfferOrder): { text: string; granted: string[] } {
    const opened = openSealed(snapshotPath, { owner, release }, ports);
    opened.close();
    const { name, index } = opened;
    const key = snapshotKey(ports.keys.makeProviderKey(owner.provider), index.salt);
    const others = ports.trusted().filter((other) => sites.includes(siteKey(other)) && !isHere(other));
    const grants = Object.fromEntries(others.map((other) => [siteKey(other), wrapKey(key, other.opens, { name, recipient: other })]));
    const told: Offer = {
      version: 1,
      ...ports.site,
      owner,
      release,
      orderDigest,
      name,
      bytes: opened.bytes,
      imageBytes,
      coldBootMs,
      fingerprint: { ...index.fingerprint, cpuFeatures: [...index.fingerprint.cpuFeatures] },
      grants,
    };
    return { text: encodeOffer(told, ports.keys.signingKey()), granted: Object.keys(grants).toSorted() };
  }

  function judge(order: Pick<AdmitOrder, 'offer' | 'from' | 'wanted'>): Judged<Offer> {
    const read = readOffer(order.offer, order.from, signsOf(order.from));
    if (!read.ok) return read;
    const reasons = whyNotUsable(read.value, order.wanted, ports.here());
    if (reasons.length > 0) return { ok: false, refusal: reasons.join('; ') };
    if (!isHere(order.from) && keyOf(read.value) === null) return { ok: false, refusal: `${siteKey(order.from)} has not given its key to this edgepoint` };
    return read;
  }

  function keyOf({ grants, name }: Offer): Buffer | null {
    const grant = Object.hasOwn(grants, siteKey(ports.site)) ? grants[siteKey(ports.site)] : undefined;
    return grant === undefined ? null : unwrapKey(grant, ports.keys.openingKey(), { name, recipient: ports.site });
  }

  async function admit(order: AdmitOrder): Promise<{ snapshotPath: string; bytes: number }> {
    const { from, wanted, file, snapshotPath } = order;
    const judged = judge(order);
    if (!judged.ok) throw refusal(judged.refusal);
    if (existsSync(snapshotPath)) throw new Failure('exists', `there is already a snapshot at ${snapshotPath}`);
    const { name, bytes } = judged.value;
    return admitSnapshot({ file, name, bytes, maker: from, signs: signsOf(from) as KeyObject, wanted, keyOf: () => keyOf(judged.value) }, snapshotPath, ports);
  }

  return {
    offer: (order) => settled(() => offer(order)),
    readSealed: ({ snapshotPath, from, bytes }) => settled(() => ({ base64: readPiece(ownPath(ports.dataFolder, snapshotPath), from, Math.min(bytes, pieceBytesMax)) })),
    weigh: (order) =>
      settled((): WeighedOffer => {
        const judged = judge(order);
        if (!judged.ok) return { usable: false, reason: judged.refusal };
        const { name, bytes, imageBytes, coldBootMs } = judged.value;
        return { usable: true, name, bytes, imageBytes, coldBootMs };
      }),
    admit,
  };
}

function settled<Value>(work: () => Value): Promise<Value> {
  return new Promise((resolve_) => resolve_(work()));
}

/** Whoever asks has fewer rights than we: of all files it gets sealed templates only. */
function ownPath(dataFolder: string, path: string): string {
  const templates = join(resolve(dataFolder), 'snapshots/');
  if (resolve(path) !== path || !path.startsWith(templates) || !sealedName.test(basename(path))) throw new Failure('no-template', `${path} is no sealed template`);
  return path;
}

function readPiece(path: string, from: number, bytes: number): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    if (!fstatSync(fd).isFile()) throw new Failure('no-template', `${path} is no file`);
    const piece = Buffer.allocUnsafe(bytes);
    return piece.subarray(0, readSync(fd, piece, 0, bytes, from)).toString('base64');
  } finally {
    closeSync(fd);
  }
}
