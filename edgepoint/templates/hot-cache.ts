import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, watch, writeFileSync, type FSWatcher } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Failure } from '../../kit/errors.ts';
import { type Fingerprint, whyNotRestorable } from './fingerprint.ts';
import { chooseLeaving } from './leave.ts';
import { type SealedIndex, sealedName, type WantedSnapshot, whyForeign } from './sealed-index.ts';
import { parts } from './seal.ts';
import { type OpenedSnapshot, openSealed, refusal } from './unseal.ts';
import type { SealPorts } from './seal.ts';

export interface HotCacheOptions {
  /** On a tmpfs that only root reads and that is never swapped: what is in it must not reach a disk. */
  readonly folder: string;
  readonly bytesMax: number;
  readonly ports: Omit<SealPorts, 'randomBytes'>;
  /** What this edgepoint is now; its base root may be replaced while we run. */
  readonly here: () => Fingerprint;
  /** Names of snapshots whose disk a running instance stands on. */
  readonly layersInUse: () => ReadonlySet<string>;
  /** Marks the order of uses for a later process. */
  readonly wallMs: () => number;
  readonly onUse?: (use: { readonly hot: boolean }) => void;
  readonly onChange?: (size: { readonly snapshots: number; readonly bytes: number }) => void;
}

export interface SnapshotUse extends WantedSnapshot {
  /** A sealed snapshot's file, or the folder that holds one. */
  readonly snapshotPath: string;
  readonly continues: boolean;
}

/** A snapshot that stays unpacked until `done` is called. */
export interface HotSnapshot {
  /** Holds `images` and `disk`. */
  readonly path: string;
  readonly name: string;
  /** `spent`: nobody will restore it again. The disk stays while a running instance stands on it. */
  done(about: { spent: boolean }): void;
}

/** Snapshots in memory, unpacked and verified, for restores. One process has it open at a time. */
export interface HotCache {
  /**
   * Unpacks it, unless it is there already, after all of it has been verified; rejects with a Failure `snapshot-refused` that says why
   * it cannot be used for this order. Two that want one at the same time wait for one unpacking.
   */
  use(wanted: SnapshotUse): Promise<HotSnapshot>;
  /** Begins to remove what is too much and to take in what snapd leaves. Call once, when `layersInUse` is known. */
  begin(): void;
  /** Something may have come out of use. */
  settle(): void;
  close(): void;
}

interface Part {
  readonly bytes: number;
  lastUse: number;
}

type PartName = (typeof parts)[number];

/** Where snapd puts what it has just sealed, to be taken over whole: it need not be unpacked again. */
export function incomingFolder(folder: string): string {
  return join(folder, 'incoming');
}

/** A file of this name in `incoming` says that the snapshot was discarded: nobody will restore it again. */
export function goneMark(name: string): string {
  return `${name}.gone`;
}

/** Beside the parts: the verified index, so that another process's order is judged by it too. Written before the parts come. */
export function aboutPath(folder: string): string {
  return join(folder, 'index.json');
}

