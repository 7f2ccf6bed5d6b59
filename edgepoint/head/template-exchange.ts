import { readdir, rm, statfs } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Bus } from '../../host/bus.ts';
import type { Clock } from '../../kit/clock.ts';
import { Failure } from '../../kit/errors.ts';
import { ownerKey, ownerOfKey, siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { formatBytes, nsPerMs } from '../../kit/units.ts';
import { offerObject, snapshotBucket } from '../../kit/wire/subjects.ts';
import { mayBeShared, wantedTemplate } from '../deploy/adopt.ts';
import type { ReleaseRecords, SharedTemplates } from '../deploy/ports.ts';
import { bringTemplate, type BringNote } from '../exchange/bring.ts';
import { openStoreKeeper } from '../exchange/keep.ts';
import { planDisk, type Leaving } from '../exchange/plan-disk.ts';
import type { Storable, Stored, StoreLimits } from '../exchange/plan.ts';
import type { OfferFacts, StoredRecords, TemplateObjects, TemplateRecord } from '../exchange/ports.ts';
import type { ReleaseFacts, ReleaseOrder, ServingRelease } from '../model/app.ts';
import type { SnapdCalls } from '../model/calls.ts';
import type { ExchangeCalls } from '../model/exchange.ts';
import type { Tell } from '../model/happening.ts';
import type { DataPaths } from '../model/paths.ts';

export interface TemplateExchange extends SharedTemplates {
  /** `ResourcePorts.recall` */
  recall(serving: ServingRelease): Promise<ReleaseFacts>;
  /** Something may have fallen asleep. */
  stateChanged(): void;
  /** Begins to keep the store; once, when the apps are known. */
  begin(): void;
  stop(): Promise<void>;
}

export interface TemplateExchangeOptions {
  readonly site: Site;
  readonly bus: Bus;
  readonly calls: ExchangeCalls;
  readonly snapd: Pick<SnapdCalls, 'discard'>;
  readonly records: StoredRecords & Pick<ReleaseRecords, 'find' | 'save'>;
  readonly paths: DataPaths;
  readonly clock: Clock;
  readonly limits: StoreLimits;
  readonly dataFolder: string;
  /** What templates may take on the disk; null: as long as enough of it is free. */
  readonly diskBytesMax: number | null;
  readonly tell: Tell;
  app(key: string): AppNow | null;
  /** Names of what lies in the store now, each with the key of its app. */
  onStored(stored: ReadonlyMap<string, string>): void;
  warn(text: string, fields: Record<string, unknown>): void;
}

/** An app as the resource manager knows it. */
export interface AppNow {
  /** What is wanted of it. */
  readonly desired: ReleaseOrder | null;
  readonly hasInstances: boolean;
  readonly usedBootNs: number | null;
  /** Its template has left the disk, or come back. */
  setFacts(release: number, facts: ReleaseFacts): void;
}

/** Somebody waits: after so long, and as long as its bytes take of a link that is worth it, the app is booted instead. */
const wakeTimeoutMs = 3000;
const wakeBytesPerMs = 10_000;
const lookAgainMs = 1000;
const settleMsMin = 250;
/** What is planned looks at all templates there are: at most this part of the time, and this long for each, for each look leaves garbage of each. */
const settleShare = 0.05;
const settleMsEach = 1;
/** Of the whole disk. */
const spareShare = 0.05;
/** A deploy waits this long for a template; then it is made here. */
const deployTimeoutMs = 30_000;
const sealedName = /^[0-9a-f]{64}$/;
const fetchedEnd = '.template';

/** Joins the exchange of templates with the bus, the database and the apps. */
export function openTemplateExchange(options: TemplateExchangeOptions): TemplateExchange {
  const { site, bus, calls, snapd, records, paths, clock, limits, warn } = options;
  /** By app and release: its template is fetched, or leaves the disk, one after the other. */
  const turns = new Map<string, Promise<unknown>>();
  const objects = objectsOver(bus, site);
  const discard = (snapshotPath: string): Promise<void> => snapd.discard({ snapshotPath });
  const surroundings = { objects, calls, discard, warn, nowMs: () => clock.bootNs() / nsPerMs };
  const keeper = openStoreKeeper({
    ...surroundings,
    records,
    limits,
    templates: async () => {
      if (limits.bytesMax === 0) return [];
      const fromBootNs = clock.bootNs();
      const templates = (await records.templates()).flatMap(storable);
      settleMs = Math.max(settleMsMin, templates.length * settleMsEach, (clock.bootNs() - fromBootNs) / nsPerMs / settleShare);
      return templates;
    },
    offerOf,
    onChange: (stored) => {
      options.onStored(namesOf(stored));
      void lookAtDisk();
    },
    later: (ms, callback) => {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
  });

  function storable({ app, release, serves, snapshotPath, bytes, offDisk, wakeBy, coldBootMs, manifest, sites }: TemplateRecord): Storable[] {
    const name = basename(snapshotPath);
    if (options.app(app) === null || wakeBy !== 'template' || coldBootMs === null || !mayBeShared(manifest) || !sealedName.test(name)) return [];
    const { provider } = ownerOfKey(app);
    return [{ app, provider, release, name, bytes, serves, sites: othersOf(sites).map(siteKey), offDisk }];
  }

  async function offerOf({ app, release, name }: Storable): Promise<OfferFacts | null> {
    const record = await records.find(ownerOfKey(app), release);
    if (record === null || record.facts === null || basename(record.facts.snapshotPath) !== name) return null;
    const { snapshotPath, templateBytes, coldBootMs, imageBytes = templateBytes } = record.facts;
    return coldBootMs === null ? null : { ...wantedTemplate(record.order), snapshotPath, imageBytes, coldBootMs };
  }

  function inTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    const done = (turns.get(key) ?? Promise.resolve()).then(work, work);
    const settled: Promise<unknown> = done.catch(() => undefined).finally(() => {
      if (turns.get(key) === settled) turns.delete(key);
    });
    turns.set(key, settled);
    return done;
  }

  /** Many apps may arrive at once. */
  let settleMs = settleMsMin;
  let settling: ReturnType<typeof setTimeout> | null = null;
  function settleSoon(): void {
    settling ??= setTimeout(() => {
      settling = null;
      keeper.settle();
      void lookAtDisk();
    }, settleMs);
  }

  /** Fewer could leave than should: looked at again when something falls asleep, at most every second. */
  let short = false;
  let lookAgain: ReturnType<typeof setTimeout> | null = null;

  /** Lets templates leave the disk that should (plan-disk.ts). Never rejects. */
  function lookAtDisk(): Promise<void> {
    return inTurn('disk', async () => {
      const { bavail, blocks, bsize } = await statfs(options.dataFolder);
      const [freeBytes, spareBytes] = [bavail * bsize, blocks * bsize * spareShare];
      // Most disks have room, and whoever has many apps need not look at all of them to know.
      if (options.diskBytesMax === null && freeBytes >= spareBytes) return void (short = false);
      const stored = namesOf(await records.stored());
      const held = (await records.templates()).filter(({ offDisk }) => !offDisk);
      const nowBootNs = clock.bootNs();
      const plan = planDisk({
        templates: held.map(({ app: key, release, bytes, serves, snapshotPath }) => {
          const app = options.app(key);
          const usedBootNs = app?.usedBootNs ?? null;
          const idleNs = usedBootNs === null ? null : nowBootNs - usedBootNs;
          return { app: key, release, bytes, stored: stored.has(basename(snapshotPath)), serves, used: app === null || app.hasInstances, idleNs };
        }),
        bytesMax: options.diskBytesMax,
        freeBytes,
        spareBytes,
      });
      if (!short) for (const note of plan.notes) warn('the disk is short', { reason: note });
      short = plan.notes.length > 0;
      for (const leaving of plan.leave) await inTurn(turnOf(leaving), () => letGo(leaving));
    }).catch((failure: unknown) => warn('templates could not leave the disk', { failure }));
  }

  /** Only when it is really in the store, whatever we believe, and nobody has begun to use it. */
  async function letGo({ app: key, release, reason }: Leaving): Promise<void> {
    const app = options.app(key);
    const record = await records.find(ownerOfKey(key), release);
    const facts = record?.facts ?? null;
    if (record === null || facts === null || facts.snapshotPath === '' || facts.offDisk === true || app === null || app.hasInstances) return;
    const { order } = record;
    const name = basename(facts.snapshotPath);
    const there = await objects.find(site, offerObject(order.owner, order.release));
    if (there === null || there.id !== name) return forgetLost(name);
    if (app.hasInstances) return;
    const away: ReleaseFacts = { ...facts, offDisk: true };
    // Known before it is gone: from now on a wake fetches it, and waits for its turn.
    app.setFacts(order.release, away);
    await records.save(order, away, '');
    await snapd.discard({ snapshotPath: facts.snapshotPath });
    options.tell({
      owner: order.owner,
      release: order.release,
      kind: 'sleep',
      text: `The template of release ${order.release} (${formatBytes(facts.templateBytes)}) has left the disk for the object store: ${reason}.`,
      figures: { bytes: facts.templateBytes },
    });
  }

  /** Somebody has emptied the store. */
  async function forgetLost(name: string): Promise<void> {
    const stored = (await records.stored()).find((one) => one.name === name);
    if (stored !== undefined) await records.saveStored({ ...stored, whole: false });
    keeper.settle();
  }

  async function recallNow({ order }: ServingRelease): Promise<ReleaseFacts> {
    const record = await records.find(order.owner, order.release);
    if (record === null || record.facts === null) throw new Failure('template-lost', `release ${order.release} is not known here any more`);
    // Somebody who waited before has fetched it.
    if (record.facts.offDisk !== true) return record.facts;
    const snapshotPath = paths.template(order.owner, order.release);
    const notes: BringNote[] = [];
    const brought = await bringTemplate({ wanted: wantedTemplate(record.order), from: await sourcesOf(order), snapshotPath, file: fileOf(order), timeoutMs: wakeTimeoutMs + record.facts.templateBytes / wakeBytesPerMs }, surroundings, (note) => notes.push(note));
    if (brought === null) throw whyNotRecalled(notes, bus.up);
    const { offDisk: _, ...facts } = { ...record.facts, snapshotPath: brought.snapshotPath, templateBytes: brought.bytes };
    await records.save(record.order, facts, '');
    return facts;
  }

  const fileOf = (order: ReleaseOrder): string => `${paths.downloads}/${ownerKey(order.owner)}.${order.release}${fetchedEnd}`;

  /** Those that host it, as last wished. */
  function sitesOf(order: ReleaseOrder): readonly string[] {
    const desired = options.app(ownerKey(order.owner))?.desired;
    return (desired?.release === order.release ? desired : order).sites ?? [];
  }

  /** The edgepoints of this zone among them, but for this one: those of other zones cannot read our store, nor we theirs. */
  function othersOf(sites: readonly string[]): Site[] {
    return sites.flatMap((text) => {
      const [zone = '', edgepoint = ''] = text.split('.');
      return zone === site.zone && edgepoint !== site.edgepoint ? [{ zone, edgepoint }] : [];
    });
  }

  async function sourcesOf(order: ReleaseOrder): Promise<Site[]> {
    const isStored = (stored: Stored): boolean => stored.whole && stored.app === ownerKey(order.owner) && stored.release === order.release;
    return [...((await records.stored()).some(isStored) ? [site] : []), ...othersOf(sitesOf(order))];
  }

  return {
    async bring(order, { snapshotPath, cancelled, tell }) {
      const brought = await inTurn(turnOfOrder(order), async () =>
        bringTemplate(
          { wanted: wantedTemplate(order), from: await sourcesOf(order), snapshotPath, file: fileOf(order), timeoutMs: deployTimeoutMs, ...(cancelled === undefined ? {} : { cancelled }) },
          surroundings,
          (note) => tell(sentenceOf(note, site)),
        ),
      );
      return brought === null ? null : { ...brought, by: siteKey(brought.from) };
    },
    recall: async (serving) => {
      const facts = await inTurn(turnOfOrder(serving.order), () => recallNow(serving));
      // Others host it now, perhaps, and there is less room on the disk.
      settleSoon();
      return facts;
    },
    changed: settleSoon,
    stateChanged(): void {
      if (!short || lookAgain !== null) return;
      lookAgain = setTimeout(() => {
        lookAgain = null;
        void lookAtDisk();
      }, lookAgainMs);
    },
    begin(): void {
      void sweep(paths.downloads, warn).then(async () => {
        options.onStored(namesOf(await records.stored()));
        bus.onUp(() => keeper.settle());
      });
    },
    stop: () => {
      for (const timer of [lookAgain, settling]) if (timer !== null) clearTimeout(timer);
      return keeper.stop();
    },
  };
}

const turnOf = ({ app, release }: { readonly app: string; readonly release: number }): string => `${app}.${release}`;
const turnOfOrder = ({ owner, release }: ReleaseOrder): string => turnOf({ app: ownerKey(owner), release });

const namesOf = (stored: readonly Stored[]): ReadonlyMap<string, string> => new Map(stored.filter(({ whole }) => whole).map(({ name, app }) => [name, app]));

/** With the store away nothing is known of the template; otherwise it is of no use any more. */
function whyNotRecalled(notes: readonly BringNote[], busUp: boolean): Failure {
  const last = notes.at(-1);
  const reason = last === undefined || last.kind === 'fetches' ? 'it is not there' : last.reason;
  const passing = last !== undefined && last.kind === 'failed' && last.passing;
  if (!busUp || passing) return new Failure('template-away', `its template could not be fetched from the object store: ${reason}`);
  return new Failure('template-lost', `its template in the object store is of no use: ${reason}`);
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
      return found === null ? null : { id: found.id, offer: found.note, open: () => found.open() };
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
