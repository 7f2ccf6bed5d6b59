import { createHash } from 'node:crypto';
import { chmodSync, chownSync, closeSync, copyFileSync, createReadStream, existsSync, fsyncSync, linkSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { create } from 'tar';
import { copyDatabase } from '../host/database-copy.ts';
import { codeOf, Failure } from '../kit/errors.ts';
import { contentOf, leftOutOf, manifestName } from './contents.ts';
import type { BackupManifest, Content } from './contents.ts';
import { encrypterOf } from './keys.ts';
import type { KeyOptions } from './keys.ts';

export interface BackupOptions extends KeyOptions {
  readonly dataFolder: string;
  /** The file to make; it must not exist. */
  readonly file: string;
  readonly nowWallMs: number;
  readonly progress: (line: string) => void;
}

export interface Backup {
  readonly bytes: number;
  /** Of the file as it lies there. */
  readonly sha256: string;
  readonly manifest: BackupManifest;
}

/**
 * Makes one encrypted file of what `contents.ts` names, while everything runs. Databases are copied as they stand at one moment; artefacts are
 * named by their content and never change, and are collected before and after the database that names them, for it may name one that is
 * removed meanwhile. The file appears whole or not at all.
 */
export async function makeBackup(options: BackupOptions): Promise<Backup> {
  const { file, progress } = options;
  const dataFolder = resolve(options.dataFolder);
  const encrypter = encrypterOf(options);
  if (existsSync(file)) throw new Failure('file-exists', `${file} is there already`, { remedy: 'Name another file; a backup never replaces one.' });
  if (!existsSync(join(dataFolder, 'conduit')) && !existsSync(join(dataFolder, 'metering'))) throw new Failure('no-data', `${dataFolder} holds neither a conduit nor a ledger`, { remedy: 'Name the data folder of an installation.' });
  const staging = join(dataFolder, `.backup-${process.pid}`);
  removeBrokenOff(dataFolder);
  mkdirSync(staging, { mode: 0o700 });
  const part = `${file}.part`;
  try {
    const manifest = await collect(dataFolder, staging, options);
    progress(`collected ${manifest.files.length} files`);
    const written = await writeEncrypted(part, manifest, staging, encrypter, progress);
    renameSync(part, file);
    syncFolder(dirname(resolve(file)));
    return { ...written, manifest };
  } finally {
    rmSync(staging, { recursive: true, force: true });
    rmSync(part, { force: true });
  }
}

/** What a backup that was killed has left. One that still runs is left alone. */
function removeBrokenOff(dataFolder: string): void {
  for (const name of readdirSync(dataFolder)) {
    const pid = /^\.backup-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(dataFolder, name), { recursive: true, force: true });
  }
}

async function collect(dataFolder: string, staging: string, { nowWallMs, progress }: BackupOptions): Promise<BackupManifest> {
  const takeFiles = (): void => {
    for (const { path, kind } of contentsOf(dataFolder)) if (kind === 'file') take(dataFolder, staging, path);
  };
  takeFiles();
  for (const { path, kind } of contentsOf(dataFolder)) {
    if (kind !== 'database') continue;
    progress(`copying ${path}`);
    const target = join(staging, path);
    mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
    await copyDatabase(join(dataFolder, path), target);
    ownAs(join(dataFolder, path), target);
  }
  takeFiles();
  const files: BackupManifest['files'] = [];
  const folders = new Map<string, BackupManifest['folders'][number]>();
  for (const { path, kind } of contentsOf(staging)) {
    const { uid, gid, mode, size } = statSync(join(staging, path));
    files.push({ path, kind, bytes: size, sha256: await digestOf(join(staging, path)), uid, gid, mode: mode & 0o777 });
    for (const above of foldersAbove(path)) folders.set(above, folderFacts(dataFolder, above));
  }
  return { form: 'edgepoint-backup-1', madeWallMs: nowWallMs, files, folders: [...folders.values()].toSorted((one, other) => (one.path < other.path ? -1 : 1)), leftOut: leftOutOf(foldersIn(dataFolder)) };
}

/** A second name for the same file where that is possible: nothing of it is copied, and it stays when the first one goes. */
function take(dataFolder: string, staging: string, path: string): void {
  const target = join(staging, path);
  if (existsSync(target)) return;
  mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
  try {
    linkSync(join(dataFolder, path), target);
  } catch (thrown) {
    // It has gone since the folder was read.
    if (codeOf(thrown) === 'ENOENT') return;
    if (codeOf(thrown) !== 'EXDEV' && codeOf(thrown) !== 'EPERM') throw thrown;
    copyFileSync(join(dataFolder, path), target);
    ownAs(join(dataFolder, path), target);
  }
}

function ownAs(source: string, target: string): void {
  const { uid, gid, mode } = statSync(source);
  chownSync(target, uid, gid);
  chmodSync(target, mode & 0o777);
}

/** Ordinary files alone; in the order of their paths. */
function contentsOf(folder: string): Content[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => relative(folder, join(entry.parentPath, entry.name)));
  return paths.toSorted().flatMap((path) => contentOf(path) ?? []);
}

function foldersIn(folder: string): string[] {
  const below = (path: string): string[] => readdirSync(join(folder, path), { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => join(path, entry.name));
  return below('').flatMap((path) => [path, ...below(path)]).toSorted();
}

function foldersAbove(path: string): string[] {
  const words = path.split('/').slice(0, -1);
  return words.map((_, index) => words.slice(0, index + 1).join('/'));
}

function folderFacts(dataFolder: string, path: string): BackupManifest['folders'][number] {
  const { uid, gid, mode } = statSync(join(dataFolder, path));
  return { path, uid, gid, mode: mode & 0o7777 };
}

export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}

const tellEveryBytes = 64 * 1024 * 1024;

async function writeEncrypted(part: string, manifest: BackupManifest, staging: string, encrypter: ReturnType<typeof encrypterOf>, progress: (line: string) => void): Promise<{ bytes: number; sha256: string }> {
  writeFileSync(join(staging, manifestName), JSON.stringify(manifest), { mode: 0o600 });
  const packed = create({ gzip: { level: 1 }, cwd: staging, noMtime: true }, [manifestName, ...manifest.files.map(({ path }) => path)]);
  const encrypted = await encrypter.encrypt(streamOf(packed[Symbol.asyncIterator]()));
  const output = await open(part, 'wx', 0o600);
  const hash = createHash('sha256');
  let bytes = 0;
  let told = 0;
  try {
    for await (const chunk of piecesOf(encrypted)) {
      hash.update(chunk);
      await output.writeFile(chunk);
      bytes += chunk.byteLength;
      if (bytes - told < tellEveryBytes) continue;
      told = bytes;
      progress(`${Math.round(bytes / 1024 / 1024)} MiB written`);
    }
    await output.sync();
  } finally {
    await output.close();
  }
  return { bytes, sha256: hash.digest('hex') };
}

/** As the web has it, of what is asked for one piece after the other. */
export function streamOf(pieces: AsyncIterator<Uint8Array>): ReadableStream<Uint8Array> {
  return new ReadableStream({
    pull: async (controller) => {
      const next = await pieces.next();
      if (next.done === true) controller.close();
      else controller.enqueue(new Uint8Array(next.value));
    },
  });
}

/** And back; the types of Node's own conversion know other streams. */
export async function* piecesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  for (;;) {
    const next = await reader.read();
    if (next.done) return;
    yield next.value;
  }
}

export function syncFolder(path: string): void {
  const descriptor = openSync(path, 'r');
  fsyncSync(descriptor);
  closeSync(descriptor);
}
