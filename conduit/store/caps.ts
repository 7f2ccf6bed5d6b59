import type { Client, InStatement, Row } from '@libsql/client';
import type { Capped } from '../../kit/wire/spending.ts';
import type { Cap, Reached, SpendingDecision } from '../spending/decide.ts';
import type { StoredApp } from './apps.ts';

export interface StoredAlert extends Reached {
  readonly id: string;
  readonly currency: string;
  readonly wallMs: number;
  /** `kept`: there was no webhook when it came about. */
  readonly state: 'waiting' | 'delivered' | 'failed' | 'kept';
  readonly attempts: number;
  /** Why the last attempt failed; empty otherwise. */
  readonly note: string;
}

export interface StoredWebhook {
  readonly url: string;
  /** Sealed, as secrets of apps are. */
  readonly secret: string;
}

/** A waiting alert, and where it goes. */
export interface DueAlert extends StoredAlert, StoredWebhook {
  readonly provider: string;
  readonly nextWallMs: number;
}

/** What stands in conduit.db about caps. Every write is one transaction; what an app's edgepoints must know of it puts it in the outbox. */
export interface CapStore {
  list(provider: string): Promise<readonly Cap[]>;
  providers(): Promise<readonly string[]>;
  set(provider: string, cap: Cap): Promise<void>;
  /** False when there was none. */
  remove(provider: string, app: string): Promise<boolean>;
  /** Null when no cap applies to the app. */
  cappedOf(app: Pick<StoredApp, 'id' | 'owner'>): Promise<Capped | null>;
  /** Stops apps and lets go of others; makes the alerts that were not made for this month and cap. True when something changed. */
  apply(provider: string, decision: SpendingDecision, about: { currency: string; wallMs: number; newId: () => string }): Promise<boolean>;
  /** The newest first. */
  alerts(provider: string, most: number): Promise<readonly StoredAlert[]>;
  webhook(provider: string): Promise<StoredWebhook | null>;
  /** Null: none any more; what waits for it is kept. */
  setWebhook(provider: string, webhook: StoredWebhook | null): Promise<void>;
  /** Of each provider the one that waits longest. */
  waiting(): Promise<readonly DueAlert[]>;
  settle(id: string, outcome: { state: StoredAlert['state']; attempts: number; nextWallMs: number; note: string }): Promise<void>;
}

/** Of one provider and month: a cap that is set anew all the time shall not be a way to have requests made. */
const alertsPerMonthMax = 100;

