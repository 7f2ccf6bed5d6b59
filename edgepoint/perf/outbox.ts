import type { Client } from '@libsql/client';
import { usageSubject } from '../../kit/wire/subjects.ts';
import { usageMessage } from '../../kit/wire/usage.ts';
import type { UsageRecord } from '../../kit/wire/usage.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import type { OutboxEntry, UsageOutbox } from './record-writer.ts';
import type { ShipperOutbox } from './shipper.ts';
import { saysNothing } from './usage.ts';
import type { UsageState } from './usage.ts';

/** The tables the outbox needs in the head's database: statements for one of its numbered steps. */
export const usageTables: readonly string[] = [
  // One row for each instance with something to send: a later record contains an earlier one, so this cannot grow without end.
  'CREATE TABLE usage_outbox (instance TEXT PRIMARY KEY, sequence INTEGER NOT NULL, id TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL)',
  'CREATE TABLE usage_states (instance TEXT PRIMARY KEY, sequence INTEGER NOT NULL, state TEXT NOT NULL)',
];

export interface DatabaseOutbox extends UsageOutbox, ShipperOutbox {
  /** What to go on from: one state for each instance that had not ended. */
  seeds(): Promise<UsageState[]>;
}

export function openOutbox(client: Client): DatabaseOutbox {
  // Thousands of templates are put to rest with nothing used yet: most records of their deploys would say just that.
  const toSend = (record: UsageRecord) => ({
    sql: `INSERT INTO usage_outbox (instance, sequence, id, subject, text) VALUES (?, ?, ?, ?, ?) ON CONFLICT (instance) DO UPDATE SET
      sequence = excluded.sequence, id = excluded.id, subject = excluded.subject, text = excluded.text WHERE excluded.sequence > sequence`,
    args: [record.instance, record.sequence, record.id, usageSubject(record, record), encodeMessage(usageMessage, record)],
  });
  const toGoOnFrom = (record: UsageRecord, state: UsageState | null) =>
    state === null
      ? { sql: 'DELETE FROM usage_states WHERE instance = ?', args: [record.instance] }
      : {
          sql: `INSERT INTO usage_states (instance, sequence, state) VALUES (?, ?, ?) ON CONFLICT (instance) DO UPDATE SET
            sequence = excluded.sequence, state = excluded.state WHERE excluded.sequence > sequence`,
          args: [record.instance, record.sequence, JSON.stringify(state)],
        };
  const statements = ({ record, state }: OutboxEntry) => [...(saysNothing(record) ? [] : [toSend(record)]), toGoOnFrom(record, state)];

  return {
    async put(entries) {
      await client.batch(entries.flatMap(statements), 'write');
    },
    async seeds() {
      const result = await client.execute('SELECT state FROM usage_states ORDER BY instance');
      // Written by this very program a moment ago, in the same transaction as the record: plain data of a known shape.
      return result.rows.map((row) => JSON.parse(String(row['state'])) as UsageState);
    },
    async waiting(rowsMax) {
      const result = await client.execute({ sql: 'SELECT instance, sequence, id, subject, text FROM usage_outbox ORDER BY rowid LIMIT ?', args: [rowsMax] });
      return result.rows.map((row) => ({
        instance: String(row['instance']),
        sequence: Number(row['sequence']),
        id: String(row['id']),
        subject: String(row['subject']),
        text: String(row['text']),
      }));
    },
    async remove(sent) {
      // A row that a later record has replaced meanwhile stays.
      await client.batch(
        sent.map(({ instance, sequence }) => ({ sql: 'DELETE FROM usage_outbox WHERE instance = ? AND sequence = ?', args: [instance, sequence] })),
        'write',
      );
    },
  };
}

/** An outbox that says when something was put into it. */
export function waking(outbox: ReturnType<typeof openOutbox>, wake: () => void): ReturnType<typeof openOutbox> {
  return {
    ...outbox,
    put: async (entries) => {
      await outbox.put(entries);
      wake();
    },
  };
}
