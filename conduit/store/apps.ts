import type { Client, InStatement, Row } from '@libsql/client';
import { siteKey } from '../../kit/ids.ts';
import type { Owner, Site } from '../../kit/ids.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import { endCanary, openCanaryStore } from './canaries.ts';
import type { CanaryStore } from './canaries.ts';

export interface StoredApp {
  readonly id: number;
  readonly owner: Owner;
  readonly uidSlot: number;
  readonly release: number;
  readonly placementReason: string;
  /** What was asked for, counted up; `publishedGeneration` is what the bus has been told. */
  readonly generation: number;
  readonly publishedGeneration: number;
  readonly createdWallMs: number;
  readonly deletedWallMs: number | null;
}

export interface StoredRelease {
  readonly release: number;
  readonly artefactDigest: string;
  readonly artefactBytes: number;
  readonly manifest: Manifest;
  readonly deployId: string;
  readonly createdWallMs: number;
  /** What `conduit env` has set. */
  readonly env: Readonly<Record<string, string>>;
  /** What `conduit secrets` has set, sealed (configuration/vault.ts); empty for none. */
  readonly secrets: string;
  /** What made it, when it was no upload: which variables were set. */
  readonly about: string;
  /** False for a canary that was not promoted: nothing to go back to. */
  readonly served: boolean;
}

export interface NewRelease extends Omit<StoredRelease, 'served'> {
  readonly owner: Owner;
  readonly uidSlot: number;
  readonly sites: readonly Site[];
  readonly placementReason: string;
}

/** What stands in conduit.db about apps. Every write is one transaction; the caller orders writes (one process writes this file). */
export interface AppStore {
  /** The app that has this name now, whoever's it is. */
  findByName(app: string): Promise<StoredApp | null>;
  list(provider: string): Promise<readonly StoredApp[]>;
  release(appId: number, release: number): Promise<StoredRelease | null>;
  /** The newest first; `served`: only those that have served. */
  releases(appId: number, most: number, which?: 'served'): Promise<readonly StoredRelease[]>;
  findDeploy(appId: number, deployId: string): Promise<StoredRelease | null>;
  /** The highest release any app of this owner ever had, deleted ones too; 0 when there was none. */
  lastRelease(owner: Owner): Promise<number>;
  /** The sites that host it, and those it has left but which have not been told yet. */
  placements(appId: number): Promise<{ readonly hosting: readonly Site[]; readonly leaving: readonly Site[] }>;
  uidSlots(): Promise<{ readonly taken: ReadonlySet<number>; readonly freed: readonly number[] }>;
  /** How many apps with exactly one site each site holds. */
  pinned(): Promise<ReadonlyMap<string, number>>;
  readonly canaries: CanaryStore<NewRelease>;
  /** The canary, if there is one, ends with it; so with `serveRelease` and `markDeleted`. */
  addRelease(previous: StoredApp | null, next: NewRelease): Promise<void>;
  /** Has a release that is there already serve, under a new deploy. */
  serveRelease(app: StoredApp, about: { release: number; deployId: string; sites: readonly Site[]; reason: string }): Promise<void>;
  place(app: StoredApp, sites: readonly Site[], reason: string): Promise<void>;
  /** Forgets what was set of releases that are neither current nor among the newest `kept`. */
  forgetConfigurations(appId: number, kept: number): Promise<void>;
  markDeleted(app: StoredApp, wallMs: number): Promise<void>;
  /** The outbox: the longest waiting first. */
  unpublished(most: number): Promise<readonly StoredApp[]>;
  /** The newest generation asked for. */
  generation(appId: number): Promise<number>;
  live(): Promise<readonly StoredApp[]>;
  /** Asks for everything to be compared with the bus again. */
  markAllUnpublished(): Promise<void>;
  /** Asks for apps whose release has a `cron` to be told again: who makes their requests may have changed. */
  markCronUnpublished(): Promise<void>;
  markPublished(app: StoredApp): Promise<void>;
  objects(site: Site): Promise<ReadonlySet<string>>;
  addObject(site: Site, artefactDigest: string): Promise<void>;
  removeObject(site: Site, artefactDigest: string): Promise<void>;
  /** Digests that a live app's current release, and its canary, need at this site. */
  neededObjects(site: Site): Promise<ReadonlySet<string>>;
  /** Digests of the current, the canary's and the newest `kept` releases of live apps that have served: the artefacts to keep on disk. */
  neededArtefacts(kept: number): Promise<ReadonlySet<string>>;
}

