import type { Client, InStatement, InValue, Row } from '@libsql/client';
import { createHash } from 'node:crypto';
import { parseMessage } from '../kit/wire/version.ts';
import { monthOf } from '../kit/wire/spending.ts';
import { usageMessage } from '../kit/wire/usage.ts';
import type { UsageRecord } from '../kit/wire/usage.ts';
import { judge } from './judge.ts';
import type { KnownInstance, Limits, RefusalCode } from './judge.ts';
import type { AppUsage } from './rating.ts';
import { counters, exactTotals, zeroTotals } from './totals.ts';
import type { ExactTotals } from './totals.ts';

/** A message as it came from the stream. */
export interface UsageMessage {
  readonly subject: string;
  readonly text: string;
}

export interface Refused extends UsageMessage {
  readonly code: RefusalCode;
  readonly reason: string;
}

/** A message that was set aside, as stored. */
export interface RefusedRow {
  readonly subject: string;
  readonly code: string;
  readonly reason: string;
  readonly firstWallMs: number;
  readonly times: number;
}

/** What became of a batch. */
export interface Outcome {
  readonly counted: number;
  readonly repeated: number;
  readonly refused: readonly Refused[];
  /** Of whom something was counted, each once. */
  readonly apps: readonly AppName[];
}

/** An app, with its canary. */
export interface AppName {
  readonly provider: string;
  readonly app: string;
}

export interface LedgerOptions {
  readonly client: Client;
  readonly operator: string;
  readonly limits: Limits;
  /** Says in which month something is used: that in which it is taken in. Otherwise a label of refused messages. */
  readonly wallMs: () => number;
}

/**
 * The ledger. `record` is idempotent: a batch written twice, in parts or by two processes changes nothing, and when it
 * returns the batch is on the disk (synchronous=FULL). It throws what the database throws, having written nothing.
 */
export interface Ledger {
  record(messages: readonly UsageMessage[]): Promise<Outcome>;
  /** By app, in order; empty when nothing was ever used. `app` empty means all. */
  usage(provider: string, app: string): Promise<AppUsage[]>;
  /** What one provider's apps used in a month, as `usage`; what no app of it used is not there. */
  usageIn(month: string, provider: string, app: string): Promise<AppUsage[]>;
  /** The apps that used something in a month. */
  appsIn(month: string): Promise<AppName[]>;
  /** What was set aside, oldest first. */
  refusedRows(rowsMax: number): Promise<RefusedRow[]>;
  /** The names of the apps that used something, for an answer that helps. */
  appsOf(provider: string): Promise<string[]>;
}

/** A payload is kept for a person to read, not to be played again. */
const refusedPayloadCharactersMax = 4096;
/** Refused messages kept whole for each edgepoint; further ones are only counted, by code. */
const refusedRowsMax = 10_000;
const attemptsMax = 3;

/** As text: a column may hold more than a double can, and the client refuses those as numbers. */
const counterTexts = counters.map(({ column }) => `CAST(${column} AS TEXT) AS ${column}`).join(', ');

const recordColumns = [
  'operator', 'zone', 'edgepoint', 'provider', 'scope', 'app', 'release', 'instance', 'sequence', 'id', 'boot_id', 'from_boot_ns', 'to_boot_ns', 'wall_ms', 'final',
  ...counters.map(({ column }) => column),
];
const instanceColumns = [
  'operator', 'zone', 'edgepoint', 'provider', 'scope', 'app', 'release', 'instance', 'boot_id', 'sequence', 'final', 'records', 'month',
  ...counters.map(({ column }) => column),
];

/** max() makes it commute, so that two processes on one ledger cannot lower a total. */
const raiseInstance = `ON CONFLICT (zone, edgepoint, instance) DO UPDATE SET
  release = max(release, excluded.release), sequence = max(sequence, excluded.sequence), final = max(final, excluded.final),
  records = records + excluded.records, month = max(month, excluded.month), ${counters.map(({ column }) => `${column} = max(${column}, excluded.${column})`).join(', ')}`;

/** Rows of one statement: many rows in one cost a third of as many statements. */
const rowsOfStatementMax = 100;

function insertRows(table: string, columns: readonly string[], rows: readonly (readonly InValue[])[], conflict: string): InStatement[] {
  const statements: InStatement[] = [];
  const marks = `(${columns.map(() => '?').join(', ')})`;
  for (let from = 0; from < rows.length; from += rowsOfStatementMax) {
    const some = rows.slice(from, from + rowsOfStatementMax);
    statements.push({
      sql: `INSERT INTO ${table} (${columns.join(', ')}) VALUES ${some.map(() => marks).join(', ')} ${conflict}`,
      args: some.flat(),
    });
  }
  return statements;
}

const insertRefused = `INSERT INTO refused (digest, operator, site, subject, code, reason, payload, first_wall_ms, times)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (digest) DO UPDATE SET times = times + 1`;

