import { createClient } from '@libsql/client';
import type { Client } from '@libsql/client';
import { Failure, messageOf } from '../kit/errors.ts';
import { alsoGiveBack } from './give-back.ts';
import type { Log } from './log.ts';

/** One numbered step from one form of a database to the next; never changed once released. */
export interface Migration {
  /** 1 and up, in their order. A number may be missing, and come later: what counts is which steps a database has had. */
  readonly number: number;
  readonly name: string;
  readonly sql: string[];
}

/**
 * Opens a libSQL database (`file:`, `libsql://`, `http://`) and brings it to the newest form. Each step and its number are one
 * transaction, so that a crash leaves the database before or after a step, never within. A database that is newer than
 * `migrations` is refused with Failure `database-newer`.
 */
export async function openDatabase(options: { url: string; authToken?: string; migrations: readonly Migration[] }, log: Log): Promise<Client> {
  const { url, authToken, migrations } = options;
  checkNumbers(migrations);
  // A writer waits for another process's writer instead of failing at once.
  const unusable = (thrown: unknown): Failure =>
    thrown instanceof Failure ? thrown : new Failure('database-unusable', `the database ${withoutToken(url)} cannot be used: ${messageOf(thrown)}`, { cause: thrown });
  let client: Client;
  try {
    client = createClient({ url, timeout: 5000, ...(authToken === undefined ? {} : { authToken }) });
  } catch (thrown) {
    throw unusable(thrown);
  }
  try {
    if (url.startsWith('file:')) await tune(client, url);
    await migrate(client, migrations, url, log);
    if (url.startsWith('file:')) givePagesBack(client);
    return client;
  } catch (thrown) {
    client.close();
    throw unusable(thrown);
  }
}

/**
 * Readers and one writer at once, and every commit on the disk before it returns. The journal mode is kept in the file; the
 * client has several connections, so synchronous=FULL must be what the library opens each of them with, which is checked.
 */
async function tune(client: Client, url: string): Promise<void> {
  await client.execute('PRAGMA journal_mode = WAL');
  const { rows } = await client.execute('PRAGMA synchronous');
  const full = 2;
  if (Number(rows[0]?.['synchronous']) < full) throw new Failure('database-unsafe', `the database ${withoutToken(url)} was opened without synchronous=FULL`);
}

/** SQLite keeps up to 2 MB of pages for each connection, which the kernel has in its cache too (PRAGMA shrink_memory). */
function givePagesBack(client: Client): void {
  const forget = alsoGiveBack(() => {
    if (client.closed) return forget();
    client.execute('PRAGMA shrink_memory').catch(() => undefined);
  });
}

async function migrate(client: Client, migrations: readonly Migration[], url: string, log: Log): Promise<void> {
  await client.execute('CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL)');
  const applied = await numbersOf(client);
  const known = new Set(migrations.map(({ number }) => number));
  const newest = Math.max(0, ...known);
  const found = Math.max(0, ...applied);
  if ([...applied].some((number) => !known.has(number))) {
    throw new Failure('database-newer', `the database ${withoutToken(url)} was written by a newer version: its form is ${found}, this version knows up to ${newest}`, {
      remedy: 'Start the newer version again, or restore a copy of the database made before the upgrade.',
    });
  }
  for (const migration of migrations.filter(({ number }) => !applied.has(number))) {
    const recorded = { sql: 'INSERT INTO migration (number, name) VALUES (?, ?)', args: [migration.number, migration.name] };
    try {
      // The number goes first: when two processes open at once, the second one's step fails on it and does nothing.
      await client.batch([recorded, ...migration.sql], 'write');
    } catch (thrown) {
      if ((await numbersOf(client)).has(migration.number)) continue;
      throw new Failure('migration-failed', `step ${migration.number} (${migration.name}) of ${withoutToken(url)} failed and was undone: ${messageOf(thrown)}`, { cause: thrown });
    }
    log.info('database step done', { number: migration.number, step: migration.name });
  }
}

async function numbersOf(client: Client): Promise<Set<number>> {
  const { rows } = await client.execute('SELECT number FROM migration');
  return new Set(rows.map((row) => Number(row['number'])));
}

function checkNumbers(migrations: readonly Migration[]): void {
  if (migrations.length > 0 && migrations[0]?.number !== 1) throw new Error('broken invariant: migrations begin with number 1');
  let last = 0;
  for (const { number, name } of migrations) {
    if (number <= last) throw new Error(`broken invariant: migration ${name} has number ${number}, which is not after ${last}`);
    last = number;
  }
}

function withoutToken(url: string): string {
  return url.split('?')[0] ?? url;
}