/** Takes over what an earlier process left whole and removes what it left half done. */
export function openHotCache(options: HotCacheOptions): HotCache {
  const hot = join(options.folder, 'hot');
  const incoming = incomingFolder(options.folder);
  const held = new Map<string, number>();
  const indexes = new Map<string, SealedIndex>();
  const present = new Map<string, Part>();
  const unpacking = new Map<string, Promise<void>>();
  /** Not wanted again: they leave as soon as nobody uses them. */
  const spent = new Set<string>();
  let uses = 0;

  const keyOf = (name: string, part: PartName): string => `${name}/${part}`;
  const partsOf = (name: string): PartName[] => parts.filter((part) => present.has(keyOf(name, part)));
  const bytesOf = (index: SealedIndex, part: PartName): number => (part === 'images' ? index.imageBytes : index.diskBytes);

  let watching: FSWatcher | null = null;
  for (const folder of [hot, incoming]) mkdirSync(folder, { recursive: true, mode: 0o700 });
  adopt();

  /** What is whole is kept, in the order of its last use; parts under a passing name are half unpacked. */
  function adopt(): void {
    const names = readdirSync(hot).map((name) => ({ name, usedMs: statSync(join(hot, name)).mtimeMs }));
    for (const { name } of names.toSorted((a, b) => a.usedMs - b.usedMs)) {
      for (const entry of readdirSync(join(hot, name))) if (entry.endsWith('.part')) rmSync(join(hot, name, entry), { recursive: true, force: true });
      adoptOne(name);
    }
  }

  function adoptOne(name: string): void {
    const folder = join(hot, name);
    const index = sealedName.test(name) && existsSync(aboutPath(folder)) ? (JSON.parse(readFileSync(aboutPath(folder), 'utf8')) as SealedIndex) : null;
    const found = parts.filter((part) => existsSync(join(folder, part)));
    if (index === null || found.length === 0) return rmSync(folder, { recursive: true, force: true });
    indexes.set(name, index);
    for (const part of found) present.set(keyOf(name, part), { bytes: bytesOf(index, part), lastUse: (uses += 1) });
  }

  function takeIn(): void {
    for (const name of readdirSync(incoming)) {
      const folder = join(incoming, name);
      if (name.endsWith(goneMark(''))) {
        spent.add(name.slice(0, -goneMark('').length));
        rmSync(folder, { force: true });
      }
      // Under any other name it is still being put together.
      if (!sealedName.test(name)) continue;
      if (indexes.has(name) || unpacking.has(name)) rmSync(folder, { recursive: true, force: true });
      else {
        renameSync(folder, join(hot, name));
        adoptOne(name);
      }
    }
    shrink(0);
  }

  function isHeld(key: string): boolean {
    const name = dirname(key);
    return held.has(name) || (basename(key) === 'disk' && options.layersInUse().has(name));
  }

  /** Removes what is spent, and the least recently used until `wantedBytes` more fit. */
  function shrink(wantedBytes: number): void {
    for (const name of spent) {
      for (const key of partsOf(name).map((part) => keyOf(name, part))) if (!isHeld(key)) drop(key);
      if (partsOf(name).length === 0) spent.delete(name);
    }
    const candidates = [...present].map(([key, part]) => ({ key, ...part, held: isHeld(key) }));
    for (const key of chooseLeaving(candidates, { bytesMax: options.bytesMax, wantedBytes })) drop(key);
    options.onChange?.({ snapshots: indexes.size, bytes: [...present.values()].reduce((sum, part) => sum + part.bytes, 0) });
  }

  function drop(key: string): void {
    const name = dirname(key);
    const path = join(hot, key);
    // Under a passing name first: cut off in the middle, it must not be taken for a whole one.
    renameSync(path, `${path}.part`);
    rmSync(`${path}.part`, { recursive: true, force: true });
    present.delete(key);
    if (partsOf(name).length > 0) return;
    indexes.delete(name);
    rmSync(join(hot, name), { recursive: true, force: true });
  }

  function hold(name: string, by: 1 | -1): void {
    const count = (held.get(name) ?? 0) + by;
    if (count > 0) held.set(name, count);
    else held.delete(name);
  }

  /** Nothing on the disk is read for one that is named by its digest and is unpacked already. */
  async function bring(name: string, path: string, wanted: SnapshotUse): Promise<void> {
    await unpacking.get(name);
    takeIn();
    const index = indexes.get(name);
    if (index !== undefined) judge(index, wanted);
    const isHot = partsOf(name).length === parts.length;
    options.onUse?.({ hot: isHot });
    if (isHot) return;
    // Another one may have begun while the one waited for failed.
    const work = unpacking.get(name) ?? unpack(name, path, wanted).finally(() => unpacking.delete(name));
    unpacking.set(name, work);
    return work;
  }

  function judge(index: SealedIndex, wanted: SnapshotUse): void {
    const foreign = whyForeign(index, wanted, options.ports.site);
    const reasons = foreign === null ? whyNotRestorable(index.fingerprint, options.here(), wanted) : [foreign];
    if (reasons.length > 0) throw refusal(reasons.join('; '));
  }

  async function unpack(name: string, path: string, wanted: SnapshotUse): Promise<void> {
    const opened = openSealed(path, wanted, options.ports);
    try {
      judge(opened.index, wanted);
      await unpackParts(name, opened);
    } finally {
      opened.close();
    }
  }

  async function unpackParts(name: string, opened: OpenedSnapshot): Promise<void> {
    const { index } = opened;
    const missing = parts.filter((part) => !present.has(keyOf(name, part)));
    shrink(missing.reduce((sum, part) => sum + bytesOf(index, part), 0));
    const folder = join(hot, name);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const folders = new Map(missing.map((part) => [part, join(folder, `${part}.part`)]));
    try {
      await opened.unpack(folders);
      writeFileSync(`${aboutPath(folder)}.part`, JSON.stringify(index), { mode: 0o600 });
      renameSync(`${aboutPath(folder)}.part`, aboutPath(folder));
      indexes.set(name, index);
      for (const [part, aside] of folders) {
        renameSync(aside, join(folder, part));
        present.set(keyOf(name, part as PartName), { bytes: bytesOf(index, part as PartName), lastUse: (uses += 1) });
      }
    } catch (error) {
      for (const aside of folders.values()) rmSync(aside, { recursive: true, force: true });
      if (partsOf(name).length === 0) rmSync(folder, { recursive: true, force: true });
      if ((error as { code?: string }).code === 'ENOSPC') throw new Failure('memory-full', 'there is no memory to unpack its snapshot in', { cause: error });
      throw error;
    }
  }

  function touch(name: string): void {
    uses += 1;
    spent.delete(name);
    for (const part of parts) (present.get(keyOf(name, part)) as Part).lastUse = uses;
    const nowSeconds = options.wallMs() / 1000;
    utimesSync(join(hot, name), nowSeconds, nowSeconds);
  }

  return {
    async use(wanted: SnapshotUse): Promise<HotSnapshot> {
      const { name, path } = findSealed(wanted.snapshotPath);
      hold(name, 1);
      try {
        await bring(name, path, wanted);
        touch(name);
      } catch (error) {
        hold(name, -1);
        throw error;
      }
      return {
        name,
        path: join(hot, name),
        done: (about): void => {
          hold(name, -1);
          if (about.spent) spent.add(name);
          shrink(0);
        },
      };
    },
    begin(): void {
      watching = watch(incoming, takeIn);
      takeIn();
    },
    settle: () => shrink(0),
    close: () => watching?.close(),
  };
}

/** The head names a snapshot by its digest; a folder alone means whichever one lies in it. */
function findSealed(snapshotPath: string): { name: string; path: string } {
  if (sealedName.test(basename(snapshotPath))) return { name: basename(snapshotPath), path: snapshotPath };
  const name = existsSync(snapshotPath) ? readdirSync(snapshotPath).find((entry) => sealedName.test(entry)) : undefined;
  if (name === undefined) throw refusal(`there is no sealed snapshot at ${snapshotPath}`);
  return { name, path: join(snapshotPath, name) };
}
