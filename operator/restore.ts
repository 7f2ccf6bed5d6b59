import { chmodSync, chownSync, createReadStream, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract } from 'tar';
import { checkDatabase } from '../host/database-copy.ts';
import { Failure, messageOf } from '../kit/errors.ts';
import { digestOf, piecesOf, streamOf, syncFolder } from './backup.ts';
import { backupManifestSchema, contentOf, manifestName } from './contents.ts';
import type { BackupManifest } from './contents.ts';
import { decrypterOf } from './keys.ts';
import type { KeyOptions } from './keys.ts';

export interface RestoreOptions extends KeyOptions {
  readonly file: string;
  /** It must be empty or absent. */
  readonly dataFolder: string;
  readonly progress: (line: string) => void;
}

/**
 * Makes a data folder of a backup: everything is unpacked beside it, compared with the backup's own list, and renamed into place, so that the
 * folder is whole or not there. Whoever knows a public key can make a file for it: so nothing is taken but plain files under the paths
 * of a backup. Rejects with Failure `backup-unreadable` for a wrong key and for a file that was changed or cut.
 */
export async function restoreBackup(options: RestoreOptions): Promise<BackupManifest> {
  const { file, progress } = options;
  const dataFolder = resolve(options.dataFolder);
  if (process.getuid?.() !== 0) throw new Failure('not-root', 'what is restored belongs to the users of the daemons, so it takes root', { remedy: 'Try again with sudo.' });
  if (existsSync(dataFolder) && readdirSync(dataFolder).length > 0) throw new Failure('not-empty', `${dataFolder} is not empty`, { remedy: 'A backup is restored into an empty folder: move that one away first.' });
  const decrypter = decrypterOf(options);
  const unpacked = `${dataFolder}.restoring`;
  rmSync(unpacked, { recursive: true, force: true });
  mkdirSync(dirname(dataFolder), { recursive: true });
  mkdirSync(unpacked, { mode: 0o700 });
  try {
    await unpack(file, unpacked, decrypter);
    const manifest = readManifest(unpacked);
    progress(`unpacked ${manifest.files.length} files of ${new Date(manifest.madeWallMs).toISOString()}`);
    await checkAll(unpacked, manifest, progress);
    own(unpacked, manifest);
    rmSync(join(unpacked, manifestName));
    chmodSync(unpacked, 0o755);
    if (existsSync(dataFolder)) rmdirSync(dataFolder);
    renameSync(unpacked, dataFolder);
    syncFolder(dirname(dataFolder));
    return manifest;
  } finally {
    rmSync(unpacked, { recursive: true, force: true });
  }
}

async function unpack(file: string, folder: string, decrypter: ReturnType<typeof decrypterOf>): Promise<void> {
  /** What no backup holds; the library does not pass on what a filter throws. */
  const strange: string[] = [];
  try {
    const plain = await decrypter.decrypt(streamOf(createReadStream(file)[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>));
    const filter = (path: string, entry: unknown): boolean => {
      const taken = (entry as { type?: string }).type === 'File' && (path === manifestName || contentOf(path) !== null);
      if (!taken && strange.length === 0) strange.push(path);
      return taken;
    };
    await pipeline(Readable.from(piecesOf(plain), { objectMode: false }), extract({ cwd: folder, strict: true, preserveOwner: false, noChmod: true, filter }));
  } catch (thrown) {
    throw new Failure('backup-unreadable', `${file} cannot be opened: ${messageOf(thrown) || 'it ends too early'}`, { cause: thrown, remedy: 'The key is another one, or the file was changed or cut.' });
  }
  if (strange[0] !== undefined) throw new Failure('backup-hostile', `the backup holds ${JSON.stringify(strange[0])}, which no backup has`);
}

function readManifest(folder: string): BackupManifest {
  const path = join(folder, manifestName);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (thrown) {
    throw new Failure('backup-unreadable', 'it is no backup of edgepoint: it has no list of what it holds', { cause: thrown });
  }
  const parsed = backupManifestSchema.safeParse(value);
  if (!parsed.success) throw new Failure('backup-unreadable', `the backup's list cannot be used: ${parsed.error.issues[0]?.path.join('.')} ${parsed.error.issues[0]?.message}`, { remedy: 'A newer version may have made it.' });
  return parsed.data;
}

/** Each file that is listed is there as listed, and no other. */
async function checkAll(folder: string, manifest: BackupManifest, progress: (line: string) => void): Promise<void> {
  const listed = new Set(manifest.files.map(({ path }) => path));
  const there = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory()).map((entry) => relative(folder, join(entry.parentPath, entry.name)));
  const surplus = there.find((path) => path !== manifestName && !listed.has(path));
  if (surplus !== undefined) throw new Failure('backup-hostile', `the backup holds ${surplus}, which is not in its list`);
  for (const { path, kind, bytes, sha256 } of manifest.files) {
    const full = join(folder, path);
    if (!existsSync(full) || statSync(full).size !== bytes || (await digestOf(full)) !== sha256) throw new Failure('backup-damaged', `${path} is not what the backup's list says`);
    if (kind !== 'database') continue;
    progress(`checking ${path}`);
    await checkDatabase(full);
  }
}

/** Modes after owners: a change of owner takes bits away (chown(2)). */
function own(folder: string, manifest: BackupManifest): void {
  const all = [...manifest.folders.filter(({ path }) => manifest.files.some((file) => file.path.startsWith(`${path}/`))), ...manifest.files];
  for (const { path, uid, gid, mode } of all) {
    chownSync(join(folder, path), uid, gid);
    chmodSync(join(folder, path), mode);
  }
}
