import type { Client } from '@libsql/client';
import type { Migration } from '../../host/database.ts';
import { ownerKey, ownerOfKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import type { ReleaseRecord, ReleaseRecords } from '../deploy/ports.ts';
import type { Stored } from '../exchange/plan.ts';
import type { StoredRecords, TemplateRecord } from '../exchange/ports.ts';
import type { KeptInstance, ReleaseFacts, ReleaseOrder, WakeBy } from '../model/app.ts';
import type { OwnAddress } from '../model/calls.ts';
import type { StoredVolume, VolumeRecords } from '../volumes/ports.ts';
import { usageTables } from '../perf/outbox.ts';
import type { KeptRecords } from '../resources/ports.ts';

/** The head's database: what must outlive it. Rows hold our own plain data as JSON; columns are what is asked for. */
export const headMigrations: readonly Migration[] = [
  {
    number: 1,
    name: 'wishes, releases, kept instances, usage',
    sql: [
      'CREATE TABLE desired (app TEXT PRIMARY KEY, message TEXT NOT NULL)',
      `CREATE TABLE releases (app TEXT NOT NULL, release INTEGER NOT NULL, digest TEXT NOT NULL, rejected TEXT NOT NULL,
        facts TEXT NOT NULL, release_order TEXT NOT NULL, PRIMARY KEY (app, release))`,
      'CREATE TABLE serving (app TEXT PRIMARY KEY, release INTEGER NOT NULL)',
      'CREATE TABLE kept (app TEXT PRIMARY KEY, kept TEXT, intended TEXT)',
      'CREATE TABLE meter_ids (instance TEXT PRIMARY KEY, meter_id TEXT NOT NULL)',
      ...usageTables,
    ],
  },
  {
    number: 2,
    name: 'templates in the object store',
    sql: ['CREATE TABLE stored_templates (name TEXT PRIMARY KEY, stored TEXT NOT NULL)'],
  },
  {
    number: 3,
    name: 'own addresses',
    sql: ['CREATE TABLE own_addresses (app TEXT PRIMARY KEY, address TEXT NOT NULL)'],
  },
  {
    number: 4,
    name: 'requests of schedules',
    sql: ['CREATE TABLE cron (app TEXT NOT NULL, task TEXT NOT NULL, due_wall_ms INTEGER NOT NULL, PRIMARY KEY (app, task))'],
  },
  {
    number: 5,
    name: 'drained by the operator',
    sql: ['CREATE TABLE drain (only INTEGER PRIMARY KEY CHECK (only = 1), since_wall_ms INTEGER NOT NULL)'],
  },
  {
    number: 6,
    name: 'snapshots of volumes',
    sql: ['CREATE TABLE stored_volumes (app TEXT NOT NULL, volume TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (app, volume))'],
  },
];

/** What a restarted head begins with. */
export interface Remembered {
  /** The conduit's messages, as they came. */
  readonly desired: readonly { readonly app: string; readonly message: string }[];
  readonly serving: ReadonlyMap<string, { readonly order: ReleaseOrder; readonly facts: ReleaseFacts }>;
  readonly kept: ReadonlyMap<string, { readonly kept: KeptInstance | null; readonly intended: KeptInstance | null }>;
  readonly meterIds: ReadonlyMap<string, string>;
  readonly releases: readonly ReleaseRecord[];
  /** By app. */
  readonly ownAddresses: ReadonlyMap<string, OwnAddress>;
  /** Requests of schedules that were dealt with last. */
  readonly cron: readonly { readonly app: string; readonly task: string; readonly dueWallMs: number }[];
  /** Since when the operator drains this edgepoint; null: it is not drained. */
  readonly drainedSinceWallMs: number | null;
  readonly storedVolumes: readonly StoredVolume[];
}

export interface HeadRecords extends KeptRecords, ReleaseRecords, StoredRecords, VolumeRecords {
  remember(): Promise<Remembered>;
  saveDesired(app: string, message: string): Promise<void>;
  forgetDesired(app: string): Promise<void>;
  saveOwnAddress(owner: Owner, own: OwnAddress): Promise<void>;
  forgetOwnAddress(owner: Owner): Promise<void>;
  saveCron(app: string, task: string, dueWallMs: number): Promise<void>;
  /** Of one task, or (null) of all of the app. */
  forgetCron(app: string, task: string | null): Promise<void>;
  /** Null: not drained any more. */
  saveDrain(sinceWallMs: number | null): Promise<void>;
}

export function openRecords(client: Pick<Client, 'execute' | 'batch'>): HeadRecords {
  const run = async (sql: string, args: (string | number | null)[]): Promise<void> => void (await client.execute({ sql, args }));
  const list = async (owner: Owner) => {
    const { rows } = await client.execute({ sql: 'SELECT * FROM releases WHERE app = ? ORDER BY release', args: [ownerKey(owner)] });
    return rows.map(releaseOf);
  };

  /** Of all apps at once, as one text: of each row the client makes an object with every column twice, some kilobytes that lie among what stays. */
  const asJson = async <Row>(sql: string): Promise<Row[]> => JSON.parse(String((await client.execute(sql)).rows[0]?.['json'])) as Row[];

  return {
    list,
    remember: () => remember(client),
    find: async (owner, release) => (await list(owner)).find((record) => record.order.release === release) ?? null,
    save: (order, facts, rejected) =>
      run(
        `INSERT INTO releases (app, release, digest, rejected, facts, release_order) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (app, release)
         DO UPDATE SET digest = excluded.digest, rejected = excluded.rejected, facts = excluded.facts, release_order = excluded.release_order`,
        [ownerKey(order.owner), order.release, order.artefactDigest, rejected, JSON.stringify(facts), JSON.stringify(order)],
      ),
    forget: (owner, release) => run('DELETE FROM releases WHERE app = ? AND release = ?', [ownerKey(owner), release]),
    setServing: (owner, release) =>
      release === null
        ? run('DELETE FROM serving WHERE app = ?', [ownerKey(owner)])
        : run('INSERT INTO serving (app, release) VALUES (?, ?) ON CONFLICT (app) DO UPDATE SET release = excluded.release', [ownerKey(owner), release]),
    digestsInUse: async () => {
      const { rows } = await client.execute('SELECT DISTINCT digest FROM releases');
      return new Set(rows.map((row) => String(row['digest'])));
    },
    intendKept: (owner, next) =>
      run('INSERT INTO kept (app, intended) VALUES (?, ?) ON CONFLICT (app) DO UPDATE SET intended = excluded.intended', [ownerKey(owner), JSON.stringify(next)]),
    saveKept: (owner, kept) =>
      run('INSERT INTO kept (app, kept) VALUES (?, ?) ON CONFLICT (app) DO UPDATE SET kept = excluded.kept, intended = NULL', [ownerKey(owner), JSON.stringify(kept)]),
    dropIntent: (owner) => run('UPDATE kept SET intended = NULL WHERE app = ?', [ownerKey(owner)]),
    forgetKept: (owner) => run('DELETE FROM kept WHERE app = ?', [ownerKey(owner)]),
    saveMeterId: (instance, meterId) =>
      run('INSERT INTO meter_ids (instance, meter_id) VALUES (?, ?) ON CONFLICT (instance) DO UPDATE SET meter_id = excluded.meter_id', [instance, meterId]),
    forgetMeterId: (instance) => run('DELETE FROM meter_ids WHERE instance = ?', [instance]),
    saveDesired: (app, message) =>
      run('INSERT INTO desired (app, message) VALUES (?, ?) ON CONFLICT (app) DO UPDATE SET message = excluded.message', [app, message]),
    templates: async () => (await asJson<TemplateRow>(templatesQuery)).map(templateOf),
    stored: () => asJson<Stored>('SELECT json_group_array(json(stored)) AS json FROM (SELECT stored FROM stored_templates ORDER BY name)'),
    saveStored: (stored) =>
      run('INSERT INTO stored_templates (name, stored) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET stored = excluded.stored', [stored.name, JSON.stringify(stored)]),
    forgetStored: (name) => run('DELETE FROM stored_templates WHERE name = ?', [name]),
    forgetDesired: (app) => run('DELETE FROM desired WHERE app = ?', [app]),
    saveOwnAddress: (owner, own) =>
      run('INSERT INTO own_addresses (app, address) VALUES (?, ?) ON CONFLICT (app) DO UPDATE SET address = excluded.address', [ownerKey(owner), JSON.stringify(own)]),
    saveCron: (app, task, dueWallMs) =>
      run('INSERT INTO cron (app, task, due_wall_ms) VALUES (?, ?, ?) ON CONFLICT (app, task) DO UPDATE SET due_wall_ms = excluded.due_wall_ms', [app, task, dueWallMs]),
    forgetCron: (app, task) => (task === null ? run('DELETE FROM cron WHERE app = ?', [app]) : run('DELETE FROM cron WHERE app = ? AND task = ?', [app, task])),
    saveDrain: (sinceWallMs) =>
      sinceWallMs === null ? run('DELETE FROM drain', []) : run('INSERT INTO drain (only, since_wall_ms) VALUES (1, ?) ON CONFLICT (only) DO NOTHING', [sinceWallMs]),
    storedVolumes: async () => (await client.execute('SELECT app, volume, bytes FROM stored_volumes ORDER BY app, volume')).rows.map(storedVolumeOf),
    saveStoredVolume: ({ owner, volume, bytes }) =>
      bytes === 0
        ? run('DELETE FROM stored_volumes WHERE app = ? AND volume = ?', [ownerKey(owner), volume])
        : run('INSERT INTO stored_volumes (app, volume, bytes) VALUES (?, ?, ?) ON CONFLICT (app, volume) DO UPDATE SET bytes = excluded.bytes', [ownerKey(owner), volume, bytes]),
    forgetOwnAddress: (owner) => run('DELETE FROM own_addresses WHERE app = ?', [ownerKey(owner)]),
  };
}

const storedVolumeOf = (row: Record<string, unknown>): StoredVolume => ({ owner: ownerOfKey(String(row['app'])), volume: String(row['volume']), bytes: Number(row['bytes']) });

function releaseOf(row: Record<string, unknown>): ReleaseRecord {
  return {
    rejected: String(row['rejected']),
    facts: JSON.parse(String(row['facts'])) as ReleaseFacts | null,
    order: JSON.parse(String(row['release_order'])) as ReleaseOrder,
  };
}

/** Columns of what is asked of all templates at once: with thousands, their orders would be megabytes each time. */
const templatesQuery = `SELECT json_group_array(json_array(app, release, serves, path, bytes, off_disk, wake_by, cold_boot_ms, state, json(volume), json(sites))) AS json FROM (
  SELECT releases.app, releases.release, serving.release = releases.release AS serves, json_extract(facts, '$.snapshotPath') AS path,
  json_extract(facts, '$.templateBytes') AS bytes, json_extract(facts, '$.offDisk') AS off_disk, json_extract(facts, '$.wakeBy') AS wake_by,
  json_extract(facts, '$.coldBootMs') AS cold_boot_ms, json_extract(release_order, '$.manifest.state') AS state, json_extract(release_order, '$.manifest.volume') AS volume,
  iif(json_extract(message, '$.release') = releases.release, json_extract(message, '$.sites'), json_extract(release_order, '$.sites')) AS sites
  FROM releases LEFT JOIN serving ON serving.app = releases.app LEFT JOIN desired ON desired.app = releases.app
  WHERE json_extract(facts, '$.snapshotPath') <> '' ORDER BY releases.app, releases.release)`;

/** In the order of the query's json_array; 1, 0 or null for what is true or false. */
type TemplateRow = [
  app: string, release: number, serves: number | null, path: string, bytes: number, offDisk: number | null, wakeBy: WakeBy,
  coldBootMs: number | null, state: Manifest['state'], volume: Manifest['volume'], sites: string[] | null,
];

function templateOf([app, release, serves, snapshotPath, bytes, offDisk, wakeBy, coldBootMs, state, volume, sites]: TemplateRow): TemplateRecord {
  return { app, release, serves: serves === 1, snapshotPath, bytes, offDisk: offDisk === 1, wakeBy, coldBootMs, manifest: { state, volume }, sites: sites ?? [] };
}

async function remember(client: Pick<Client, 'execute' | 'batch'>): Promise<Remembered> {
  const [desired, serving, kept, meterIds, releases, ownAddresses, cron, drain, storedVolumes] = await client.batch(
    [
      'SELECT app, message FROM desired ORDER BY app',
      'SELECT serving.app, facts, release_order FROM serving JOIN releases ON releases.app = serving.app AND releases.release = serving.release',
      'SELECT app, kept, intended FROM kept',
      'SELECT instance, meter_id FROM meter_ids',
      'SELECT * FROM releases',
      'SELECT app, address FROM own_addresses',
      'SELECT app, task, due_wall_ms FROM cron',
      'SELECT since_wall_ms FROM drain',
      'SELECT app, volume, bytes FROM stored_volumes',
    ],
    'read',
  );
  const instanceOf = (text: unknown): KeptInstance | null => (typeof text === 'string' ? (JSON.parse(text) as KeptInstance) : null);
  return {
    desired: (desired?.rows ?? []).map((row) => ({ app: String(row['app']), message: String(row['message']) })),
    serving: new Map(
      (serving?.rows ?? []).map((row) => [
        String(row['app']),
        { facts: JSON.parse(String(row['facts'])) as ReleaseFacts, order: JSON.parse(String(row['release_order'])) as ReleaseOrder },
      ]),
    ),
    kept: new Map((kept?.rows ?? []).map((row) => [String(row['app']), { kept: instanceOf(row['kept']), intended: instanceOf(row['intended']) }])),
    meterIds: new Map((meterIds?.rows ?? []).map((row) => [String(row['instance']), String(row['meter_id'])])),
    releases: (releases?.rows ?? []).map(releaseOf),
    ownAddresses: new Map((ownAddresses?.rows ?? []).map((row) => [String(row['app']), JSON.parse(String(row['address'])) as OwnAddress])),
    cron: (cron?.rows ?? []).map((row) => ({ app: String(row['app']), task: String(row['task']), dueWallMs: Number(row['due_wall_ms']) })),
    drainedSinceWallMs: drain?.rows[0] === undefined ? null : Number(drain.rows[0]['since_wall_ms']),
    storedVolumes: (storedVolumes?.rows ?? []).map(storedVolumeOf),
  };
}
