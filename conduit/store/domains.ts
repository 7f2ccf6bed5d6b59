import type { Client, Row } from '@libsql/client';
import type { StoredApp } from './apps.ts';

/** A provider's claim to a domain for an app of his. */
export interface StoredDomain {
  readonly domain: string;
  readonly appId: number;
  readonly provider: string;
  readonly app: string;
  readonly createdWallMs: number;
  /** When its record was seen; null: not yet. */
  readonly provedWallMs: number | null;
}

/** What stands in conduit.db about providers' own domains. A domain may be claimed by many, and is proved for one app at most. */
export interface DomainStore {
  list(provider: string): Promise<readonly StoredDomain[]>;
  find(provider: string, domain: string): Promise<StoredDomain | null>;
  /** Again is success; one that was claimed for another app of the provider is claimed for this one, unproved. */
  claim(app: StoredApp, domain: string, wallMs: number): Promise<void>;
  /** It is this app's from now on, and nobody else's; the outbox has both apps. */
  prove(app: StoredApp, domain: string, wallMs: number): Promise<void>;
  /** Gives it up; the outbox has the app. */
  remove(domain: StoredDomain): Promise<void>;
  /** Proved ones of an app, oldest first; and those it has given up, of which the bus has not been told. */
  ofApp(appId: number): Promise<{ readonly proved: readonly string[]; readonly leaving: readonly string[] }>;
  /** Whether it is proved for any app. */
  isProved(domain: string): Promise<boolean>;
  /** The bus has been told. */
  forget(appId: number, domain: string): Promise<void>;
}

export function openDomainStore(database: Client): DomainStore {
  const rows = async (sql: string, args: (string | number)[]): Promise<Row[]> => (await database.execute({ sql, args })).rows;
  const touch = (appId: number) => ({ sql: 'UPDATE apps SET generation = generation + 1 WHERE id = ?', args: [appId] });
  const giveUp = (appId: number, domain: string) => [{ sql: 'UPDATE domains SET leaving = 1, provedWallMs = NULL WHERE appId = ? AND domain = ?', args: [appId, domain] }, touch(appId)];
  // Of an app that is gone nobody has a domain.
  const live = 'FROM domains JOIN apps ON apps.id = domains.appId WHERE domains.leaving = 0 AND apps.deletedWallMs IS NULL';
  const columns = 'domains.domain, domains.appId, domains.createdWallMs, domains.provedWallMs, apps.provider, apps.app';
  return {
    async list(provider) {
      return (await rows(`SELECT ${columns} ${live} AND apps.provider = ? ORDER BY domains.domain`, [provider])).map(domainOf);
    },
    async find(provider, domain) {
      const [row] = await rows(`SELECT ${columns} ${live} AND apps.provider = ? AND domains.domain = ?`, [provider, domain]);
      return row === undefined ? null : domainOf(row);
    },
    async claim(app, domain, wallMs) {
      const others = await rows(`SELECT domains.appId ${live} AND apps.provider = ? AND domains.domain = ? AND domains.appId <> ?`, [app.owner.provider, domain, app.id]);
      await database.batch(
        [
          ...others.flatMap((row) => giveUp(Number(row['appId']), domain)),
          {
            sql: `INSERT INTO domains (domain, appId, createdWallMs) VALUES (?, ?, ?)
              ON CONFLICT (domain, appId) DO UPDATE SET leaving = 0, createdWallMs = CASE leaving WHEN 1 THEN excluded.createdWallMs ELSE createdWallMs END`,
            args: [domain, app.id, wallMs],
          },
        ],
        'write',
      );
    },
    async prove(app, domain, wallMs) {
      const others = await rows('SELECT appId FROM domains WHERE domain = ? AND appId <> ? AND provedWallMs IS NOT NULL', [domain, app.id]);
      await database.batch(
        [
          ...others.flatMap((row) => giveUp(Number(row['appId']), domain)),
          { sql: 'UPDATE domains SET provedWallMs = ? WHERE appId = ? AND domain = ? AND leaving = 0', args: [wallMs, app.id, domain] },
          touch(app.id),
        ],
        'write',
      );
    },
    async remove({ appId, domain }) {
      await database.batch(giveUp(appId, domain), 'write');
    },
    async ofApp(appId) {
      const found = await rows('SELECT domain, leaving, provedWallMs FROM domains WHERE appId = ? ORDER BY createdWallMs, domain', [appId]);
      const names = (these: Row[]): string[] => these.map((row) => String(row['domain']));
      return { proved: names(found.filter((row) => row['provedWallMs'] !== null)), leaving: names(found.filter((row) => Number(row['leaving']) === 1)) };
    },
    async isProved(domain) {
      return (await rows(`SELECT 1 ${live} AND domains.domain = ? AND domains.provedWallMs IS NOT NULL`, [domain])).length > 0;
    },
    async forget(appId, domain) {
      await database.execute({ sql: 'DELETE FROM domains WHERE appId = ? AND domain = ? AND (leaving = 1 OR (SELECT deletedWallMs FROM apps WHERE id = appId) IS NOT NULL)', args: [appId, domain] });
    },
  };
}

const domainOf = (row: Row): StoredDomain => ({
  domain: String(row['domain']),
  appId: Number(row['appId']),
  provider: String(row['provider']),
  app: String(row['app']),
  createdWallMs: Number(row['createdWallMs']),
  provedWallMs: row['provedWallMs'] === null ? null : Number(row['provedWallMs']),
});
