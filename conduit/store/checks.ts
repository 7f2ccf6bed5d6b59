import type { Client } from '@libsql/client';
import type { Owner, Site } from '../../kit/ids.ts';

/** A check of which something lies on the bus, or is about to. */
export interface StoredCheck {
  readonly checkId: string;
  readonly owner: Owner;
  readonly site: Site;
  /** 1 and up within the provider: names its key and its object. */
  readonly place: number;
}

/** The journal of checks: a row before anything of a check is made, and until everything of it is gone. */
export interface CheckStore {
  /** Returns a number that no check had before. */
  add(check: StoredCheck): Promise<number>;
  remove(checkId: string): Promise<void>;
  list(): Promise<readonly StoredCheck[]>;
}

export function openCheckStore(database: Client): CheckStore {
  return {
    async add({ checkId, owner, site, place }) {
      const { lastInsertRowid } = await database.execute({
        sql: 'INSERT INTO checks (checkId, provider, scope, app, zone, edgepoint, place) VALUES (?, ?, ?, ?, ?, ?, ?)',
        args: [checkId, owner.provider, owner.scope, owner.app, site.zone, site.edgepoint, place],
      });
      return Number(lastInsertRowid);
    },
    async remove(checkId) {
      await database.execute({ sql: 'DELETE FROM checks WHERE checkId = ?', args: [checkId] });
    },
    async list() {
      const { rows } = await database.execute('SELECT * FROM checks ORDER BY number');
      return rows.map((row) => ({
        checkId: String(row['checkId']),
        owner: { provider: String(row['provider']), scope: String(row['scope']), app: String(row['app']) },
        site: { zone: String(row['zone']), edgepoint: String(row['edgepoint']) },
        place: Number(row['place']),
      }));
    },
  };
}
