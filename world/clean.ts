import { existsSync, mkdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../kit/errors.ts';
import { withFileLock } from '../images/host/file-lock.ts';
import { run } from './command.ts';
import { readJournal, supervisorIsAlive } from './journal.ts';
import type { Journal } from './journal.ts';
import { findKernelObjects, mountsBelow, worldIdsOnThisMachine } from './kernel-objects.ts';
import type { KernelObjects, WorldFolders } from './kernel-objects.ts';
import { defaultDataFolder, worldsFolder } from './plan.ts';

/** Taken to choose ids and addresses and to clean up, so that no world is cleaned while it begins. */
export function withWorldsLock<T>(say: (line: string) => void, work: () => Promise<T>): Promise<T> {
  mkdirSync(worldsFolder, { recursive: true, mode: 0o755 });
  return withFileLock(join(worldsFolder, 'worlds.lock'), () => say('another world is starting or being cleaned, waiting for it'), work);
}

export interface Removed {
  readonly world: string;
  /** `process 123 (bun ...)`, `mount /run/...`: one for each thing. */
  readonly things: readonly string[];
}

/** Removes what worlds without a living supervisor left. Call it with the lock held. Living worlds are never touched. */
export async function cleanDeadWorlds(say: (line: string) => void): Promise<Removed[]> {
  const removed: Removed[] = [];
  for (const id of worldIdsOnThisMachine()) {
    const journal = readJournal(id);
    if (supervisorIsAlive(journal)) continue;
    const things = await removeWorld(id, journal);
    say(`removed what world ${id} had left: ${summary(things)}`);
    removed.push({ world: id, things });
  }
  return removed;
}

/** What cleanDeadWorlds would remove, as `<world> <kind> <name>`. */
export async function findLeft(): Promise<string[]> {
  const left: string[] = [];
  for (const id of worldIdsOnThisMachine()) {
    const journal = readJournal(id);
    if (supervisorIsAlive(journal)) continue;
    const folders = foldersOf(id, journal);
    const objects = await findKernelObjects(id, journal, folders);
    left.push(...folders.ours.filter((path) => existsSync(path)).map((path) => `${id} folder ${path}`));
    left.push(...objects.processes.map((found) => `${id} process ${found.pid} ${found.command}`));
    for (const kind of ['netns', 'links', 'mounts', 'loops', 'nftTables', 'cgroups'] as const) left.push(...objects[kind].map((name) => `${id} ${kind} ${name}`));
  }
  return left;
}

export function summary(things: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const thing of things) {
    const kind = thing.split(' ', 1)[0] ?? '';
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return things.length === 0 ? 'nothing but its folder' : [...counts].map(([kind, count]) => `${count} ${kind}`).join(', ');
}

/** Ends and removes everything that carries the id, with its folders (its data only when it was not asked to be kept). */
export async function removeWorld(id: string, journal: Journal): Promise<string[]> {
  const folders = foldersOf(id, journal);
  const things = await endProcesses(id, journal, folders);
  const objects = await findKernelObjects(id, journal, folders);
  things.push(...(await removeObjects(objects)));
  const left = mountsBelow(folders.mounts);
  if (left.length > 0) {
    // Removing the folder would reach through the mount: into the clone, for one.
    throw new Failure('mount-stays', `World ${id} is not removed, because these are still mounted: ${left.join(', ')}`, { remedy: 'Unmount them by hand (umount -l PATH), then run `npm run clean`.' });
  }
  // The run folder last: it holds the journal, by which a clean-up that was cut off is done again.
  for (const path of folders.ours) rmSync(path, { recursive: true, force: true });
  return things;
}

/** A data folder that a person chose is kept; it may itself be a mount, or hold some, and those are not ours. */
function foldersOf(id: string, journal: Journal): WorldFolders & { readonly ours: readonly string[] } {
  const runFolder = join(worldsFolder, id);
  const dataFolder = journal.world?.dataFolder ?? defaultDataFolder(id);
  const ours = journal.world?.keepData === true ? [runFolder] : [dataFolder, runFolder];
  return { mounts: ours, files: [runFolder, dataFolder], ours };
}

const killDeadlineMs = 5_000;

/** Kills until none is left: one that was about to fork may have done so between the look and the kill. */
async function endProcesses(id: string, journal: Journal, folders: WorldFolders): Promise<string[]> {
  const seen = new Map<number, string>();
  const deadline = Date.now() + killDeadlineMs;
  for (;;) {
    const { processes, cgroups } = await findKernelObjects(id, journal, folders);
    if (processes.length === 0) break;
    for (const found of processes) seen.set(found.pid, `${found.isOfInstance ? 'instance-process' : 'process'} ${found.pid} (${found.command})`);
    if (Date.now() > deadline) {
      throw new Failure('process-stays', `World ${id} is not removed, because these processes do not end: ${processes.map((found) => `${found.pid} (${found.command})`).join(', ')}`, {
        remedy: 'They wait inside the kernel (state D in ps): run `npm run clean` again later.',
      });
    }
    killAll(processes.map((found) => found.pid), cgroups);
    await Bun.sleep(20);
  }
  return [...seen.values()];
}

function killAll(pids: readonly number[], cgroups: readonly string[]): void {
  // Version 2 kills a whole tree at once, forks under way included (Linux 5.14).
  for (const folder of cgroups) {
    const killFile = join(folder, 'cgroup.kill');
    if (existsSync(killFile)) writeFileSync(killFile, '1');
  }
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch (thrown) {
      if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'ESRCH')) throw thrown;
    }
  }
  // A frozen process (version 1 freezer) dies only when it thaws.
  for (const folder of cgroups) {
    const stateFile = join(folder, 'freezer.state');
    if (existsSync(stateFile)) writeFileSync(stateFile, 'THAWED');
  }
}

/** In an order in which nothing removed is still needed by what follows; each returns only what it did remove. */
async function removeObjects(objects: KernelObjects): Promise<string[]> {
  const things: string[] = [];
  const remove = async (kind: string, name: string, argv: readonly string[], otherwise?: readonly string[]): Promise<void> => {
    let ran = await run(argv);
    if (ran.exitCode !== 0 && otherwise !== undefined) ran = await run(otherwise);
    if (ran.exitCode === 0) things.push(`${kind} ${name}`);
  };
  for (const name of objects.netns) await remove('netns', name, ['ip', 'netns', 'delete', name]);
  // Most links ended with their namespace.
  for (const name of objects.links) await remove('link', name, ['ip', 'link', 'delete', name]);
  for (const path of objects.mounts) await remove('mount', path, ['umount', path], ['umount', '--lazy', path]);
  for (const name of objects.loops) await remove('loop', name, ['losetup', '--detach', name]);
  for (const table of objects.nftTables) await remove('nft-table', table, ['nft', 'delete', 'table', ...table.split(' ')]);
  for (const path of objects.cgroups) {
    if (await removeCgroup(path)) things.push(`cgroup ${path}`);
  }
  return things;
}

/** A process that has just died keeps its cgroup busy for a moment. */
async function removeCgroup(path: string): Promise<boolean> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    try {
      if (!existsSync(path)) return false;
      rmdirSync(path);
      return true;
    } catch {
      await Bun.sleep(20);
    }
  }
  throw new Failure('cgroup-stays', `${path} cannot be removed: something still runs in it.`, { remedy: 'Run `npm run clean` again; cgroup.procs in that folder lists what runs.' });
}
