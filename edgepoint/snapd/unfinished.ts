import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SnapshotOrder } from '../model/calls.ts';
import type { SnapshotDescription } from './description.ts';

/**
 * The journal of snapshots under way, one file for an instance, written before anything is changed and removed after everything
 * is settled: a snapd that comes after a kill -9 knows from it what to finish and what to undo. A dump goes on without its snapd.
 */
export interface UnfinishedSnapshot {
  readonly order: SnapshotOrder;
  readonly description: Omit<SnapshotDescription, 'taken'>;
}

const pollMs = 10;

function journalFolder(runFolder: string): string {
  return join(runFolder, 'snapshots-under-way');
}

function journalPath(runFolder: string, instance: string): string {
  return join(journalFolder(runFolder), `${instance}.json`);
}

export function writeUnfinished(runFolder: string, unfinished: UnfinishedSnapshot): void {
  mkdirSync(journalFolder(runFolder), { recursive: true });
  const path = journalPath(runFolder, unfinished.order.instance);
  writeFileSync(`${path}.new`, JSON.stringify(unfinished), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

export function removeUnfinished(runFolder: string, instance: string): void {
  rmSync(journalPath(runFolder, instance), { force: true });
}

/** Also removes entries that were being written when their snapd was killed: nothing had been changed by then. */
export function allUnfinished(runFolder: string): UnfinishedSnapshot[] {
  const folder = journalFolder(runFolder);
  const paths = (existsSync(folder) ? readdirSync(folder) : []).map((name) => join(folder, name));
  for (const path of paths) if (!path.endsWith('.json')) rmSync(path, { force: true });
  return paths.filter((path) => path.endsWith('.json')).map((path) => JSON.parse(readFileSync(path, 'utf8')) as UnfinishedSnapshot);
}

/** Waits for the end of every process that has `word` among its arguments: the CRIU of a snapd that was killed. */
export async function processesWithArgumentEnded(word: string, timeoutMs: number): Promise<void> {
  for (let waitedMs = 0; processesWithArgument(word).length > 0; waitedMs += pollMs) {
    if (waitedMs > timeoutMs) throw new Error(`a dump into ${word} does not end`);
    await sleep(pollMs);
  }
}

function processesWithArgument(word: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(word);
    } catch {
      return false; // it ended meanwhile
    }
  });
}

/** Removes `.part` folders that no unfinished snapshot explains, as a loss of power leaves them: they stand at `snapshots/<app>/` and `kept/<instance>/`. */
export function removeStaleParts(dataFolder: string, unfinished: readonly UnfinishedSnapshot[]): void {
  const explained = new Set(unfinished.map(({ order }) => `${order.snapshotPath}.part`));
  for (const kind of ['snapshots', 'kept']) {
    const folder = join(dataFolder, kind);
    for (const group of existsSync(folder) ? readdirSync(folder, { withFileTypes: true }) : []) {
      if (!group.isDirectory()) continue;
      for (const name of readdirSync(join(folder, group.name))) {
        const part = join(folder, group.name, name);
        if (name.endsWith('.part') && !explained.has(part)) rmSync(part, { recursive: true, force: true });
      }
    }
  }
}
