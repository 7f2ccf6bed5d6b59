import { Readable } from 'node:stream';
import type { Bus } from '../host/bus.ts';
import type { Log } from '../host/log.ts';
import { codeOf, messageOf } from '../kit/errors.ts';
import type { Owner, Site } from '../kit/ids.ts';
import { canaryOf, siteKey } from '../kit/ids.ts';
import { desiredAppMessage, nameEntryMessage } from '../kit/wire/desired.ts';
import type { Capped } from '../kit/wire/spending.ts';
import { artefactBucket, buckets, desiredKey, layerObject, namesKey } from '../kit/wire/subjects.ts';
import { encodeMessage, parseMessage } from '../kit/wire/version.ts';
import { configurationFor } from './configuration/told.ts';
import type { TellPorts, ToldConfiguration } from './configuration/told.ts';
import { configurationOf } from './deploy.ts';
import { hostsOf } from './describe-app.ts';
import { chooseCronSite } from './placement.ts';
import type { Layers } from './layers.ts';
import type { LayerNeeds } from './store/layers.ts';
import type { AppStore, StoredApp, StoredRelease } from './store/apps.ts';
import type { CapStore } from './store/caps.ts';
import type { DomainStore } from './store/domains.ts';
import { wantedDomainMessage } from '../kit/wire/certificates.ts';
import { readUpload } from './uploads.ts';
import type { Uploads } from './uploads.ts';

/**
 * Tells the bus what the database desires. The database is the truth and each app carries the generation last told, so a
 * conduit that dies between the two tells it at its next start, and a bus that comes back is compared with the database.
 * Every step may be repeated. The order matters: an artefact lies in the store before the key that names its digest.
 */
export interface Publisher {
  /** Something in the database has changed. */
  wake(): void;
  /** Compare everything with the bus: at the start, and when the bus is back. */
  verifyAll(): void;
  stop(): Promise<void>;
}

export interface PublisherPorts extends TellPorts {
  readonly bus: Bus;
  readonly apps: AppStore;
  readonly domains: DomainStore;
  readonly caps: Pick<CapStore, 'cappedOf'>;
  readonly uploads: Uploads;
  readonly layers: Layers;
  readonly layerNeeds: LayerNeeds;
  readonly sites: readonly Site[];
  readonly zoneName: string;
  /** Site keys of the edgepoints that can be reached now. */
  reachable(): ReadonlySet<string>;
  readonly log: Log;
  /** Tells people and metrics how it went. */
  readonly onPublished: (app: StoredApp) => void;
}

const batchMax = 100;
const retryMs = 1000;

export function startPublisher(ports: PublisherPorts): Publisher {
  const { apps, log } = ports;
  let stopped = false;
  let wanted = false;
  let working: Promise<void> | null = null;
  let retry: NodeJS.Timeout | undefined;
  // Objects are looked for in the store only after the bus was away; otherwise our own record of them holds.
  let verifyObjects = true;
  let verifyWanted = false;

  const run = async (): Promise<void> => {
    while (wanted && !stopped) {
      wanted = false;
      // Here, where no app is being told: one that is would be marked as told afterwards, by what it was told before.
      if (verifyWanted) {
        verifyWanted = false;
        verifyObjects = true;
        await apps.markAllUnpublished();
      }
      // Ordered by id, and a failing app is passed over, so that one cannot hold back the others.
      let failed = false;
      const verifying = verifyObjects;
      for (const app of await apps.unpublished(batchMax)) {
        if (stopped) return;
        try {
          await publishApp(ports, app, verifying);
          await apps.markPublished(app);
          ports.onPublished(app);
        } catch (thrown) {
          // Overtaken: the artefact of a release that is no longer the current one may be gone already.
          if ((await apps.generation(app.id)) !== app.generation) {
            wanted = true;
            continue;
          }
          failed = true;
          log.warn('an app could not be told to the bus yet', { app: app.owner.app, code: codeOf(thrown), reason: messageOf(thrown) });
          if (codeOf(thrown) === 'bus-away') break;
        }
      }
      if (failed) retry = setTimeout(wake, retryMs);
      else {
        verifyObjects = false;
        if ((await apps.unpublished(1)).length > 0) wanted = true;
      }
    }
  };
  const wake = (): void => {
    wanted = true;
    if (working || stopped) return;
    clearTimeout(retry);
    retry = undefined;
    working = run()
      .catch((thrown: unknown) => log.error('the outbox could not be read', { code: codeOf(thrown), reason: messageOf(thrown) }))
      .finally(() => {
        working = null;
        if (wanted && !stopped && !retry) wake();
      });
  };
  return {
    wake,
    verifyAll() {
      verifyWanted = true;
      wake();
    },
    async stop() {
      stopped = true;
      clearTimeout(retry);
      await working;
    },
  };
}

