import { ownerKey, siteKey } from '../ids.ts';
import type { Owner, Site } from '../ids.ts';

/** Every NATS name in one table, so that the credentials' allow-lists and the users of a subject cannot drift apart. */
export const buckets = {
  desired: 'desired',
  names: 'names',
  state: 'state',
  challenges: 'challenges',
  certificates: 'certificates',
  issued: 'issued',
  domains: 'domains',
  queues: 'queues',
  spending: 'spending',
} as const;
export const streams = { usage: 'USAGE', events: 'EVENTS', logs: 'LOGS' } as const;

export const desiredKey = (site: Site, owner: Owner): string => `${siteKey(site)}.${ownerKey(owner)}`;
/** A release to prepare and forget: one of the provider's places for checks at that edgepoint. Two parts, where an app has three. */
export const checkKey = (site: Site, provider: string, place: number): string => `${siteKey(site)}.${provider}.check-${place}`;
/** Whether the tail of a desired key (behind the site) is a check's. */
export const isCheckTail = (tail: string): boolean => /^[^.]+\.check-\d+$/.test(tail);
/** Its artefact's name in the edgepoint's object store, written over by the next check in the same place. */
export const checkObject = (provider: string, place: number): string => `check.${provider}.${place}`;
/** A layer of a provider's images in the same store; `digest` is that of its tar. */
export const layerObject = (provider: string, digest: string): string => `layer.${provider}.${digest}`;
export const namesKey = (owner: Owner): string => ownerKey(owner);
export const stateKey = (site: Site): string => siteKey(site);
/** `app` is its `ownerKey`. */
export const appStateKey = (site: Site, app: string): string => `${siteKey(site)}.${app}`;
/**
 * The object store bucket with the artefacts one edgepoint hosts, by digest; no other edgepoint may read it.
 * Names have no underscore, so two sites never share a bucket (with hyphens `a-b`, `c` and `a`, `b-c` would).
 */
export const artefactBucket = (site: Site): string => `artefacts_${site.zone}_${site.edgepoint}`;

/** The object store bucket with the templates one edgepoint keeps there: it alone writes, the edgepoints of its zone read. */
export const snapshotBucket = (site: Site): string => `snapshots_${site.zone}_${site.edgepoint}`;
/** The object store bucket with the snapshots of volumes that one edgepoint has made: it alone writes, the edgepoints of its zone read. */
export const volumeBucket = (site: Site): string => `volumes_${site.zone}_${site.edgepoint}`;
/** The object store bucket with what was built at one edgepoint, until the conduit has fetched it: it alone writes, the conduit reads. */
export const buildBucket = (site: Site): string => `builds_${site.zone}_${site.edgepoint}`;
/** What says of a release's template where it lies, what it stands on and who may open it. */
export const offerObject = (owner: Owner, release: number): string => `offer.${ownerKey(owner)}.${release}`;

/** Each edgepoint's part of the bucket `desired` is a stream of its own, so that access to it can be given or withheld whole. */
export const desiredStream = (site: Site): string => `KV_desired_${site.zone}_${site.edgepoint}`;
/** As desiredStream, for the certificates that are sealed for one edgepoint. */
export const certificateStream = (site: Site): string => `KV_certificates_${site.zone}_${site.edgepoint}`;
export const certificateKey = (site: Site, name: string): string => `${siteKey(site)}.${name}`;
/** As desiredStream, for messages that wait for apps of one edgepoint. */
export const queueStream = (site: Site): string => `KV_queues_${site.zone}_${site.edgepoint}`;
/** One of the places of an app's queue: a message that is done with leaves it to another, so what is stored does not grow with what has been sent. */
export const queueKey = (site: Site, owner: Owner, queue: string, place: number): string => `${siteKey(site)}.${ownerKey(owner)}.${queue}.${place}`;
/** The parts of a queueKey; null when it is none. `app` is the `ownerKey`. */
export function queuePlaceOf(key: string): { readonly site: string; readonly app: string; readonly queue: string; readonly place: number } | null {
  const [zone, edgepoint, provider, scope, app, queue, place, ...more] = key.split('.');
  if (queue === undefined || place === undefined || more.length > 0 || !/^\d{1,6}$/.test(place)) return null;
  return { site: `${zone}.${edgepoint}`, app: `${provider}.${scope}.${app}`, queue, place: Number(place) };
}
/** Of challenges under way: so few places of each kind that what an order leaves behind is written over by the next. */
export const challengeKey = (kind: 'dns' | 'http', place: number): string => `${kind}.${place}`;
/** Every change of a bucket's key is also told on this core subject, so that a watch needs no consumer in the server. */
export const newsSubject = (bucket: string, key: string): string => `kv.${bucket}.${key}`;

export const heartbeatSubject = (site: Site): string => `heartbeat.${siteKey(site)}`;
export const usageSubject = (site: Site, owner: Owner): string => `usage.${siteKey(site)}.${ownerKey(owner)}`;
export const eventSubject = (site: Site, owner: Owner): string => `event.${siteKey(site)}.${ownerKey(owner)}`;
export const logSubject = (site: Site, owner: Owner): string => `log.${siteKey(site)}.${ownerKey(owner)}`;
/** Frames of one access (access.ts), to the edgepoint and from it. */
export const accessSubject = (site: Site, way: 'to' | 'from', access: string): string => `access.${siteKey(site)}.${way}.${access}`;
export const spentKey = (provider: string, app: string): string => `${provider}.${app}`;
/** What is asked of an edgepoint about an app's volumes (volumes.ts), and its answers. */
export const volumesSubject = (site: Site, way: 'to' | 'from', ask: string): string => `volumes.${siteKey(site)}.${way}.${ask}`;
export const meteringQuerySubject = 'metering.query';
export const meteringBeatSubject = 'metering.beat';
export const spendingBeatSubject = 'spending.beat';
