import t from 'tap';
import type { Test } from 'tap';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDatabase } from '../../host/database.ts';
import type { Migration } from '../../host/database.ts';
import { quietLog as log, until } from './nats.ts';

const steps: readonly Migration[] = [
  { number: 1, name: 'apps', sql: ['CREATE TABLE app (name TEXT PRIMARY KEY)', "INSERT INTO app VALUES ('first')"] },
  { number: 2, name: 'releases', sql: ['ALTER TABLE app ADD COLUMN release INTEGER NOT NULL DEFAULT 1', "UPDATE app SET release = 7 WHERE name = 'first'"] },
];

function databaseUrl(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-database-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return `file:${join(folder, 'test.db')}`;
}

t.test('steps are done once and in order, also on a database of an older version', async (t) => {
  const url = databaseUrl(t);
  const old = await openDatabase({ url, migrations: steps.slice(0, 1) }, log);
  await old.execute("INSERT INTO app VALUES ('second')");
  old.close();
  for (const opening of ['the upgrade', 'the next start']) {
    const client = await openDatabase({ url, migrations: steps }, log);
    const { rows } = await client.execute('SELECT name, release FROM app ORDER BY name');
    t.strictSame(rows.map((row) => [row['name'], row['release']]), [['first', 7], ['second', 1]], opening);
    t.equal((await client.execute('PRAGMA journal_mode')).rows[0]?.['journal_mode'], 'wal');
    t.equal(Number((await client.execute('PRAGMA synchronous')).rows[0]?.['synchronous']), 2);
    client.close();
  }
});

t.test('a newer database is refused, and not touched', async (t) => {
  const url = databaseUrl(t);
  (await openDatabase({ url, migrations: steps }, log)).close();
  await t.rejects(openDatabase({ url, migrations: steps.slice(0, 1) }, log), { code: 'database-newer', message: /its form is 2, this version knows up to 1/, remedy: /newer version/ });
  (await openDatabase({ url, migrations: steps }, log)).close();
});

t.test('a step that fails half way leaves nothing of itself', async (t) => {
  const url = databaseUrl(t);
  const broken: Migration = { number: 2, name: 'broken', sql: ['CREATE TABLE half (x)', "INSERT INTO app VALUES ('half')", 'INSERT INTO nowhere VALUES (1)'] };
  await t.rejects(openDatabase({ url, migrations: [...steps.slice(0, 1), broken] }, log), { code: 'migration-failed', message: /step 2 \(broken\)/ });
  const client = await openDatabase({ url, migrations: steps.slice(0, 1) }, log);
  t.equal((await client.execute("SELECT name FROM sqlite_master WHERE name = 'half'")).rows.length, 0);
  t.equal((await client.execute('SELECT * FROM app')).rows.length, 1);
  client.close();
  const repaired = await openDatabase({ url, migrations: steps }, log);
  t.equal((await repaired.execute('SELECT max(number) AS number FROM migration')).rows[0]?.['number'], 2);
  repaired.close();
});

t.test('a process killed in the middle of a step leaves the database before it', async (t) => {
  const url = databaseUrl(t);
  (await openDatabase({ url, migrations: steps.slice(0, 1) }, log)).close();
  // The step writes for far longer than the test waits.
  const program = `
    const { openDatabase } = await import('./host/database.ts');
    const say = { debug() {}, info() {}, warn() {}, error() {}, with() { return say; } };
    const slow = { number: 2, name: 'slow', sql: ['CREATE TABLE half (x)', "INSERT INTO app VALUES ('half')",
      'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 200000000) INSERT INTO half SELECT max(x) FROM c'] };
    process.stdout.write('begins');
    await openDatabase({ url: process.argv.at(-1), migrations: [${JSON.stringify(steps[0])}, slow] }, say);`;
  const child = spawn('node_modules/.bin/bun', ['-e', program, url], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout.on('data', (bytes: Buffer) => void (output += bytes.toString()));
  await until('it is within the step', async () => {
    if (output !== 'begins') return false;
    // Somebody else's write is refused only while the step's transaction is open.
    const probe = spawnSync('node', ['-e', `const db = new (require('libsql'))(process.argv[1]); db.exec('BEGIN IMMEDIATE; ROLLBACK')`, url.slice(5)], { encoding: 'utf8' });
    return /locked|busy/i.test(probe.stderr);
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
  const client = await openDatabase({ url, migrations: steps }, log);
  t.equal((await client.execute("SELECT name FROM sqlite_master WHERE name = 'half'")).rows.length, 0);
  t.strictSame((await client.execute('SELECT name, release FROM app')).rows.map((row) => [row['name'], row['release']]), [['first', 7]]);
  client.close();
});

t.test('two processes that open at once do each step once', async (t) => {
  const url = databaseUrl(t);
  const clients = await Promise.all(Array.from({ length: 4 }, () => openDatabase({ url, migrations: steps }, log)));
  t.equal((await clients[0]?.execute('SELECT count(*) AS count FROM app'))?.rows[0]?.['count'], 1);
  for (const client of clients) client.close();
});

t.test('a step that comes late is made up for', async (t) => {
  const url = databaseUrl(t);
  const third: Migration = { number: 3, name: 'third', sql: ["UPDATE app SET name = 'third'"] };
  (await openDatabase({ url, migrations: [...steps.slice(0, 1), third] }, log)).close();
  await t.rejects(openDatabase({ url, migrations: steps }, log), { code: 'database-newer' }, 'a step that is not known here was done');
  const client = await openDatabase({ url, migrations: [...steps, third] }, log);
  t.strictSame((await client.execute('SELECT number FROM migration ORDER BY number')).rows.map((row) => row['number']), [1, 2, 3]);
  t.strictSame((await client.execute('SELECT name, release FROM app')).rows.map((row) => [row['name'], row['release']]), [['third', 1]], 'each once');
  client.close();
});

t.test('numbers begin with one and go up, and an unusable place is said', async (t) => {
  await t.rejects(openDatabase({ url: databaseUrl(t), migrations: [...steps].reverse() }, log), /broken invariant/);
  await t.rejects(openDatabase({ url: databaseUrl(t), migrations: steps.slice(1) }, log), /broken invariant/);
  await t.rejects(openDatabase({ url: 'file:/nowhere/at/all.db', migrations: steps }, log), { code: 'database-unusable' });
});
