import type { Client, Row } from '@libsql/client';
import type { Owner, Site } from '../../kit/ids.ts';
import type { AccessWish } from '../../kit/wire/access.ts';
import type { AccessAnswer } from '../api/answers.ts';

/** Of one provider and of each kind, so that many of one kind do not push out those of another; the oldest go. */
export const accessesKept = 10_000;
export const accessesListedMax = 1000;

export interface AccessEnd {
  readonly tookMs: number;
  /** Empty when it ended as it should. */
  readonly code: string;
  /** Of a session whose command has ended. */
  readonly exitStatus: number | null;
}

/** The record of accesses: who, when, to which instance of which app, which command, how long, how it ended. Nothing of what was said. */
export interface AuditStore {
  /** Durable when it returns; its number. `site` is null when there is none it could go to. */
  begin(about: { owner: Owner; tokenId: string; wish: AccessWish; site: Site | null; begunWallMs: number }): Promise<number>;
  opened(number: number, instance: string): Promise<void>;
  ended(number: number, end: AccessEnd): Promise<void>;
  /** Those that an earlier conduit left open: how long they took nobody knows. */
  endLost(): Promise<void>;
  /** Of an app, deleted ones of its name too; the newest first. */
  list(owner: Owner, last: number): Promise<readonly AccessAnswer[]>;
}

export function openAuditStore(database: Client): AuditStore {
  return {
    async begin({ owner, tokenId, wish, site, begunWallMs }) {
      const { provider, scope, app } = owner;
      const terminal = wish.session === undefined || wish.session.terminal === null ? 0 : 1;
      const command = JSON.stringify(wish.session?.command ?? []);
      const [, inserted] = await database.batch(
        [
          {
            sql: `DELETE FROM accesses WHERE provider = ?1 AND kind = ?2 AND number <=
              (SELECT number FROM accesses WHERE provider = ?1 AND kind = ?2 ORDER BY number DESC LIMIT 1 OFFSET ?3)`,
            args: [provider, wish.kind, accessesKept - 1],
          },
          {
            sql: `INSERT INTO accesses (provider, scope, app, tokenId, kind, port, command, terminal, zone, edgepoint, begunWallMs)
              VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
            args: [provider, scope, app, tokenId, wish.kind, wish.port ?? null, command, terminal, site?.zone ?? '', site?.edgepoint ?? '', begunWallMs],
          },
        ],
        'write',
      );
      return Number(inserted?.lastInsertRowid);
    },
    async opened(number, instance) {
      await database.execute({ sql: 'UPDATE accesses SET instance = ? WHERE number = ?', args: [instance, number] });
    },
    async ended(number, { tookMs, code, exitStatus }) {
      await database.execute({ sql: 'UPDATE accesses SET tookMs = ?, code = ?, exitStatus = ? WHERE number = ?', args: [tookMs, code, exitStatus, number] });
    },
    async endLost() {
      await database.execute("UPDATE accesses SET code = 'conduit-lost' WHERE code IS NULL");
    },
    async list({ provider, scope, app }, last) {
      const { rows } = await database.execute({ sql: 'SELECT * FROM accesses WHERE provider = ? AND scope = ? AND app = ? ORDER BY number DESC LIMIT ?', args: [provider, scope, app, last] });
      return rows.map(answerOf);
    },
  };
}

function answerOf(row: Row): AccessAnswer {
  const numberOrNull = (name: string): number | null => (row[name] === null ? null : Number(row[name]));
  return {
    kind: String(row['kind']),
    tokenId: String(row['tokenId']),
    port: numberOrNull('port'),
    command: JSON.parse(String(row['command'])) as string[],
    terminal: row['terminal'] === 1,
    edgepoint: row['zone'] === '' ? '' : `${String(row['zone'])}/${String(row['edgepoint'])}`,
    instance: String(row['instance']),
    begunWallMs: Number(row['begunWallMs']),
    tookMs: numberOrNull('tookMs'),
    code: row['code'] === null ? null : String(row['code']),
    exitStatus: numberOrNull('exitStatus'),
  };
}
