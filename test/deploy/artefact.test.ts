import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Header } from 'tar';
import t from 'tap';
import type { Test } from 'tap';
import { fetchArtefact, isUnpacked, unpackArtefact } from '../../edgepoint/deploy/artefact.ts';

interface Entry {
  readonly path: string;
  readonly type?: 'File' | 'Directory' | 'SymbolicLink' | 'Link' | 'CharacterDevice' | 'FIFO';
  readonly linkpath?: string;
  readonly text?: string;
  readonly mode?: number;
}

/** Archives that no honest tool would make. */
function tarGz(entries: readonly Entry[]): Buffer {
  const blocks: Buffer[] = [];
  for (const { path, type = 'File', linkpath = '', text = '', mode = 0o644 } of entries) {
    const header = Buffer.alloc(512);
    new Header({ path, type, linkpath, size: Buffer.byteLength(text), mode, mtime: new Date(0), uid: 0, gid: 0 }).encode(header);
    blocks.push(header);
    if (text !== '') blocks.push(Buffer.concat([Buffer.from(text), Buffer.alloc((512 - (Buffer.byteLength(text) % 512)) % 512)]));
  }
  return gzipSync(Buffer.concat([...blocks, Buffer.alloc(1024)]));
}

function place(t: Test): { folder: string; file: string; target: string } {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-artefact-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return { folder, file: join(folder, 'a.tar.gz'), target: join(folder, 'out') };
}

t.test('an honest archive is unpacked whole, readable for every user, without set-uid bits', async (t) => {
  const { file, target } = place(t);
  writeFileSync(
    file,
    tarGz([
      { path: './', type: 'Directory', mode: 0o700 },
      { path: './lib/', type: 'Directory', mode: 0o700 },
      { path: './lib/secret.js', text: 'x', mode: 0o600 },
      { path: './run', text: '#!/bin/sh\n', mode: 0o6755 },
      { path: './link', type: 'SymbolicLink', linkpath: 'lib/secret.js' },
    ]),
  );
  t.notOk(await isUnpacked(target));
  await unpackArtefact(file, target);
  t.ok(await isUnpacked(target));
  const mode = (path: string): string => (statSync(join(target, 'app', path)).mode & 0o7777).toString(8);
  t.equal(mode('run'), '755');
  t.equal(mode('lib/secret.js'), '644');
  t.equal(mode('lib'), '755');
  t.equal(readlinkSync(join(target, 'app/link')), 'lib/secret.js');
  await unpackArtefact(file, target);
  t.ok(await isUnpacked(target), 'and again');
});

const refused: readonly [string, readonly Entry[], string][] = [
  ['a path out of the tree', [{ path: '../evil', text: 'x' }], 'archive-path'],
  ['an absolute path', [{ path: '/etc/evil', text: 'x' }], 'archive-path'],
  ['a link out of the tree', [{ path: 'a', type: 'SymbolicLink', linkpath: '../../etc/passwd' }], 'archive-link'],
  ['a file behind a link', [{ path: 'a', type: 'SymbolicLink', linkpath: 'b' }, { path: 'a/c', text: 'x' }], 'archive-link'],
  ['a hard link out of the tree', [{ path: 'a', type: 'Link', linkpath: '/etc/passwd' }], 'archive-link'],
  ['a device', [{ path: 'sda', type: 'CharacterDevice' }], 'archive-device'],
  ['a fifo', [{ path: 'pipe', type: 'FIFO' }], 'archive-device'],
  ['a path twice', [{ path: 'a', text: 'x' }, { path: 'a', text: 'y' }], 'archive-duplicate'],
];
for (const [story, entries, code] of refused) {
  t.test(`refused before a byte is written: ${story}`, async (t) => {
    const { folder, file, target } = place(t);
    writeFileSync(file, tarGz([{ path: 'first', text: 'good' }, ...entries]));
    await t.rejects(unpackArtefact(file, target), { code });
    t.strictSame(readdirSync(folder), ['a.tar.gz']);
  });
}

t.test('what is no archive, or half of one, is refused', async (t) => {
  const { folder, file, target } = place(t);
  const whole = tarGz([{ path: 'a', text: 'x'.repeat(100_000) }]);
  for (const bytes of [Buffer.from('not a tar.gz'), whole.subarray(0, whole.length - 40)]) {
    writeFileSync(file, bytes);
    await t.rejects(unpackArtefact(file, target), { code: /^(archive|unpack)/ });
    t.strictSame(readdirSync(folder), ['a.tar.gz']);
  }
});

const stream = (bytes: Uint8Array): ReadableStream<Uint8Array> => new Response(Buffer.from(bytes)).body as ReadableStream<Uint8Array>;

t.test('an artefact is what its digest says, or it is nothing', async (t) => {
  const { file } = place(t);
  const bytes = Buffer.from('artefact');
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const order = { digest, bytesMax: bytes.length, file };
  t.strictSame(await fetchArtefact(order, async () => stream(bytes)), { bytes: bytes.length });
  t.equal(readFileSync(file, 'utf8'), 'artefact');
  await t.rejects(fetchArtefact(order, async () => stream(Buffer.from('artefucz'))), { code: 'artefact-corrupt' });
  t.notOk(existsSync(file));
  await t.rejects(fetchArtefact(order, async () => stream(Buffer.from('artefact and more'))), { code: 'artefact-corrupt' });
  await t.rejects(fetchArtefact(order, async () => null), { code: 'artefact-missing' });
});
