import { createClient } from '@libsql/client';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Encrypter } from 'age-encryption';
import { create } from 'tar';
import t from 'tap';
import type { Test } from 'tap';
import { contentOf, leftOutOf } from '../../operator/contents.ts';

interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}
const operator = (...argv: string[]): Promise<Ran> =>
  new Promise((resolve) => {
    execFile('node_modules/.bin/bun', ['operator/main.ts', ...argv], (error, stdout, stderr) => resolve({ exitCode: error === null ? 0 : Number(error.code), stdout, stderr }));
  });

/** A data folder as a world has it, with two databases of real size and files of the daemons' users. */
async function dataFolder(t: Test): Promise<{ root: string; data: string; identity: string; recipient: string }> {
  const root = mkdtempSync(join(tmpdir(), 'edgepoint-backup-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const data = join(root, 'data');
  const write = (path: string, content: string | Uint8Array, uid: number, mode = 0o600): void => {
    mkdirSync(dirname(join(data, path)), { recursive: true });
    writeFileSync(join(data, path), content);
    chmodSync(join(data, path), mode);
    chownSync(join(data, path), uid, uid);
  };
  write('conduit/conduit.key', 'k'.repeat(32), 64_702);
  write('conduit/uploads/artefacts/aa.tar.gz', new Uint8Array(3_000_000).fill(7), 64_702, 0o644);
  write('conduit/uploads/later.part', 'half', 64_702);
  write('paris/keys/edgepoint.pem', 'signs', 0);
  write('paris/head/head.db', 'left out', 64_710);
  write('paris/volumes/a.img', 'left out', 0);
  write('nats/jetstream/x', 'left out', 64_701);
  write('logs/conduit.log', 'left out', 0);
  for (const path of ['conduit/conduit.db', 'metering/metering.db']) {
    mkdirSync(dirname(join(data, path)), { recursive: true });
    const client = createClient({ url: `file:${join(data, path)}` });
    await client.execute('PRAGMA journal_mode = WAL');
    await client.execute('CREATE TABLE pairs (number INTEGER PRIMARY KEY, one INTEGER NOT NULL, other INTEGER NOT NULL, filler TEXT NOT NULL)');
    client.close();
  }
  const key = await operator('new-key');
  const identity = join(root, 'key.txt');
  writeFileSync(identity, key.stdout, { mode: 0o600 });
  return { root, data, identity, recipient: /public key: (age1\S+)/.exec(key.stdout)?.[1] ?? '' };
}

t.test('what is in a backup and what is not', async (t) => {
  const rows: readonly (readonly [path: string, kind: 'database' | 'file' | null])[] = [
    ['metering/metering.db', 'database'],
    ['metering/metering.db-wal', null],
    ['conduit/conduit.key', 'file'],
    ['conduit/uploads/artefacts/aa.tar.gz', 'file'],
    ['conduit/uploads/x.part', null],
    ['certificates/key', 'file'],
    ['paris/keys/edgepoint.pem', 'file'],
    ['paris/certificates/edge.pem', 'file'],
    ['paris/head/head.db', null],
    ['paris/volumes/keys/x', null],
    ['nats/keys/x', null],
    ['.backup-7/conduit/conduit.db', null],
    ['backup.json', null],
  ];
  for (const [path, kind] of rows) t.equal(contentOf(path)?.kind ?? null, kind, path);
  t.same(leftOutOf(['conduit', 'nats', 'nats/kept', 'paris', 'paris/keys', 'paris/volumes']), ['nats (the bus: filled again from the database; snapshots of volumes and messages in queues of apps: LOST without the machine)', 'paris/volumes (volumes: LOST without the machine)']);
});

t.test('a backup under writes is of one moment; it is restored with owners and modes, and nothing else', async (t) => {
  const { root, data, identity, recipient } = await dataFolder(t);
  // Each transaction writes a pair whose sum is 0: a copy that is not of one moment has another sum, or a hole.
  const client = createClient({ url: `file:${join(data, 'metering/metering.db')}`, timeout: 30_000 });
  let writing = true;
  let written = 0;
  const writer = (async () => {
    while (writing) {
      written += 1;
      await client.batch([{ sql: 'INSERT INTO pairs VALUES (?, ?, 0, ?)', args: [written, written, 'x'.repeat(1000)] }, { sql: 'UPDATE pairs SET other = ? WHERE number = ?', args: [-written, written] }], 'write');
      await new Promise((resolve) => setImmediate(resolve));
    }
    client.close();
  })();
  while (written < 500) await new Promise((resolve) => setTimeout(resolve, 5));
  const before = written;
  const file = join(root, 'one.backup');
  const made = await operator('backup', file, '--data', data, '--recipient', recipient, '--json');
  const after = written;
  writing = false;
  await writer;
  t.equal(made.exitCode, 0, made.stderr);
  const told = JSON.parse(made.stdout) as { files: number; sha256: string; leftOut: string[] };
  t.equal(told.files, 5);
  t.equal(told.sha256, createHash('sha256').update(readFileSync(file)).digest('hex'));
  t.match(told.leftOut.join(), /paris\/volumes \(volumes: LOST/);
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.notOk(readFileSync(file).includes('k'.repeat(32)), 'nothing of it is in plain text');
  t.same(readdirSync(data).filter((name) => name.startsWith('.backup')), []);

  const restored = join(root, 'restored');
  t.equal((await operator('restore', file, '--data', restored, '--identity', identity)).exitCode, 0);
  const copy = createClient({ url: `file:${join(restored, 'metering/metering.db')}` });
  const row = (await copy.execute('SELECT count(*), max(number), sum(one + other) FROM pairs')).rows[0];
  copy.close();
  t.equal(Number(row?.[0]), Number(row?.[1]), 'no hole');
  t.equal(Number(row?.[2]), 0, 'no half transaction');
  t.ok(Number(row?.[0]) >= before && Number(row?.[0]) <= after, `${String(row?.[0])} of ${before} to ${after}`);
  const facts = (path: string): unknown => {
    const { uid, gid, mode } = statSync(join(restored, path));
    return [uid, gid, mode & 0o777];
  };
  t.same(facts('conduit/conduit.key'), [64_702, 64_702, 0o600]);
  t.same(facts('conduit/uploads/artefacts/aa.tar.gz'), [64_702, 64_702, 0o644]);
  t.same(readFileSync(join(restored, 'conduit/uploads/artefacts/aa.tar.gz')), readFileSync(join(data, 'conduit/uploads/artefacts/aa.tar.gz')));
  t.same(readdirSync(restored).toSorted(), ['conduit', 'metering', 'paris']);
  t.same(readdirSync(join(restored, 'paris')), ['keys']);
  t.match(await operator('restore', file, '--data', restored, '--identity', identity), { exitCode: 1, stderr: /is not empty/ });
  t.match(await operator('backup', file, '--data', data, '--recipient', recipient), { exitCode: 1, stderr: /is there already/ });
});

t.test('a wrong key, a changed byte, a cut file and a strange archive make no folder', async (t) => {
  const { root, data, identity, recipient } = await dataFolder(t);
  const phrase = join(root, 'phrase');
  writeFileSync(phrase, 'correct horse battery\n', { mode: 0o600 });
  const file = join(root, 'one.backup');
  t.equal((await operator('backup', file, '--data', data, '--passphrase-file', phrase)).exitCode, 0);
  const restored = join(root, 'restored');
  t.equal((await operator('restore', file, '--data', restored, '--passphrase-file', phrase)).exitCode, 0);
  rmSync(restored, { recursive: true });

  const other = join(root, 'other');
  writeFileSync(other, 'incorrect horse battery\n', { mode: 0o600 });
  const bytes = readFileSync(file);
  const spoilt = join(root, 'spoilt');
  const changed = Buffer.from(bytes);
  const at = changed.length - 1000;
  changed[at] = (changed[at] ?? 0) ^ 1;
  const pack = async (files: Record<string, string>, links: Record<string, string> = {}): Promise<Buffer> => {
    const folder = mkdtempSync(join(root, 'pack-'));
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    for (const [path, target] of Object.entries(links)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      symlinkSync(target, join(folder, path));
    }
    const tar = join(folder, 'all.tar.gz');
    await create({ gzip: true, file: tar, cwd: folder, noDirRecurse: true }, [...Object.keys(files), ...Object.keys(links)]);
    const encrypter = new Encrypter();
    encrypter.addRecipient(recipient);
    return Buffer.from(await encrypter.encrypt(readFileSync(tar)));
  };
  const list = (files: unknown[]): string => JSON.stringify({ form: 'edgepoint-backup-1', madeWallMs: 0, files, folders: [], leftOut: [] });
  const listed = (path: string, text: string): unknown => ({ path, kind: 'file', bytes: text.length, sha256: createHash('sha256').update(text).digest('hex'), uid: 0, gid: 0, mode: 0o600 });
  const rows: readonly (readonly [what: string, bytes: Buffer, key: readonly string[], says: RegExp])[] = [
    ['another passphrase', bytes, ['--passphrase-file', other], /cannot be opened/],
    ['another kind of key', bytes, ['--identity', identity], /cannot be opened/],
    ['a changed byte', changed, ['--passphrase-file', phrase], /cannot be opened/],
    ['a cut file', bytes.subarray(0, bytes.length - 200), ['--passphrase-file', phrase], /cannot be opened/],
    ['half of it', bytes.subarray(0, bytes.length >> 1), ['--passphrase-file', phrase], /cannot be opened/],
    ['no list', await pack({ 'conduit/a': 'x' }), ['--identity', identity], /no list of what it holds/],
    ['a file that is not listed', await pack({ 'backup.json': list([]), 'conduit/a': 'x' }), ['--identity', identity], /conduit\/a, which is not in its list/],
    ['a listed file that is missing', await pack({ 'backup.json': list([listed('conduit/a', 'x')]) }), ['--identity', identity], /conduit\/a is not what the backup's list says/],
    ['another content', await pack({ 'backup.json': list([listed('conduit/a', 'x')]), 'conduit/a': 'y' }), ['--identity', identity], /conduit\/a is not what/],
    ['a path that no backup has', await pack({ 'backup.json': list([]), 'etc/x': 'y' }), ['--identity', identity], /"etc\/x", which no backup has/],
    ['a link', await pack({ 'backup.json': list([]) }, { 'conduit/a': '/etc' }), ['--identity', identity], /"conduit\/a", which no backup has/],
    ['a path in the list that leads out', await pack({ 'backup.json': list([listed('conduit/../../x', 'x')]) }), ['--identity', identity], /list cannot be used/],
    ['a broken database', await pack({ 'backup.json': list([{ ...(listed('conduit/a.db', 'no database') as object), kind: 'database' }]), 'conduit/a.db': 'no database' }), ['--identity', identity], /damaged/],
  ];
  for (const [what, content, key, says] of rows) {
    writeFileSync(spoilt, content);
    t.match(await operator('restore', spoilt, '--data', restored, ...key), { exitCode: 1, stderr: says }, what);
    t.notOk(existsSync(restored) || existsSync(`${restored}.restoring`), `${what}: nothing is left`);
  }
  chmodSync(phrase, 0o644);
  t.match(await operator('restore', file, '--data', restored, '--passphrase-file', phrase), { exitCode: 1, stderr: /others may read it/ });
  t.match(await operator('backup', `${file}2`, '--data', data), { exitCode: 1, stderr: /either --recipient or --passphrase-file/ });
  t.match(await operator('backup', `${file}2`, '--data', root, '--recipient', recipient), { exitCode: 1, stderr: /neither a conduit nor a ledger/ });
});

t.test('a backup and a restore that are killed leave no file by that name, and the next one clears up', async (t) => {
  const { root, data, identity, recipient } = await dataFolder(t);
  for (let index = 0; index < 12; index += 1) cpSync(join(data, 'conduit/uploads/artefacts/aa.tar.gz'), join(data, `conduit/uploads/artefacts/b${index}.tar.gz`));
  const file = join(root, 'one.backup');
  const restored = join(root, 'restored');
  /** Killed as soon as it has begun to make something. */
  const killed = async (begun: () => boolean, ...argv: string[]): Promise<void> => {
    const child = spawn('node_modules/.bin/bun', ['operator/main.ts', ...argv], { stdio: 'ignore' });
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    while (!begun() && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 1));
    child.kill('SIGKILL');
    await ended;
  };
  const staged = (): boolean => readdirSync(data).some((name) => name.startsWith('.backup-'));
  await killed(staged, 'backup', file, '--data', data, '--recipient', recipient);
  t.ok(staged(), 'it was killed while it worked');
  t.notOk(existsSync(file));
  t.equal((await operator('backup', file, '--data', data, '--recipient', recipient)).exitCode, 0);
  t.notOk(staged());
  await killed(() => existsSync(`${restored}.restoring`), 'restore', file, '--data', restored, '--identity', identity);
  t.notOk(existsSync(restored));
  t.equal((await operator('restore', file, '--data', restored, '--identity', identity)).exitCode, 0);
  t.notOk(existsSync(`${restored}.restoring`));
});
