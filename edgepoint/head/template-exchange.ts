import { readdir, rm } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Bus } from '../../host/bus.ts';
import type { Clock } from '../../kit/clock.ts';
import { ownerKey, siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { formatBytes, nsPerMs } from '../../kit/units.ts';
import { snapshotBucket } from '../../kit/wire/subjects.ts';
import { mayBeShared, wantedTemplate } from '../deploy/adopt.ts';
import type { ReleaseRecord, SharedTemplates } from '../deploy/ports.ts';
import { bringTemplate, type BringNote } from '../exchange/bring.ts';
import { openStoreKeeper } from '../exchange/keep.ts';
import type { Stored, StoreLimits } from '../exchange/plan.ts';
import type { StorableTemplate, StoredRecords, TemplateObjects } from '../exchange/ports.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { ExchangeCalls } from '../model/exchange.ts';
import type { DataPaths } from '../model/paths.ts';

export interface TemplateExchange extends SharedTemplates {
  /** Begins to keep the store; once, when the apps are known. */
  begin(): void;
  stop(): Promise<void>;
}

export interface TemplateExchangeOptions {
  readonly site: Site;
  readonly bus: Bus;
  readonly calls: ExchangeCalls;
  readonly records: StoredRecords & { releases(): Promise<readonly ReleaseRecord[]> };
  readonly paths: DataPaths;
  readonly clock: Clock;
  readonly limits: StoreLimits;
  /** What is wanted of an app now, and which of its releases serves. */
  app(key: string): { readonly desired: ReleaseOrder | null; readonly servingRelease: number | null } | null;
  warn(text: string, fields: Record<string, unknown>): void;
}

/** A deploy waits this long for a template; then it is made here. */
const deployTimeoutMs = 60_000;
const sealedName = /^[0-9a-f]{64}$/;
const fetchedEnd = '.template';

/** Joins the exchange of templates with the bus, the database and the apps. */
export function openTemplateExchange(options: TemplateExchangeOptions): TemplateExchange {
  const { site, bus, calls, records, paths, clock, limits, warn } = options;
  const objects = objectsOver(bus, site);
  const surroundings = { objects, calls, warn, nowMs: () => clock.bootNs() / nsPerMs };
  const keeper = openStoreKeeper({
    ...surroundings,
    records,
    limits,
    templates: async () => (limits.bytesMax === 0 ? [] : (await records.releases()).flatMap(storable)),
    onChange: () => undefined,
    later: (ms, callback) => {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
  });

  function storable({ order, facts }: ReleaseRecord): StorableTemplate[] {
    const key = ownerKey(order.owner);
    const app = options.app(key);
    if (app === null || facts === null || facts.wakeBy !== 'template' || facts.coldBootMs === null || !mayBeShared(order)) return [];
    const name = basename(facts.snapshotPath);
    if (!sealedName.test(name)) return [];
    const { snapshotPath, templateBytes, coldBootMs, imageBytes = templateBytes } = facts;
    const now = app.desired?.release === order.release ? app.desired : order;
    const sites = othersOf(now).map(siteKey);
    const offer = { ...wantedTemplate(order), snapshotPath, imageBytes, coldBootMs };
    return [{ app: key, provider: order.owner.provider, release: order.release, name, bytes: templateBytes, serves: app.servingRelease === order.release, sites, offer }];
  }

  /** The edgepoints of this zone that host it, but for this one: those of other zones cannot read our store, nor we theirs. */
  function othersOf(order: ReleaseOrder): Site[] {
    return (order.sites ?? []).flatMap((text) => {
      const [zone = '', edgepoint = ''] = text.split('.');
      return zone === site.zone && edgepoint !== site.edgepoint ? [{ zone, edgepoint }] : [];
    });
  }

  async function sourcesOf(order: ReleaseOrder): Promise<Site[]> {
    const isStored = (stored: Stored): boolean => stored.whole && stored.app === ownerKey(order.owner) && stored.release === order.release;
    return [...((await records.stored()).some(isStored) ? [site] : []), ...othersOf(order)];
  }

  return {
    async bring(order, { snapshotPath, cancelled, tell }) {
      const file = `${paths.downloads}/${ownerKey(order.owner)}.${order.release}${fetchedEnd}`;
      const brought = await bringTemplate(
        { wanted: wantedTemplate(order), from: await sourcesOf(order), snapshotPath, file, timeoutMs: deployTimeoutMs, ...(cancelled === undefined ? {} : { cancelled }) },
        surroundings,
        (note) => tell(sentenceOf(note, site)),
      );
      return brought === null ? null : { ...brought, by: siteKey(brought.from) };
    },
    changed: () => keeper.settle(),
    begin(): void {
      void sweep(paths.downloads, warn).then(() => bus.onUp(() => keeper.settle()));
    },
    stop: () => keeper.stop(),
  };
}

function sentenceOf(note: BringNote, here: Site): string {
  const whose = siteKey(note.from) === siteKey(here) ? 'in the object store' : `of ${siteKey(note.from)}`;
  if (note.kind === 'fetches') return `Fetches the template ${whose} (${formatBytes(note.bytes)}).`;
  return note.kind === 'unusable' ? `The template ${whose} cannot be used here: ${note.reason}.` : `The template ${whose} could not be fetched: ${note.reason}.`;
}

function objectsOver(bus: Bus, site: Site): TemplateObjects {
  const own = snapshotBucket(site);
  return {
    put: (name, { id, content, offer }) => bus.putNotedObject(own, name, { id, content, note: offer }),
    drop: (name, id) => bus.dropObject(own, name, id),
    clear: () => bus.clearObjects(own),
    find: async (from, name) => {
      const found = await bus.findObject(snapshotBucket(from), name);
      return found === null ? null : { offer: found.note, open: () => found.open() };
    },
  };
}

/** What a killed head had fetched in part. */
async function sweep(downloads: string, warn: TemplateExchangeOptions['warn']): Promise<void> {
  try {
    for (const name of await readdir(downloads)) if (name.endsWith(fetchedEnd)) await rm(`${downloads}/${name}`, { force: true });
  } catch (failure) {
    warn('what was fetched in part cannot be removed', { failure });
  }
}
