import { createClient } from '@libsql/client';
import type { Client } from '@libsql/client';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { ledgerSteps } from '../../metering/schema.ts';

/** The database of an empty ledger; it goes with the test. */
export async function openLedgerDatabase(t: Test): Promise<Client> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-test-ledger-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const client = createClient({ url: `file:${join(folder, 'metering.db')}` });
  t.teardown(() => client.close());
  await client.execute('PRAGMA journal_mode = WAL');
  // What survives a crash is shown with the real daemon (killed.test.ts); here the disk would only make thousands of batches slow.
  await client.execute('PRAGMA synchronous = OFF');
  for (const step of ledgerSteps) await client.batch(step.sql, 'write');
  return client;
}