/** A live app's current release, or its canary, at a site: its zone and edgepoint are the arguments. */
export const isHostedRelease = {
  from: `placements JOIN apps ON apps.id = placements.appId
           LEFT JOIN canaries ON canaries.appId = apps.id
           JOIN releases ON releases.appId = apps.id AND releases.release IN (apps.release, canaries.release)`,
  where: 'zone = ? AND edgepoint = ? AND leaving = 0 AND deletedWallMs IS NULL',
};

/** Of apps and their releases: the current one, the canary's, and the newest that have served; how many is the argument. */
export const isKeptRelease = `deletedWallMs IS NULL AND (releases.release = apps.release
  OR EXISTS (SELECT 1 FROM canaries WHERE canaries.appId = apps.id AND canaries.release = releases.release)
  OR releases.served = 1 AND
    (SELECT COUNT(*) FROM releases AS newer WHERE newer.appId = apps.id AND newer.served = 1 AND newer.release > releases.release) < ?)`;

export function openAppStore(database: Client): AppStore {
  const rows = async (sql: string, args: (string | number)[] = []): Promise<Row[]> => (await database.execute({ sql, args })).rows;
  const first = async (sql: string, args: (string | number)[]): Promise<Row | null> => (await rows(sql, args))[0] ?? null;
  const digests = (found: Row[]): ReadonlySet<string> => new Set(found.map((row) => String(row['artefactDigest'])));

  return {
    canaries: openCanaryStore(database, releaseStatement),
    async findByName(app) {
      const row = await first('SELECT * FROM apps WHERE app = ? AND deletedWallMs IS NULL', [app]);
      return row && appOf(row);
    },
    async list(provider) {
      return (await rows('SELECT * FROM apps WHERE provider = ? AND deletedWallMs IS NULL ORDER BY app', [provider])).map(appOf);
    },
    async release(appId, release) {
      const row = await first('SELECT * FROM releases WHERE appId = ? AND release = ?', [appId, release]);
      return row && releaseOf(row);
    },
    async releases(appId, most, which) {
      return (await rows('SELECT * FROM releases WHERE appId = ? AND served >= ? ORDER BY release DESC LIMIT ?', [appId, which === 'served' ? 1 : 0, most])).map(releaseOf);
    },
    async findDeploy(appId, deployId) {
      const row = await first('SELECT * FROM releases WHERE appId = ? AND deployId = ?', [appId, deployId]);
      return row && releaseOf(row);
    },
    async lastRelease({ provider, scope, app }) {
      const row = await first('SELECT MAX(release) AS last FROM releases WHERE provider = ? AND scope = ? AND app = ?', [provider, scope, app]);
      return Number(row?.['last'] ?? 0);
    },
    async placements(appId) {
      const found = await rows('SELECT zone, edgepoint, leaving FROM placements WHERE appId = ? ORDER BY rowid', [appId]);
      const sites = (leaving: number) => found.filter((row) => Number(row['leaving']) === leaving).map(siteOf);
      return { hosting: sites(0), leaving: sites(1) };
    },
    async uidSlots() {
      const taken = await rows('SELECT uidSlot FROM apps WHERE deletedWallMs IS NULL');
      const freed = await rows('SELECT uidSlot, MAX(deletedWallMs) AS last FROM apps WHERE deletedWallMs IS NOT NULL GROUP BY uidSlot ORDER BY last');
      return { taken: new Set(taken.map((row) => Number(row['uidSlot']))), freed: freed.map((row) => Number(row['uidSlot'])) };
    },
    async pinned() {
      const found = await rows(
        `SELECT zone, edgepoint, COUNT(*) AS apps FROM placements JOIN apps ON apps.id = placements.appId
         WHERE leaving = 0 AND deletedWallMs IS NULL
           AND (SELECT COUNT(*) FROM placements AS other WHERE other.appId = apps.id AND other.leaving = 0) = 1
         GROUP BY zone, edgepoint`,
      );
      return new Map(found.map((row) => [siteKey(siteOf(row)), Number(row['apps'])]));
    },
    async addRelease(previous, next) {
      const { provider, scope, app } = next.owner;
      const appId = previous ? previous.id : await nextAppId(database);
      const appRow: InStatement = previous
        ? {
            sql: 'UPDATE apps SET release = ?, placementReason = ?, generation = generation + 1 WHERE id = ? AND deletedWallMs IS NULL',
            args: [next.release, next.placementReason, appId],
          }
        : {
            sql: 'INSERT INTO apps (id, provider, scope, app, uidSlot, release, placementReason, generation, createdWallMs) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)',
            args: [appId, provider, scope, app, next.uidSlot, next.release, next.placementReason, next.createdWallMs],
          };
      await database.batch([appRow, releaseStatement(appId, next), endCanary(appId), ...placeStatements(appId, next.sites)], 'write');
    },
    async serveRelease(app, { release, deployId, sites, reason }) {
      await database.batch(
        [
          { sql: 'UPDATE apps SET release = ?, placementReason = ?, generation = generation + 1 WHERE id = ? AND deletedWallMs IS NULL', args: [release, reason, app.id] },
          { sql: 'UPDATE releases SET deployId = ?, served = 1 WHERE appId = ? AND release = ?', args: [deployId, app.id, release] },
          endCanary(app.id),
          ...placeStatements(app.id, sites),
        ],
        'write',
      );
    },
    async place(app, sites, reason) {
      const note: InStatement = {
        sql: 'UPDATE apps SET placementReason = ?, generation = generation + 1 WHERE id = ?',
        args: [reason, app.id],
      };
      await database.batch([note, ...placeStatements(app.id, sites)], 'write');
    },
    async markDeleted(app, wallMs) {
      await database.batch(
        [
          { sql: 'UPDATE apps SET deletedWallMs = ?, generation = generation + 1 WHERE id = ? AND deletedWallMs IS NULL', args: [wallMs, app.id] },
          endCanary(app.id),
          { sql: 'UPDATE placements SET leaving = 1 WHERE appId = ?', args: [app.id] },
          { sql: "UPDATE releases SET env = '{}', secrets = '' WHERE appId = ?", args: [app.id] },
        ],
        'write',
      );
    },
    async forgetConfigurations(appId, kept) {
      await database.execute({
        sql: `UPDATE releases SET env = '{}', secrets = '' WHERE appId = ? AND (env <> '{}' OR secrets <> '')
                AND release <> (SELECT apps.release FROM apps WHERE apps.id = releases.appId)
                AND NOT EXISTS (SELECT 1 FROM canaries WHERE canaries.appId = releases.appId AND canaries.release = releases.release)
                AND (served = 0
                  OR (SELECT COUNT(*) FROM releases AS newer WHERE newer.appId = releases.appId AND newer.served = 1 AND newer.release > releases.release) >= ?)`,
        args: [appId, kept],
      });
    },
    async unpublished(most) {
      return (await rows('SELECT * FROM apps WHERE generation <> publishedGeneration ORDER BY id LIMIT ?', [most])).map(appOf);
    },
    async generation(appId) {
      return Number((await first('SELECT generation FROM apps WHERE id = ?', [appId]))?.['generation'] ?? 0);
    },
    async live() {
      return (await rows('SELECT * FROM apps WHERE deletedWallMs IS NULL ORDER BY id')).map(appOf);
    },
    async markAllUnpublished() {
      // A tombstone whose placements are gone has been told everywhere and stays quiet.
      await database.execute('UPDATE apps SET publishedGeneration = -1 WHERE deletedWallMs IS NULL');
    },
    async markCronUnpublished() {
      await database.execute(
        `UPDATE apps SET publishedGeneration = -1 WHERE deletedWallMs IS NULL AND EXISTS
           (SELECT 1 FROM releases WHERE releases.appId = apps.id AND releases.release = apps.release AND json_array_length(manifest, '$.cron') > 0)`,
      );
    },
    async markPublished(app) {
      await database.batch(
        [
          // A newer generation stays in the outbox.
          { sql: 'UPDATE apps SET publishedGeneration = ? WHERE id = ? AND generation = ?', args: [app.generation, app.id, app.generation] },
          {
            sql: 'DELETE FROM placements WHERE appId = ? AND leaving = 1 AND (SELECT generation FROM apps WHERE id = ?) = ?',
            args: [app.id, app.id, app.generation],
          },
        ],
        'write',
      );
    },
    async objects(site) {
      return digests(await rows('SELECT artefactDigest FROM objects WHERE zone = ? AND edgepoint = ?', [site.zone, site.edgepoint]));
    },
    async addObject(site, artefactDigest) {
      await database.execute({ sql: 'INSERT OR IGNORE INTO objects VALUES (?, ?, ?)', args: [site.zone, site.edgepoint, artefactDigest] });
    },
    async removeObject(site, artefactDigest) {
      await database.execute({
        sql: 'DELETE FROM objects WHERE zone = ? AND edgepoint = ? AND artefactDigest = ?',
        args: [site.zone, site.edgepoint, artefactDigest],
      });
    },
    async neededObjects(site) {
      return digests(
        await rows(
          `SELECT DISTINCT artefactDigest FROM ${isHostedRelease.from} WHERE ${isHostedRelease.where}`,
          [site.zone, site.edgepoint],
        ),
      );
    },
    async neededArtefacts(kept) {
      return digests(
        await rows(
          `SELECT DISTINCT artefactDigest FROM apps JOIN releases ON releases.appId = apps.id WHERE ${isKeptRelease}`,
          [kept],
        ),
      );
    },
  };
}