async function publishApp(ports: PublisherPorts, app: StoredApp, verifyObjects: boolean): Promise<void> {
  const { bus, apps } = ports;
  const { hosting, leaving } = await apps.placements(app.id);
  const release = await apps.release(app.id, app.release);
  const domains = await ports.domains.ofApp(app.id);
  let keyless: unknown = null;
  if (app.deletedWallMs === null && release) {
    for (const site of hosting) await putArtefacts(ports, site, { release, provider: app.owner.provider, verify: verifyObjects });
    const cronSite = release.manifest.cron.length === 0 ? '' : chooseCronSite({ hosting, current: await cronSiteNow(bus, app, hosting), reachable: ports.reachable() });
    const configuration = await configurationOf(ports, app, release);
    const capped = await ports.caps.cappedOf(app);
    for (const site of hosting) {
      try {
        const told = await configurationFor(ports, { owner: app.owner, release: release.release }, site, { manifest: release.manifest, configuration });
        await putIfDiffers(bus, buckets.desired, desiredKey(site, app.owner), desiredText(ports, app, { release, told, hosting, cronSite, domains: domains.proved, capped }));
      } catch (thrown) {
        // One that has not told its key holds back neither the others nor the names.
        if (codeOf(thrown) !== 'edgepoint-key-unknown') throw thrown;
        keyless = thrown;
      }
    }
    keyless = (await publishCanary(ports, app, { hosting, domains: domains.proved, verifyObjects })) ?? keyless;
    await putIfDiffers(bus, buckets.names, namesKey(app.owner), nameText(ports, app, hosting));
    for (const domain of domains.proved) await putIfDiffers(bus, buckets.domains, domain, encodeMessage(wantedDomainMessage, { domain, ...app.owner, sites: hosting.map(siteKey) }));
  } else {
    // End users first: no name leads to an edgepoint that has been told to forget the app. A new app may have the name already.
    const successor = await apps.findByName(app.owner.app);
    if (!successor || namesKey(successor.owner) !== namesKey(app.owner)) await bus.deleteKv(buckets.names, namesKey(app.owner));
  }
  const lost = app.deletedWallMs === null ? domains.leaving : [...domains.leaving, ...domains.proved];
  for (const domain of lost) {
    // Who has proved it meanwhile says himself whose it is.
    if (!(await ports.domains.isProved(domain))) await bus.deleteKv(buckets.domains, domain);
    await ports.domains.forget(app.id, domain);
  }
  for (const site of leaving) await leaveSite(ports, app, site);
  for (const site of [...hosting, ...leaving]) await removeOldArtefacts(ports, site);
  if (keyless !== null) throw keyless;
}

/**
 * Behind the app itself: a canary that was promoted goes when its release has been wished for. It has no name of its own. Gives the failure
 * of an edgepoint that has not told its key, else null.
 */
async function publishCanary(ports: PublisherPorts, app: StoredApp, about: { hosting: readonly Site[]; domains: readonly string[]; verifyObjects: boolean }): Promise<unknown> {
  const { bus, apps } = ports;
  const { hosting, domains, verifyObjects } = about;
  const owner = canaryOf(app.owner);
  const canary = await apps.canaries.find(app.id);
  const release = canary === null ? null : await apps.release(app.id, canary.release);
  if (canary === null || release === null) {
    for (const site of hosting) await takeBackCanary(bus, site, owner);
    return null;
  }
  const configuration = await configurationOf(ports, app, release);
  const capped = await ports.caps.cappedOf(app);
  let keyless: unknown = null;
  for (const site of hosting) {
    await putArtefacts(ports, site, { release, provider: owner.provider, verify: verifyObjects });
    try {
      const told = await configurationFor(ports, { owner, release: release.release }, site, { manifest: release.manifest, configuration });
      const text = desiredText(ports, { ...app, owner }, { release, told, hosting, cronSite: '', domains, capped, canaryPercent: canary.percent });
      await putIfDiffers(bus, buckets.desired, desiredKey(site, owner), text);
    } catch (thrown) {
      if (codeOf(thrown) !== 'edgepoint-key-unknown') throw thrown;
      keyless = thrown;
    }
  }
  return keyless;
}

/** Most apps have none, and a deleted key is news to its edgepoint. */
async function takeBackCanary(bus: Bus, site: Site, owner: Owner): Promise<void> {
  if ((await bus.getKv(buckets.desired, desiredKey(site, owner))) !== null) await bus.deleteKv(buckets.desired, desiredKey(site, owner));
}

