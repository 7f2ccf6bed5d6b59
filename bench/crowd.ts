import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Client } from '@libsql/client';
import { fileCalls } from '../edgepoint/box/file-calls.ts';
import { orderOf } from '../edgepoint/head/desired.ts';
import { headMigrations, openRecords } from '../edgepoint/head/records.ts';
import type { ReleaseFacts } from '../edgepoint/model/app.ts';
import { dataPaths } from '../edgepoint/model/paths.ts';
import { openKeyRing } from '../edgepoint/templates/keys.ts';
import { parts, type SealPorts, sealSnapshot } from '../edgepoint/templates/seal.ts';
import type { SealedIndex } from '../edgepoint/templates/sealed-index.ts';
import { openSealed } from '../edgepoint/templates/unseal.ts';
import type { Bus } from '../host/bus.ts';
import { openDatabase } from '../host/database.ts';
import type { Log } from '../host/log.ts';
import { zstd } from '../host/zstd.ts';
import { type Owner, type Site, ownerKey, siteKey } from '../kit/ids.ts';
import { PublishedStates } from '../kit/published-states.ts';
import { type DesiredApp, desiredAppMessage, nameEntryMessage } from '../kit/wire/desired.ts';
import type { AppStateEntry } from '../kit/wire/edgepoint-state.ts';
import { buckets, desiredKey, namesKey } from '../kit/wire/subjects.ts';
import { encodeMessage, parseMessage } from '../kit/wire/version.ts';

/** The edgepoint that apps are added to, the bus as the conduit speaks on it, and the app they are copies of. */
export interface Place {
  readonly site: Site;
  readonly dataFolder: string;
  readonly bus: Bus;
  /** The conduit's own wish for the app that was deployed. */
  readonly original: DesiredApp;
  readonly facts: ReleaseFacts;
}

/** What the edgepoints tell of deploys. */
export interface DeployNews {
  /** Resolves when the edgepoint says that this deploy is done. */
  ready(deployId: string): Promise<void>;
}

/** A copy of the deployed app under another name. */
export interface Copy extends Owner {
  readonly host: string;
}

const quiet: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, with: () => quiet };
/** Apps on their way at once. */
const underWay = 16;
const publishedDeadlineMs = 20_000;

export async function openPlace(about: { site: Site; dataFolder: string; bus: Bus; owner: Owner }): Promise<Place> {
  const { site, dataFolder, bus, owner } = about;
  const parsed = parseMessage(desiredAppMessage, (await bus.getKv(buckets.desired, desiredKey(site, owner))) ?? '');
  if (!parsed.ok) throw new Error(`the conduit has no wish for ${owner.app}: ${parsed.reason}`);
  const facts = await withRecords(dataFolder, async (records) => (await records.find(owner, parsed.value.release))?.facts ?? null);
  if (facts === null || facts.wakeBy !== 'template') throw new Error(`${owner.app} has no template: ${facts?.wakeReason}`);
  return { site, dataFolder, bus, original: parsed.value, facts };
}

async function withRecords<T>(dataFolder: string, work: (records: ReturnType<typeof openRecords>) => Promise<T>): Promise<T> {
  const client: Client = await openDatabase({ url: `file:${join(dataFolder, 'head/head.db')}`, migrations: headMigrations }, quiet);
  try {
    // One commit for all of them.
    const transaction = await client.transaction('write');
    const result = await work(openRecords(transaction));
    await transaction.commit();
    return result;
  } finally {
    client.close();
  }
}

export function copyOf({ original }: Place, app: string): Copy {
  const { provider, scope, hosts } = original;
  return { provider, scope, app, host: (hosts[0] ?? '').replace(original.app, app) };
}

/**
 * Gives the edgepoint the apps as the conduit would, but for the work of preparing each: the head finds the release known and
 * promotes it. A second wish for the same release (a deploy again) is what makes the head count what lies at rest of each.
 */
export async function addApps(place: Place, copies: readonly Copy[], news: DeployNews, snapshotPaths: ReadonlyMap<string, string> = new Map()): Promise<void> {
  const { bus, site, facts } = place;
  await withRecords(place.dataFolder, async (records) => {
    for (const copy of copies) {
      const order = orderOf(wishOf(place, copy, 'recorded'));
      const snapshotPath = snapshotPaths.get(copy.app) ?? nowhereFor(place, copy);
      await records.save(order, { ...facts, snapshotPath }, '');
      if (isStored(copy)) await records.saveStored({ app: ownerKey(copy), release: order.release, name: templateName(snapshotPath), bytes: facts.templateBytes, sites: [], whole: true });
    }
  });
  await inTurn(copies, async (copy) => {
    await bus.putKv(buckets.names, namesKey(copy), encodeMessage(nameEntryMessage, { ...ownerOf(copy), hosts: [copy.host], sites: [siteKey(site)] }));
    for (const deploy of ['first', 'again']) {
      const isReady = news.ready(`deploy-${copy.app}-${deploy}`);
      await bus.putKv(buckets.desired, desiredKey(site, copy), encodeMessage(desiredAppMessage, wishOf(place, copy, deploy)));
      await isReady;
    }
  });
}