export function openCapStore(database: Client): CapStore {
  const rows = async (sql: string, args: (string | number)[] = []): Promise<Row[]> => (await database.execute({ sql, args })).rows;
  const touch = (provider: string, app: string): InStatement => ({
    sql: "UPDATE apps SET generation = generation + 1 WHERE provider = ? AND (? = '' OR app = ?) AND deletedWallMs IS NULL",
    args: [provider, app, app],
  });
  return {
    async list(provider) {
      return (await rows('SELECT app, micros FROM caps WHERE provider = ? ORDER BY app', [provider])).map((row) => ({ app: String(row['app']), micros: Number(row['micros']) }));
    },
    async providers() {
      return (await rows('SELECT DISTINCT provider FROM caps')).map((row) => String(row['provider']));
    },
    async set(provider, { app, micros }) {
      const put = { sql: 'INSERT INTO caps (provider, app, micros) VALUES (?, ?, ?) ON CONFLICT (provider, app) DO UPDATE SET micros = excluded.micros', args: [provider, app, micros] };
      await database.batch([put, touch(provider, app)], 'write');
    },
    async remove(provider, app) {
      const [gone] = await database.batch([{ sql: 'DELETE FROM caps WHERE provider = ? AND app = ?', args: [provider, app] }, touch(provider, app)], 'write');
      return (gone?.rowsAffected ?? 0) > 0;
    },
    async cappedOf({ id, owner }) {
      const [row] = await rows(
        `SELECT stops.reason, stops.untilWallMs FROM caps LEFT JOIN stops ON stops.appId = ? WHERE caps.provider = ? AND caps.app IN ('', ?) LIMIT 1`,
        [id, owner.provider, owner.app],
      );
      if (row === undefined) return null;
      return { stopped: row['reason'] === null ? null : { reason: String(row['reason']), untilWallMs: Number(row['untilWallMs']) } };
    },
    async apply(provider, { stopped, reached, month }, { currency, wallMs, newId }) {
      const found = await rows('SELECT apps.id, apps.app, stops.reason, stops.untilWallMs FROM apps LEFT JOIN stops ON stops.appId = apps.id WHERE provider = ? AND deletedWallMs IS NULL', [provider]);
      const changes: InStatement[] = found.flatMap((row): InStatement[] => {
        const [id, app] = [Number(row['id']), String(row['app'])];
        const stop = stopped.get(app);
        if (stop === undefined && row['reason'] === null) return [];
        if (stop === undefined) return [{ sql: 'DELETE FROM stops WHERE appId = ?', args: [id] }, touch(provider, app)];
        if (row['reason'] === stop.reason && Number(row['untilWallMs']) === stop.untilWallMs) return [];
        return [{ sql: 'INSERT OR REPLACE INTO stops (appId, reason, untilWallMs) VALUES (?, ?, ?)', args: [id, stop.reason, stop.untilWallMs] }, touch(provider, app)];
      });
      const alerts = reached.map(
        (one): InStatement => ({
          // One that is there already stays as it is.
          sql: `INSERT OR IGNORE INTO alerts (id, provider, app, month, percent, micros, spentMicros, currency, wallMs, nextWallMs, state)
            SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CASE WHEN EXISTS (SELECT 1 FROM webhooks WHERE provider = ?) THEN 'waiting' ELSE 'kept' END
            WHERE (SELECT COUNT(*) FROM alerts WHERE provider = ? AND month = ?) < ?`,
          args: [newId(), provider, one.app, one.month, one.percent, one.micros, one.spentMicros, currency, wallMs, wallMs, provider, provider, month, alertsPerMonthMax],
        }),
      );
      if (changes.length + alerts.length === 0) return false;
      return (await database.batch([...changes, ...alerts], 'write')).some(({ rowsAffected }) => rowsAffected > 0);
    },
    async alerts(provider, most) {
      return (await rows('SELECT * FROM alerts WHERE provider = ? ORDER BY wallMs DESC, percent DESC, app LIMIT ?', [provider, most])).map(alertOf);
    },
    async webhook(provider) {
      const [row] = await rows('SELECT url, secret FROM webhooks WHERE provider = ?', [provider]);
      return row === undefined ? null : { url: String(row['url']), secret: String(row['secret']) };
    },
    async setWebhook(provider, webhook) {
      if (webhook !== null) {
        const { url, secret } = webhook;
        await database.execute({ sql: 'INSERT OR REPLACE INTO webhooks (provider, url, secret) VALUES (?, ?, ?)', args: [provider, url, secret] });
        return;
      }
      await database.batch(
        [
          { sql: 'DELETE FROM webhooks WHERE provider = ?', args: [provider] },
          { sql: "UPDATE alerts SET state = 'kept' WHERE provider = ? AND state = 'waiting'", args: [provider] },
        ],
        'write',
      );
    },
    async waiting() {
      // Of the rows of a group SQLite takes the one that has the minimum.
      const found = await rows("SELECT alerts.*, url, secret, MIN(nextWallMs * 1000 + percent) FROM alerts JOIN webhooks USING (provider) WHERE state = 'waiting' GROUP BY provider");
      return found.map((row) => ({ ...alertOf(row), provider: String(row['provider']), nextWallMs: Number(row['nextWallMs']), url: String(row['url']), secret: String(row['secret']) }));
    },
    async settle(id, { state, attempts, nextWallMs, note }) {
      await database.execute({ sql: "UPDATE alerts SET state = ?, attempts = ?, nextWallMs = ?, note = ? WHERE id = ? AND state = 'waiting'", args: [state, attempts, nextWallMs, note, id] });
    },
  };
}

function alertOf(row: Row): StoredAlert {
  const number = (column: string): number => Number(row[column]);
  const text = (column: string): string => String(row[column]);
  return {
    id: text('id'), app: text('app'), month: text('month'), percent: number('percent') as StoredAlert['percent'], micros: number('micros'), spentMicros: number('spentMicros'),
    currency: text('currency'), wallMs: number('wallMs'), state: text('state') as StoredAlert['state'], attempts: number('attempts'), note: text('note'),
  };
}