/** AUTOINCREMENT's own counter, so that an id is never used twice, also after a crash. */
async function nextAppId(database: Client): Promise<number> {
  const { rows } = await database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'apps'");
  return Number(rows[0]?.['seq'] ?? 0) + 1;
}

function releaseStatement(appId: number, next: NewRelease): InStatement {
  const { provider, scope, app } = next.owner;
  return {
    sql: `INSERT INTO releases (appId, provider, scope, app, release, artefactDigest, artefactBytes, manifest, deployId, createdWallMs, env, secrets, about)
          VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    args: [
      appId, provider, scope, app, next.release, next.artefactDigest, next.artefactBytes, JSON.stringify(next.manifest), next.deployId, next.createdWallMs,
      JSON.stringify(next.env), next.secrets, next.about,
    ],
  };
}

function placeStatements(appId: number, sites: readonly Site[]): InStatement[] {
  return [
    { sql: 'UPDATE placements SET leaving = 1 WHERE appId = ?', args: [appId] },
    ...sites.map(({ zone, edgepoint }) => ({
      sql: 'INSERT INTO placements (appId, zone, edgepoint) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET leaving = 0',
      args: [appId, zone, edgepoint],
    })),
  ];
}

const siteOf = (row: Row): Site => ({ zone: String(row['zone']), edgepoint: String(row['edgepoint']) });

function appOf(row: Row): StoredApp {
  return {
    id: Number(row['id']),
    owner: { provider: String(row['provider']), scope: String(row['scope']), app: String(row['app']) },
    uidSlot: Number(row['uidSlot']),
    release: Number(row['release']),
    placementReason: String(row['placementReason']),
    generation: Number(row['generation']),
    publishedGeneration: Number(row['publishedGeneration']),
    createdWallMs: Number(row['createdWallMs']),
    deletedWallMs: row['deletedWallMs'] === null ? null : Number(row['deletedWallMs']),
  };
}

function releaseOf(row: Row): StoredRelease {
  return {
    release: Number(row['release']),
    artefactDigest: String(row['artefactDigest']),
    artefactBytes: Number(row['artefactBytes']),
    manifest: manifestSchema.parse(JSON.parse(String(row['manifest']))),
    deployId: String(row['deployId']),
    createdWallMs: Number(row['createdWallMs']),
    env: JSON.parse(String(row['env'])) as Record<string, string>,
    secrets: String(row['secrets']),
    about: String(row['about']),
    served: Number(row['served']) === 1,
  };
}
