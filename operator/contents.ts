import { z } from 'zod';

/**
 * What a backup of a machine's data folder holds: the ledger, the conduit's database with the artefacts it names, the certifier's, and keys.
 * Everything else is made again from these (the bus and its object stores, templates), or is said to be left out.
 */
export interface Content {
  readonly path: string;
  /** `database`: copied as it stood at one moment, and checked when it is restored. */
  readonly kind: 'database' | 'file';
}

/** Folders of the data folder that are taken whole. */
const wholeFolders: ReadonlySet<string> = new Set(['conduit', 'metering', 'certificates', 'bus']);
/** Of an edgepoint's folder: its own keys, and certificates that the operator put there. */
const edgepointFolders: ReadonlySet<string> = new Set(['keys', 'certificates']);
/** What is left out of an edgepoint's folder and of the data folder, and what that means. */
const leftOut: Readonly<Record<string, string>> = {
  nats: 'the bus: filled again from the database; snapshots of volumes and messages in queues of apps: LOST without the machine',
  logs: 'logs',
  'global-dispatcher': 'a cache',
  snapshots: 'templates: made again by a boot',
  kept: 'what apps with state = "keep" sleep with: LOST without the machine',
  volumes: 'volumes: LOST without the machine',
  'volume-copies': 'copies of volumes under way',
  builds: 'dependencies of builds: installed again',
  artefacts: 'unpacked artefacts: fetched again',
  head: 'what the edgepoint remembers: told again by the conduit',
};

/** What a path in the data folder is to a backup; null: not in it. `path` is relative, with `/` between its words. */
export function contentOf(path: string): Content | null {
  const [top = '', second = '', ...deeper] = path.split('/');
  if (top.startsWith('.') || second === '') return null;
  const taken = wholeFolders.has(top) || (!(top in leftOut) && edgepointFolders.has(second) && deeper.length > 0);
  // What SQLite keeps beside a database is in its copy; an upload under way is nobody's yet.
  if (!taken || /-(wal|shm|journal)$|\.part$/.test(path)) return null;
  return { path, kind: path.endsWith('.db') ? 'database' : 'file' };
}

/** A sentence for each folder that is there and not in the backup. `folders` are relative paths of the first two levels. */
export function leftOutOf(folders: readonly string[]): string[] {
  return folders.flatMap((path) => {
    const words = path.split('/');
    const [top = ''] = words;
    const why = words.length === 1 ? leftOut[top] : wholeFolders.has(top) || top in leftOut ? undefined : leftOut[words[1] ?? ''];
    return why === undefined ? [] : [`${path} (${why})`];
  });
}

export const manifestName = 'backup.json';
const safePath = z.string().max(1000).refine((path) => path.split('/').every((word) => word !== '' && word !== '.' && word !== '..') && contentOf(path) !== null, 'is no path of a backup');

/** `backup.json`, the first entry of the archive: every file of it. */
export const backupManifestSchema = z.object({
  form: z.literal('edgepoint-backup-1'),
  madeWallMs: z.number(),
  files: z
    .array(
      z.object({
        path: safePath,
        kind: z.enum(['database', 'file']),
        bytes: z.int().min(0),
        sha256: z.string().regex(/^[0-9a-f]{64}$/),
        uid: z.int().min(0),
        gid: z.int().min(0),
        mode: z.int().min(0).max(0o777),
      }),
    )
    .max(1_000_000),
  /** Folders they lie in, with whose they are: those above first. */
  folders: z.array(z.object({ path: z.string().max(1000), uid: z.int().min(0), gid: z.int().min(0), mode: z.int().min(0).max(0o7777) })).max(100_000),
  leftOut: z.array(z.string()),
});
export type BackupManifest = z.output<typeof backupManifestSchema>;
