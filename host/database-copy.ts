import { createClient } from '@libsql/client';
import { Failure, messageOf } from '../kit/errors.ts';

const busyMs = 30_000;

/**
 * Copies a libSQL database file that others read and write meanwhile: the copy is what stood there at one moment (VACUUM INTO, a read
 * transaction; in WAL mode writers do not wait for it). `target` must not exist. Rejects with Failure `database-unusable`.
 */
export async function copyDatabase(path: string, target: string): Promise<void> {
  const client = createClient({ url: `file:${path}`, timeout: busyMs });
  try {
    await client.execute({ sql: 'VACUUM INTO ?', args: [target] });
  } catch (thrown) {
    throw new Failure('database-unusable', `the database ${path} cannot be copied: ${messageOf(thrown)}`, { cause: thrown });
  } finally {
    client.close();
  }
}

/** Resolves when the file is a whole database (PRAGMA quick_check); rejects with Failure `database-unusable`. */
export async function checkDatabase(path: string): Promise<void> {
  const client = createClient({ url: `file:${path}`, timeout: busyMs });
  try {
    const said = String((await client.execute('PRAGMA quick_check(1)')).rows[0]?.[0]);
    if (said !== 'ok') throw new Error(said);
  } catch (thrown) {
    throw new Failure('database-unusable', `the database ${path} is damaged: ${messageOf(thrown)}`, { cause: thrown });
  } finally {
    client.close();
  }
}