const values = (totals: ExactTotals): bigint[] => counters.map(({ name }) => totals[name]);

function totalsOf(row: Row): ExactTotals {
  const totals = { ...zeroTotals };
  for (const { name, column } of counters) totals[name] = BigInt(String(row[column]));
  return totals;
}

const instanceKey = (record: { zone: string; edgepoint: string; instance: string }): string =>
  `${record.zone}.${record.edgepoint}/${record.instance}`;
const recordKey = (record: { zone: string; edgepoint: string; id: string }): string => `${record.zone}.${record.edgepoint}/${record.id}`;
/** `usage.<zone>.<edgepoint>.…`: the part of a subject that the server has checked against the sender's credentials. */
const siteOf = (subject: string): string => subject.split('.').slice(1, 3).join('.');

/** A batch being judged: what was known before it, brought up to date record by record. */
interface Judged {
  readonly instances: Map<string, { record: UsageRecord; known: KnownInstance; records: number }>;
  readonly records: UsageRecord[];
  readonly refused: Refused[];
  repeated: number;
}

async function readKnown(client: Client, records: readonly UsageRecord[]): Promise<[Map<string, KnownInstance>, Map<string, ExactTotals>]> {
  const marks = records.map(() => '(?, ?, ?)').join(', ');
  const [instances, ids] = await client.batch(
    [
      {
        sql: `SELECT zone, edgepoint, instance, provider, scope, app, release, boot_id, sequence, final, ${counterTexts}
          FROM instances WHERE (zone, edgepoint, instance) IN (VALUES ${marks})`,
        args: records.flatMap((record) => [record.zone, record.edgepoint, record.instance]),
      },
      {
        sql: `SELECT zone, edgepoint, id, ${counterTexts} FROM records WHERE (zone, edgepoint, id) IN (VALUES ${marks})`,
        args: records.flatMap((record) => [record.zone, record.edgepoint, record.id]),
      },
    ],
    'read',
  );
  const known = new Map<string, KnownInstance>();
  for (const row of instances?.rows ?? []) {
    known.set(instanceKey({ zone: String(row['zone']), edgepoint: String(row['edgepoint']), instance: String(row['instance']) }), {
      provider: String(row['provider']),
      scope: String(row['scope']),
      app: String(row['app']),
      release: Number(row['release']),
      bootId: String(row['boot_id']),
      sequence: Number(row['sequence']),
      totals: totalsOf(row),
      final: Number(row['final']) === 1,
    });
  }
  const stored = new Map<string, ExactTotals>();
  for (const row of ids?.rows ?? []) {
    stored.set(recordKey({ zone: String(row['zone']), edgepoint: String(row['edgepoint']), id: String(row['id']) }), totalsOf(row));
  }
  return [known, stored];
}

function judgeAll(
  parsed: readonly { message: UsageMessage; record: UsageRecord }[],
  known: Map<string, KnownInstance>,
  stored: Map<string, ExactTotals>,
  limits: Limits,
): Judged {
  const judged: Judged = { instances: new Map(), records: [], refused: [], repeated: 0 };
  for (const { message, record } of parsed) {
    const key = instanceKey(record);
    const verdict = judge(message.subject, record, known.get(key), stored.get(recordKey(record)), limits);
    if (verdict.kind === 'repeat') judged.repeated += 1;
    if (verdict.kind === 'refuse') judged.refused.push({ ...message, code: verdict.code, reason: verdict.reason });
    if (verdict.kind !== 'count') continue;
    known.set(key, verdict.instance);
    stored.set(recordKey(record), exactTotals(record.totals));
    judged.records.push(record);
    judged.instances.set(key, { record, known: verdict.instance, records: (judged.instances.get(key)?.records ?? 0) + 1 });
  }
  return judged;
}

