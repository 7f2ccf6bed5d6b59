import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { worldIdPattern, worldsFolder } from './plan.ts';

/** Who a process is beyond its pid, which the kernel gives again: its start time in clock ticks (proc_pid_stat(5), field 22). */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: number;
}

/** One line for each thing, written before the thing is made (a process: as soon as it has a pid; its cgroup stands before it). */
export type JournalEntry =
  | { readonly made: 'world'; readonly id: string; readonly supervisor: ProcessIdentity; readonly bootId: string; readonly ranges: readonly string[]; readonly dataFolder: string; readonly keepData: boolean }
  | { readonly made: 'netns' | 'link'; readonly name: string }
  | { readonly made: 'mount' | 'cgroup'; readonly path: string }
  | { readonly made: 'process'; readonly name: string; readonly process: ProcessIdentity };

export type WorldEntry = Extract<JournalEntry, { made: 'world' }>;

export interface Journal {
  /** Null when the supervisor died before its first line. */
  readonly world: WorldEntry | null;
  readonly entries: readonly JournalEntry[];
}

/** Reads what was written; a line that a kill cut off is left out, for what it spoke of was not made yet. */
export function parseJournal(text: string): Journal {
  const entries = text.split('\n').flatMap((line): JournalEntry[] => {
    try {
      const value = JSON.parse(line) as JournalEntry;
      return typeof value.made === 'string' ? [value] : [];
    } catch {
      return [];
    }
  });
  const world = entries.find((entry) => entry.made === 'world') ?? null;
  return { world, entries };
}

const journalPath = (id: string): string => join(worldsFolder, id, 'journal');

export function readJournal(id: string): Journal {
  const path = journalPath(id);
  return parseJournal(existsSync(path) ? readFileSync(path, 'utf8') : '');
}

/** Ids of all worlds that have a folder, alive or not. */
export function journalledWorlds(): string[] {
  if (!existsSync(worldsFolder)) return [];
  return readdirSync(worldsFolder, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() && worldIdPattern.test(entry.name) ? [entry.name] : []));
}

export interface JournalWriter {
  /** Returns when the line is written, so that the thing may be made. */
  write(entry: JournalEntry): void;
}

/** /run is gone after a reboot, as is everything the journal tells of, so a line needs no fsync. */
export function openJournal(id: string): JournalWriter {
  mkdirSync(join(worldsFolder, id), { recursive: true, mode: 0o755 });
  const path = journalPath(id);
  return { write: (entry) => appendFileSync(path, `${JSON.stringify(entry)}\n`, { mode: 0o644 }) };
}

export function currentBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** Null when there is no such process. */
export function processIdentity(pid: number): ProcessIdentity | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the name in parentheses and may hold anything; a zombie counts as gone.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? null : { pid, startTicks: Number(fields[19]) };
  } catch {
    return null;
  }
}

export function isAlive(process: ProcessIdentity): boolean {
  return processIdentity(process.pid)?.startTicks === process.startTicks;
}

/** A world without a first line has no supervisor: it is written under the lock that the clean-up takes too. */
export function supervisorIsAlive(journal: Journal): boolean {
  return journal.world !== null && journal.world.bootId === currentBootId() && isAlive(journal.world.supervisor);
}