/** Deletes the key, unless the same provider has an app of this name there again. */
async function leaveSite(ports: PublisherPorts, app: StoredApp, site: Site): Promise<void> {
  const successor = await ports.apps.findByName(app.owner.app);
  if (successor && successor.id !== app.id && namesKey(successor.owner) === namesKey(app.owner)) {
    const { hosting } = await ports.apps.placements(successor.id);
    if (hosting.some((other) => siteKey(other) === siteKey(site))) return;
  }
  if (!isKnown(ports, site)) return;
  await ports.bus.deleteKv(buckets.desired, desiredKey(site, app.owner));
  await takeBackCanary(ports.bus, site, canaryOf(app.owner));
}

/** An edgepoint the operator has taken out of the settings may have no bucket any more. */
const isKnown = (ports: PublisherPorts, site: Site): boolean => ports.sites.some((known) => siteKey(known) === siteKey(site));

/** Layers before the artefact that needs them; each goes to a site once. */
async function putArtefacts(ports: PublisherPorts, site: Site, about: { release: StoredRelease; provider: string; verify: boolean }): Promise<void> {
  const { release, provider, verify } = about;
  for (const layer of new Set(release.manifest.image?.layers ?? [])) await putObject(ports, site, { name: layerObject(provider, layer), path: ports.layers.path(provider, layer), verify });
  await putObject(ports, site, { name: release.artefactDigest, path: ports.uploads.artefactPath(release.artefactDigest), verify });
}

async function putObject(ports: PublisherPorts, site: Site, { name, path, verify }: { name: string; path: string; verify: boolean }): Promise<void> {
  const recorded = (await ports.apps.objects(site)).has(name);
  if (recorded && !verify) return;
  if (recorded) {
    const there = await ports.bus.getObject(artefactBucket(site), name);
    if (there) {
      await there.cancel();
      return;
    }
  }
  const file = readUpload(path);
  await ports.bus.putObject(artefactBucket(site), name, Readable.toWeb(file) as unknown as ReadableStream<Uint8Array>);
  await ports.apps.addObject(site, name);
}

async function removeOldArtefacts(ports: PublisherPorts, site: Site): Promise<void> {
  if (!isKnown(ports, site)) return;
  const needed = new Set([...(await ports.apps.neededObjects(site)), ...(await ports.layerNeeds.objectsAt(site))]);
  for (const digest of await ports.apps.objects(site)) {
    if (needed.has(digest)) continue;
    await ports.bus.deleteObject(artefactBucket(site), digest);
    await ports.apps.removeObject(site, digest);
  }
}

async function putIfDiffers(bus: Bus, bucket: string, key: string, text: string): Promise<void> {
  if ((await bus.getKv(bucket, key)) !== text) await bus.putKv(bucket, key, text);
}

function desiredText(
  ports: PublisherPorts,
  app: StoredApp,
  about: { release: StoredRelease; told: ToldConfiguration; hosting: readonly Site[]; cronSite: string; domains: readonly string[]; capped: Capped | null; canaryPercent?: number },
): string {
  const { release, told, hosting, cronSite, domains, capped, canaryPercent } = about;
  return encodeMessage(desiredAppMessage, {
    ...app.owner,
    release: release.release,
    artefactDigest: release.artefactDigest,
    artefactBytes: release.artefactBytes,
    ...told,
    // Its name in the zone first: instances are called by it.
    hosts: [...hostsOf(app.owner.app, ports.zoneName), ...domains],
    uidSlot: app.uidSlot,
    deployId: release.deployId,
    sites: hosting.map(siteKey),
    cronSite,
    ...(canaryPercent === undefined ? {} : { canaryPercent }),
    ...(capped === null ? {} : { capped }),
  });
}

/** Who was told last that it is the one; empty when nobody was. */
async function cronSiteNow(bus: Bus, app: StoredApp, hosting: readonly Site[]): Promise<string> {
  for (const site of hosting) {
    const told = await bus.getKv(buckets.desired, desiredKey(site, app.owner));
    const parsed = told === null ? null : parseMessage(desiredAppMessage, told);
    if (parsed?.ok === true && parsed.value.cronSite !== '') return parsed.value.cronSite;
  }
  return '';
}

function nameText(ports: PublisherPorts, app: StoredApp, hosting: readonly Site[]): string {
  return encodeMessage(nameEntryMessage, { ...app.owner, hosts: hostsOf(app.owner.app, ports.zoneName), sites: hosting.map(siteKey) });
}
