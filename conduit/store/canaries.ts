import type { Client, InStatement } from '@libsql/client';

/** The release that gets a part of an app's requests beside the one that serves. */
export interface StoredCanary {
  readonly release: number;
  readonly percent: number;
  /** The deploy that asked for it, or for its share, last. */
  readonly deployId: string;
}

/** A row of the apps, by its id. */
interface AppRow {
  readonly id: number;
}

/** What stands in conduit.db about canaries; an app has one at most. Every write is one transaction. */
export interface CanaryStore<NewRelease> {
  find(appId: number): Promise<StoredCanary | null>;
  /** A new release as the app's canary, in place of another. */
  begin(app: AppRow, next: NewRelease, percent: number): Promise<void>;
  /** Another share, under a new deploy. */
  change(app: AppRow, canary: StoredCanary): Promise<void>;
  end(app: AppRow): Promise<void>;
}

/** Every deploy of an app ends its canary: in the same transaction. */
export const endCanary = (appId: number): InStatement => ({ sql: 'DELETE FROM canaries WHERE appId = ?', args: [appId] });

const touched = (appId: number): InStatement => ({ sql: 'UPDATE apps SET generation = generation + 1 WHERE id = ? AND deletedWallMs IS NULL', args: [appId] });
const put = (appId: number, { release, percent }: Omit<StoredCanary, 'deployId'>): InStatement => ({
  sql: 'INSERT INTO canaries (appId, release, percent) VALUES (?, ?, ?) ON CONFLICT (appId) DO UPDATE SET release = excluded.release, percent = excluded.percent',
  args: [appId, release, percent],
});

export function openCanaryStore<NewRelease extends { readonly release: number }>(database: Client, releaseRow: (appId: number, next: NewRelease) => InStatement): CanaryStore<NewRelease> {
  return {
    async find(appId) {
      const { rows } = await database.execute({ sql: 'SELECT canaries.release, percent, deployId FROM canaries JOIN releases USING (appId, release) WHERE appId = ?', args: [appId] });
      const row = rows[0];
      return row === undefined ? null : { release: Number(row['release']), percent: Number(row['percent']), deployId: String(row['deployId']) };
    },
    async begin(app, next, percent) {
      const unserved: InStatement = { sql: 'UPDATE releases SET served = 0 WHERE appId = ? AND release = ?', args: [app.id, next.release] };
      await database.batch([releaseRow(app.id, next), unserved, put(app.id, { release: next.release, percent }), touched(app.id)], 'write');
    },
    async change(app, canary) {
      const named: InStatement = { sql: 'UPDATE releases SET deployId = ? WHERE appId = ? AND release = ?', args: [canary.deployId, app.id, canary.release] };
      await database.batch([named, put(app.id, canary), touched(app.id)], 'write');
    },
    async end(app) {
      await database.batch([endCanary(app.id), touched(app.id)], 'write');
    },
  };
}
