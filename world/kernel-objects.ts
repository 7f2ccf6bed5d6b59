import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { run } from './command.ts';
import { isAlive, journalledWorlds, processIdentity } from './journal.ts';
import type { Journal } from './journal.ts';
import { defaultDataFolder, worldIdPattern, worldNames } from './plan.ts';

/** Everything on this machine that carries the id of one world. Looked up afresh in the kernel; the journal only adds to it. */
export interface KernelObjects {
  readonly processes: readonly FoundProcess[];
  readonly netns: readonly string[];
  readonly links: readonly string[];
  /** Deepest first. */
  readonly mounts: readonly string[];
  readonly loops: readonly string[];
  readonly nftTables: readonly string[];
  /** Deepest first. */
  readonly cgroups: readonly string[];
}

export interface FoundProcess {
  readonly pid: number;
  readonly command: string;
  /** It lives in the cgroup of an instance: restored leaves instances running when it ends, for it may be started again. */
  readonly isOfInstance: boolean;
}

export const environmentMark = (id: string): string => `EDGEPOINT_WORLD=${id}`;

/** Folders of a world. Below `mounts` every mount is the world's; a loop device on a file in `files` is. */
export interface WorldFolders {
  readonly mounts: readonly string[];
  readonly files: readonly string[];
}

export async function findKernelObjects(id: string, journal: Journal, folders: WorldFolders): Promise<KernelObjects> {
  const prefix = worldNames.prefix(id);
  const cgroups = findCgroups(id);
  return {
    processes: findProcesses(id, journal, cgroups),
    netns: listFolder('/run/netns').filter((name) => name.startsWith(prefix)),
    links: listFolder('/sys/class/net').filter((name) => name.startsWith(prefix)),
    mounts: mountsBelow(folders.mounts),
    loops: loopsOn(folders.files),
    nftTables: await findNftTables(id),
    cgroups,
  };
}

export function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // not there: nothing of that kind
  }
}

/** In every hierarchy, version 1 or 2; deepest first, so that rmdir(2) in this order succeeds. */
function findCgroups(id: string): string[] {
  const name = worldNames.cgroup(id);
  return cgroupHierarchies().flatMap((root) => (existsSync(join(root, name)) ? foldersDeepestFirst(join(root, name)) : []));
}

export function cgroupHierarchies(): string[] {
  return readMounts().flatMap((mount) => (mount.type === 'cgroup' || mount.type === 'cgroup2' ? [mount.path] : []));
}

function foldersDeepestFirst(folder: string): string[] {
  const below = readdirSync(folder, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? foldersDeepestFirst(join(folder, entry.name)) : []));
  return [...below, folder];
}

interface Mount {
  readonly path: string;
  readonly type: string;
}

/** proc_pid_mountinfo(5): field 5 is the mount point with octal escapes, the type follows the lone hyphen. */
function readMounts(): Mount[] {
  return readFileSync('/proc/self/mountinfo', 'utf8').split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const path = fields[4];
    if (path === undefined) return [];
    return [{ path: path.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))), type: fields[fields.indexOf('-') + 1] ?? '' }];
  });
}

export function mountsBelow(folders: readonly string[]): string[] {
  const roots = folders.map(realPath);
  return readMounts().map((mount) => mount.path).filter((path) => roots.some((root) => isWithin(path, root))).toReversed();
}

function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // gone: a mount on it would keep it
  }
}

function loopsOn(folders: readonly string[]): string[] {
  const roots = folders.map(realPath);
  return listFolder('/sys/block').filter((name) => name.startsWith('loop')).flatMap((name) => {
    const path = join('/sys/block', name, 'loop/backing_file');
    const backing = existsSync(path) ? readFileSync(path, 'utf8').trim() : '';
    return roots.some((root) => isWithin(backing, root)) ? [`/dev/${name}`] : [];
  });
}

async function findNftTables(id: string): Promise<string[]> {
  const listed = await run(['nft', 'list', 'tables']);
  return listed.stdout.split('\n').flatMap((line) => {
    const [, family, name] = /^table (\S+) (\S+)$/.exec(line.trim()) ?? [];
    return family !== undefined && name !== undefined && name.startsWith(worldNames.nftTable(id)) ? [`${family} ${name}`] : [];
  });
}

/** By cgroup, by the mark in their environment, and by the journal (pid and start time); never this process. */
function findProcesses(id: string, journal: Journal, cgroups: readonly string[]): FoundProcess[] {
  const pids = new Set<number>();
  const ofInstances = new Set<number>();
  const own = worldNames.cgroup(id);
  for (const folder of cgroups) {
    // edgepoint-<id>/<edgepoint>/<instance>; the daemons' own is one level higher.
    const isInstance = folder.slice(folder.indexOf(own) + own.length).split('/').length > 2;
    for (const pid of readText(join(folder, 'cgroup.procs')).split('\n').filter(Boolean).map(Number)) {
      pids.add(pid);
      if (isInstance) ofInstances.add(pid);
    }
  }
  const mark = environmentMark(id);
  for (const name of listFolder('/proc')) {
    if (/^\d+$/.test(name) && readText(`/proc/${name}/environ`).split('\0').includes(mark)) pids.add(Number(name));
  }
  for (const entry of journal.entries) {
    if (entry.made === 'process' && isAlive(entry.process)) pids.add(entry.process.pid);
  }
  pids.delete(process.pid);
  return [...pids].filter((pid) => processIdentity(pid) !== null).map((pid) => ({ pid, command: commandOf(pid), isOfInstance: ofInstances.has(pid) }));
}

function commandOf(pid: number): string {
  return readText(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim().slice(0, 200) || `pid ${pid}`;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it ended while we looked
  }
}

/** Ids of all worlds of which this machine knows anything, with a journal or without. */
export function worldIdsOnThisMachine(): string[] {
  const names = [...listFolder('/run/netns'), ...listFolder('/sys/class/net')].flatMap((name) => /^ep-([0-9a-z]{4})-/.exec(name)?.[1] ?? []);
  const cgroups = cgroupHierarchies().flatMap((root) => listFolder(root).flatMap((name) => /^edgepoint-([0-9a-z]{4})$/.exec(name)?.[1] ?? []));
  const temporaryData = listFolder(dirname(defaultDataFolder('any'))).filter((name) => worldIdPattern.test(name));
  return [...new Set([...names, ...cgroups, ...temporaryData, ...journalledWorlds()])].toSorted();
}