/**
 * The first by name are what a provider's part of the object store holds (some 120 of this size, those too many are let go): said to lie there,
 * for what is not on the disk cannot be put, and the head would try again each minute.
 */
const isStored = ({ app }: Copy): boolean => Number(/\d+$/.exec(app)?.[0] ?? Infinity) < 140;

const ownerOf = ({ provider, scope, app }: Owner): Owner => ({ provider, scope, app });

function wishOf({ original }: Place, copy: Copy, deploy: string): DesiredApp {
  return { ...original, ...ownerOf(copy), hosts: [copy.host], manifest: { ...original.manifest, app: copy.app }, deployId: `deploy-${copy.app}-${deploy}` };
}

/** As long as a real one; nothing lies there. */
function nowhereFor({ dataFolder, original }: Place, copy: Copy): string {
  return join(dataPaths(dataFolder).template(copy, original.release), randomBytes(32).toString('hex'));
}

async function inTurn<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: underWay }, async () => {
      for (const item of left) await work(item);
    }),
  );
}

/** Waits until the edgepoint has published that all of them are ready and sleep, to be woken by their templates. */
export async function untilPublished({ bus, site }: Place, copies: readonly Copy[]): Promise<void> {
  const published = new PublishedStates<AppStateEntry>((entry) => entry);
  const waitedFor = new Set(copies.map(ownerKey));
  const missing = new Set(waitedFor);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const look = (owner: string): void => {
    const app = published.app(siteKey(site), owner);
    if (app?.status === 'ready' && app.wakeBy === 'template' && Object.keys(app.instances).length === 0) missing.delete(owner);
    else missing.add(owner);
  };
  const watch = await bus.watchKv(buckets.state, '>', (key, text) => {
    published.take(key, text);
    if (key === siteKey(site)) waitedFor.forEach(look);
    else if (waitedFor.has(key.slice(siteKey(site).length + 1))) look(key.slice(siteKey(site).length + 1));
    if (missing.size === 0) resolve(true);
  });
  const timer = setTimeout(() => resolve(false), publishedDeadlineMs);
  const all = await promise;
  clearTimeout(timer);
  watch.stop();
  if (!all) throw new Error(`${missing.size} apps do not sleep, ${[...missing][0]} among them`);
}

// ---- templates ----

/** What seals and opens templates of this edgepoint: root's, with the edgepoint's own keys. */
function portsOf({ site, dataFolder }: Place): SealPorts {
  return { site, keys: openKeyRing(join(dataFolder, 'keys')), codec: zstd, calls: fileCalls, randomBytes };
}

/** Seals the deployed app's template again for each of the copies, for a template is of one app; where each lies, by app. */
export async function sealTemplates(place: Place, copies: readonly Copy[]): Promise<ReadonlyMap<string, string>> {
  const { original } = place;
  // In memory: as the hot cache does it, nothing in plain text comes to a disk.
  const folder = mkdtempSync('/dev/shm/edgepoint-bench-');
  try {
    const index = await unpackTemplate(place, folder);
    const paths = new Map<string, string>();
    for (const copy of copies) {
      const target = dataPaths(place.dataFolder).template(copy, original.release);
      mkdirSync(dirname(target), { recursive: true });
      mkdirSync(target, { mode: 0o700 });
      const unnamed = join(target, 'new');
      const { name } = await sealSnapshot(
        { folder, target: unnamed, owner: ownerOf(copy), release: original.release, instance: index.instance, fingerprint: index.fingerprint, effort: 'quick' },
        portsOf(place),
      );
      renameSync(unnamed, join(target, name));
      paths.set(copy.app, join(target, name));
    }
    return paths;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function unpackTemplate(place: Place, folder: string): Promise<SealedIndex> {
  const opened = openSealed(place.facts.snapshotPath, { owner: ownerOf(place.original), release: place.original.release }, portsOf(place));
  try {
    await opened.unpack(new Map(parts.map((part) => [part, join(folder, part)])));
    return opened.index;
  } finally {
    opened.close();
  }
}

/** The name of a sealed template from its path. */
export const templateName = (snapshotPath: string): string => basename(snapshotPath);
