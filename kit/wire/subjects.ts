import { ownerKey, siteKey } from '../ids.ts';
import type { Owner, Site } from '../ids.ts';

/** Every NATS name in one table, so that the credentials' allow-lists and the users of a subject cannot drift apart. */
export const buckets = { desired: 'desired', names: 'names', state: 'state' } as const;
export const streams = { usage: 'USAGE', events: 'EVENTS', logs: 'LOGS' } as const;

export const desiredKey = (site: Site, owner: Owner): string => `${siteKey(site)}.${ownerKey(owner)}`;
export const namesKey = (owner: Owner): string => ownerKey(owner);
export const stateKey = (site: Site): string => siteKey(site);
/** The object store bucket with the artefacts one edgepoint hosts, by digest; no other edgepoint may read it. */
export const artefactBucket = (site: Site): string => `artefacts-${site.zone}-${site.edgepoint}`;

export const heartbeatSubject = (site: Site): string => `heartbeat.${siteKey(site)}`;
export const usageSubject = (site: Site, owner: Owner): string => `usage.${siteKey(site)}.${ownerKey(owner)}`;
export const eventSubject = (site: Site, owner: Owner): string => `event.${siteKey(site)}.${ownerKey(owner)}`;
export const logSubject = (site: Site, owner: Owner): string => `log.${siteKey(site)}.${ownerKey(owner)}`;
export const meteringQuerySubject = 'metering.query';
