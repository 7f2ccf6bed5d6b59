import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, read, rmSync, writeFileSync } from 'node:fs';
import { lstat, readFile, readdir, readlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { createGzip } from 'node:zlib';
import { create } from 'tar';
import { judgeEntry, openJudgement } from '../../kit/archive.ts';
import type { ArchiveEntry } from '../../kit/archive.ts';
import { Failure, codeOf } from '../../kit/errors.ts';
import { parseIgnoreRules } from './ignore.ts';

export interface PackedFolder {
  readonly digest: string;
  readonly bytes: number;
  readonly files: number;
  readonly unpackedBytes: number;
  /** Its bytes from the beginning; `dispose` waits for nobody who reads. */
  read(): AsyncIterable<Uint8Array>;
  /** Gives the packed file's room back; once. */
  dispose(): void;
}

const readBytes = 256 * 1024;
const readAt = promisify(read);

/** Any fixed time would do: the digest must depend on the contents alone. */
const fixedTime = new Date('2000-01-01T00:00:00Z');

/**
 * Packs a folder as tar.gz in a temporary file without a name, so that nothing is left however the command ends. The same contents give the same digest: entries stand in the order of their names,
 * with fixed times and owners. What the conduit would refuse is refused here already, before anything is sent. `without`: names at its root
 * that are left out.
 */
export async function packFolder(folder: string, onProgress: (files: number, bytes: number) => void, without: readonly string[] = []): Promise<PackedFolder> {
  const { paths, unpackedBytes } = await listFolder(folder, without);
  const fd = openUnnamed();
  try {
    const hash = createHash('sha256');
    let bytes = 0;
    let files = 0;
    const archive = create({ cwd: folder, portable: true, mtime: fixedTime, noDirRecurse: true, onWriteEntry: () => (files += 1) }, paths.map((entry) => `./${entry}`));
    await pipeline(archive, createGzip({ level: 6 }), async (packed: AsyncIterable<Buffer>) => {
      for await (const chunk of packed) {
        hash.update(chunk);
        bytes += chunk.length;
        writeFileSync(fd, chunk);
        onProgress(files, bytes);
      }
    });
    return {
      digest: `sha256:${hash.digest('hex')}`,
      bytes,
      files: paths.length,
      unpackedBytes,
      read: () => piecesOf(fd),
      dispose: () => closeSync(fd),
    };
  } catch (thrown) {
    closeSync(fd);
    throw thrown;
  }
}

async function* piecesOf(fd: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; ; ) {
    const { bytesRead, buffer } = await readAt(fd, Buffer.alloc(readBytes), 0, readBytes, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** A file that only its descriptor leads to: it is gone with this process, also with one that is killed (unlink(2)). */
function openUnnamed(): number {
  const room = mkdtempSync(join(tmpdir(), 'conduit-'));
  try {
    return openSync(join(room, 'artefact.tar.gz'), 'wx+', 0o600);
  } finally {
    rmSync(room, { recursive: true, force: true });
  }
}

/** The paths to pack, below the folder, in order. */
async function listFolder(folder: string, without: readonly string[]): Promise<{ paths: string[]; unpackedBytes: number }> {
  const rules = parseIgnoreRules(await readIgnoreFile(folder));
  const judgement = openJudgement();
  const paths: string[] = [];
  const visit = async (above: string): Promise<void> => {
    const entries = await readdir(join(folder, above), { withFileTypes: true });
    entries.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
    for (const entry of entries) {
      const path = above === '' ? entry.name : `${above}/${entry.name}`;
      if (without.includes(path) || rules.ignores(path, entry.isDirectory())) continue;
      const verdict = judgeEntry(judgement, await describe(folder, path), Number.POSITIVE_INFINITY);
      if (!verdict.ok) throw new Failure(verdict.code, `the folder cannot be deployed: ${verdict.reason}`, { remedy: 'Name it in .edgepointignore, or replace it.' });
      paths.push(path);
      if (entry.isDirectory()) await visit(path);
    }
  };
  await visit('');
  return { paths, unpackedBytes: judgement.unpackedBytes };
}

async function describe(folder: string, path: string): Promise<ArchiveEntry> {
  const found = await lstat(join(folder, path));
  const plain = { path, kindName: '', bytes: 0, target: '' };
  if (found.isDirectory()) return { ...plain, kind: 'directory' };
  if (found.isFile()) return { ...plain, kind: 'file', bytes: found.size };
  if (found.isSymbolicLink()) return { ...plain, kind: 'symlink', target: await readlink(join(folder, path)) };
  return { ...plain, kind: 'other', kindName: found.isFIFO() ? 'fifo' : found.isSocket() ? 'socket' : 'device' };
}

async function readIgnoreFile(folder: string): Promise<string> {
  try {
    return await readFile(join(folder, '.edgepointignore'), 'utf8');
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return '';
    throw thrown;
  }
}
