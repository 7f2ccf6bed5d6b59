import type { Migration } from '../../host/database.ts';

/** Numbered steps of conduit.db; a step that has been released is never changed. */
export const migrations: readonly Migration[] = [
  {
    number: 1,
    name: 'accounts, apps, releases and where they go',
    sql: [
      `CREATE TABLE providers (provider TEXT PRIMARY KEY, createdWallMs INTEGER NOT NULL)`,
      `CREATE TABLE tokens (
        id TEXT PRIMARY KEY, provider TEXT NOT NULL REFERENCES providers (provider),
        hash TEXT NOT NULL, createdWallMs INTEGER NOT NULL, revokedWallMs INTEGER)`,
      `CREATE TABLE sessions (
        id TEXT PRIMARY KEY, provider TEXT NOT NULL REFERENCES providers (provider), tokenId TEXT NOT NULL REFERENCES tokens (id),
        hash TEXT NOT NULL, endsWallMs INTEGER NOT NULL)`,
      // generation counts what was asked for, publishedGeneration what the bus has been told: the outbox is where they differ.
      `CREATE TABLE apps (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        provider TEXT NOT NULL REFERENCES providers (provider), scope TEXT NOT NULL, app TEXT NOT NULL,
        uidSlot INTEGER NOT NULL, release INTEGER NOT NULL, placementReason TEXT NOT NULL,
        generation INTEGER NOT NULL, publishedGeneration INTEGER NOT NULL DEFAULT 0,
        createdWallMs INTEGER NOT NULL, deletedWallMs INTEGER)`,
      `CREATE UNIQUE INDEX appsByName ON apps (app) WHERE deletedWallMs IS NULL`,
      `CREATE UNIQUE INDEX appsByUidSlot ON apps (uidSlot) WHERE deletedWallMs IS NULL`,
      `CREATE INDEX appsToPublish ON apps (id) WHERE generation <> publishedGeneration`,
      `CREATE TABLE releases (
        appId INTEGER NOT NULL REFERENCES apps (id), provider TEXT NOT NULL, scope TEXT NOT NULL, app TEXT NOT NULL,
        release INTEGER NOT NULL, artefactDigest TEXT NOT NULL, artefactBytes INTEGER NOT NULL, manifest TEXT NOT NULL,
        deployId TEXT NOT NULL UNIQUE, createdWallMs INTEGER NOT NULL,
        PRIMARY KEY (appId, release))`,
      // A site the app has left stays until the bus has been told (leaving = 1).
      `CREATE TABLE placements (
        appId INTEGER NOT NULL REFERENCES apps (id), zone TEXT NOT NULL, edgepoint TEXT NOT NULL, leaving INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (appId, zone, edgepoint))`,
      // Artefacts that lie in an edgepoint's object store.
      `CREATE TABLE objects (zone TEXT NOT NULL, edgepoint TEXT NOT NULL, artefactDigest TEXT NOT NULL,
        PRIMARY KEY (zone, edgepoint, artefactDigest))`,
    ],
  },
  {
    number: 2,
    name: 'checks of which something lies on the bus',
    sql: [
      `CREATE TABLE checks (
        number INTEGER PRIMARY KEY AUTOINCREMENT, checkId TEXT NOT NULL UNIQUE,
        provider TEXT NOT NULL, scope TEXT NOT NULL, app TEXT NOT NULL, zone TEXT NOT NULL, edgepoint TEXT NOT NULL, place INTEGER NOT NULL)`,
    ],
  },
  {
    number: 3,
    name: 'variables and secrets of releases',
    sql: [
      // env: JSON; secrets: sealed (configuration/vault.ts), empty for none; about: what made the release, when no upload did.
      `ALTER TABLE releases ADD COLUMN env TEXT NOT NULL DEFAULT '{}'`,
      `ALTER TABLE releases ADD COLUMN secrets TEXT NOT NULL DEFAULT ''`,
      `ALTER TABLE releases ADD COLUMN about TEXT NOT NULL DEFAULT ''`,
      `CREATE TABLE provider_keys (provider TEXT PRIMARY KEY REFERENCES providers (provider), wrapped TEXT NOT NULL)`,
    ],
  },
  {
    number: 4,
    name: "providers' own domains",
    sql: [
      // Proved (provedWallMs) for one app at most. leaving = 1: given up, and the bus has not been told.
      `CREATE TABLE domains (
        domain TEXT NOT NULL, appId INTEGER NOT NULL REFERENCES apps (id), createdWallMs INTEGER NOT NULL,
        provedWallMs INTEGER, leaving INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (domain, appId))`,
      `CREATE UNIQUE INDEX domainsProved ON domains (domain) WHERE provedWallMs IS NOT NULL`,
      `CREATE INDEX domainsByApp ON domains (appId)`,
    ],
  },
  {
    number: 5,
    name: 'canaries',
    sql: [
      'CREATE TABLE canaries (appId INTEGER PRIMARY KEY REFERENCES apps (id), release INTEGER NOT NULL, percent INTEGER NOT NULL)',
      // A canary's release has not served until it is promoted.
      'ALTER TABLE releases ADD COLUMN served INTEGER NOT NULL DEFAULT 1',
    ],
  },
  {
    number: 6,
    name: 'spending caps and their alerts',
    sql: [
      // app empty: all apps of the provider together.
      'CREATE TABLE caps (provider TEXT NOT NULL REFERENCES providers (provider), app TEXT NOT NULL, micros INTEGER NOT NULL, PRIMARY KEY (provider, app))',
      'CREATE TABLE stops (appId INTEGER PRIMARY KEY REFERENCES apps (id), reason TEXT NOT NULL, untilWallMs INTEGER NOT NULL)',
      'CREATE TABLE webhooks (provider TEXT PRIMARY KEY REFERENCES providers (provider), url TEXT NOT NULL, secret TEXT NOT NULL)',
      // One for each part of a cap and month; another amount is another cap.
      `CREATE TABLE alerts (
        id TEXT PRIMARY KEY, provider TEXT NOT NULL, app TEXT NOT NULL, month TEXT NOT NULL, percent INTEGER NOT NULL, micros INTEGER NOT NULL,
        spentMicros INTEGER NOT NULL, currency TEXT NOT NULL, wallMs INTEGER NOT NULL,
        state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, nextWallMs INTEGER NOT NULL, note TEXT NOT NULL DEFAULT '',
        UNIQUE (provider, app, month, percent, micros))`,
      "CREATE INDEX alertsWaiting ON alerts (provider) WHERE state = 'waiting'",
    ],
  },
  {
    number: 10,
    name: 'accesses of providers',
    sql: [
      // command: JSON, '[]' of a connect. code: null while it is open; tookMs: null as long as, or when, nobody knows.
      `CREATE TABLE accesses (
        number INTEGER PRIMARY KEY AUTOINCREMENT, provider TEXT NOT NULL, scope TEXT NOT NULL, app TEXT NOT NULL, tokenId TEXT NOT NULL,
        kind TEXT NOT NULL, port INTEGER, command TEXT NOT NULL, terminal INTEGER NOT NULL, zone TEXT NOT NULL, edgepoint TEXT NOT NULL,
        instance TEXT NOT NULL DEFAULT '', begunWallMs INTEGER NOT NULL, tookMs INTEGER, code TEXT, exitStatus INTEGER)`,
      'CREATE INDEX accessesByProvider ON accesses (provider, kind, number)',
    ],
  },
];