export function openLedger({ client, operator, limits, wallMs }: LedgerOptions): Ledger {
  const recordRow = (record: UsageRecord): InValue[] => [
    operator, record.zone, record.edgepoint, record.provider, record.scope, record.app, record.release, record.instance, record.sequence,
    record.id, record.bootId, Math.floor(record.fromBootNs), Math.floor(record.toBootNs), Math.floor(record.wallMs), record.final ? 1 : 0,
    ...values(exactTotals(record.totals)),
  ];

  const instanceRow = ({ record, known, records }: { record: UsageRecord; known: KnownInstance; records: number }): InValue[] => [
    operator, record.zone, record.edgepoint, known.provider, known.scope, known.app, known.release, record.instance, known.bootId,
    known.sequence, known.final ? 1 : 0, records, monthOf(wallMs()), ...values(known.totals),
  ];

  async function refusedStatements(refused: readonly Refused[]): Promise<InStatement[]> {
    const rows = new Map<string, number>();
    for (const site of new Set(refused.map(({ subject }) => siteOf(subject)))) {
      const result = await client.execute({ sql: 'SELECT count(*) AS n FROM refused WHERE site = ?', args: [site] });
      rows.set(site, Number(result.rows[0]?.['n'] ?? 0));
    }
    return refused.map(({ subject, text, code, reason }) => {
      const site = siteOf(subject);
      const overflows = (rows.get(site) ?? 0) >= refusedRowsMax;
      rows.set(site, (rows.get(site) ?? 0) + 1);
      const digest = overflows ? `further ${site} ${code}` : createHash('sha256').update(`${subject}\n${text}`).digest('hex');
      const payload = overflows ? '' : text.slice(0, refusedPayloadCharactersMax);
      return { sql: insertRefused, args: [digest, operator, site, subject, code, reason.slice(0, 1000), payload, wallMs()] };
    });
  }

  async function recordOnce(messages: readonly UsageMessage[]): Promise<Outcome> {
    const parsed: { message: UsageMessage; record: UsageRecord }[] = [];
    const poison: Refused[] = [];
    for (const message of messages) {
      const result = parseMessage(usageMessage, message.text);
      if (result.ok) parsed.push({ message, record: result.value });
      else poison.push({ ...message, code: 'not-understood', reason: result.reason });
    }
    const [known, stored] = parsed.length > 0 ? await readKnown(client, parsed.map(({ record }) => record)) : [new Map(), new Map()];
    const judged = judgeAll(parsed, known, stored, limits);
    const refused = [...poison, ...judged.refused];
    const statements = [
      ...insertRows('records', recordColumns, judged.records.map(recordRow), ''),
      ...insertRows('instances', instanceColumns, [...judged.instances.values()].map(instanceRow), raiseInstance),
      ...(await refusedStatements(refused)),
    ];
    if (statements.length > 0) await client.batch(statements, 'write');
    const apps = new Map(judged.records.map(({ provider, app }) => [`${provider}.${app}`, { provider, app }]));
    return { counted: judged.records.length, repeated: judged.repeated, refused, apps: [...apps.values()] };
  }

  /** By scope and app. SQLite's sum() fails above 2^63: whole mebi-units and the rest are summed apart and put together without a bound. */
  async function sums(instances: string, from: string, args: InValue[]): Promise<AppUsage[]> {
    const parts = counters.map(({ column }) => `CAST(sum(${column} / 1048576) AS TEXT) AS ${column}_high, CAST(sum(${column} % 1048576) AS TEXT) AS ${column}_low`);
    const result = await client.execute({ sql: `SELECT scope, app, ${instances} AS instances, ${parts.join(', ')} ${from} GROUP BY scope, app ORDER BY scope, app`, args });
    return result.rows.map((row) => {
      const totals = { ...zeroTotals };
      for (const { name, column } of counters) {
        totals[name] = BigInt(String(row[`${column}_high`])) * 1_048_576n + BigInt(String(row[`${column}_low`]));
      }
      return { scope: String(row['scope']), app: String(row['app']), instances: Number(row['instances']), totals };
    });
  }

  return {
    async record(messages) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await recordOnce(messages);
        } catch (failure) {
          // Another process has written one of these records since they were looked up: judge again with what it wrote.
          if (attempt >= attemptsMax || !String(failure).includes('UNIQUE constraint failed: records')) throw failure;
        }
      }
    },

    usage: (provider, app) => sums("count(*)", "FROM instances WHERE operator = ? AND provider = ? AND (? = '' OR app = ?)", [operator, provider, app, app]),
    usageIn: (month, provider, app) => sums('0', `FROM months WHERE operator = ? AND month = ? AND provider = ?${app === '' ? '' : ' AND app = ?'}`, [operator, month, provider, ...(app === '' ? [] : [app])]),

    async appsIn(month) {
      const result = await client.execute({ sql: 'SELECT DISTINCT provider, app FROM months WHERE operator = ? AND month = ?', args: [operator, month] });
      return result.rows.map((row) => ({ provider: String(row['provider']), app: String(row['app']) }));
    },

    async refusedRows(rowsMax) {
      const result = await client.execute({ sql: 'SELECT subject, code, reason, first_wall_ms, times FROM refused ORDER BY first_wall_ms, digest LIMIT ?', args: [rowsMax] });
      return result.rows.map((row) => ({
        subject: String(row['subject']),
        code: String(row['code']),
        reason: String(row['reason']),
        firstWallMs: Number(row['first_wall_ms']),
        times: Number(row['times']),
      }));
    },

    async appsOf(provider) {
      const result = await client.execute({
        sql: 'SELECT DISTINCT app FROM instances WHERE operator = ? AND provider = ? ORDER BY app LIMIT 100',
        args: [operator, provider],
      });
      return result.rows.map((row) => String(row['app']));
    },
  };
}
