import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Owner } from '../../kit/ids.ts';
import type { Fingerprint } from './fingerprint.ts';
import { aboutPath, goneMark, incomingFolder } from './hot-cache.ts';
import { type Effort, parts, type SealPorts, sealSnapshot } from './seal.ts';
import type { SealedIndex } from './sealed-index.ts';

/** Turns what a dump wrote into a sealed snapshot. */
export interface Sealer {
  /** Where a dump of an instance writes: in memory, so that nothing in plain text comes to the disk. Made and removed by whoever dumps. */
  staging(instance: string): string;
  /** Removes the staging of instances that are not named. */
  clearStaging(but: ReadonlySet<string>): void;
  /** `baseRoot`: what the instance was started on; empty for what is there now. */
  seal(order: { folder: string; target: string; owner: Owner; release: number; instance: string; baseRoot: string; effort: Effort }): Promise<SealedFile>;
  /** A snapshot is discarded: nothing of it stays unpacked, either. */
  forget(name: string): void;
}

export interface SealedFile {
  readonly name: string;
  readonly bytes: number;
  /** Leaves the folder to the hot cache, unpacked as it is, for a wake that may follow soon. It is gone afterwards. */
  handOver(): void;
}

/** `folder` is the hot cache's. */
export function openSealer(folder: string, ports: SealPorts, here: () => Fingerprint): Sealer {
  const stagings = join(folder, 'staging');
  return {
    staging: (instance) => join(stagings, instance),
    clearStaging(but): void {
      mkdirSync(stagings, { recursive: true, mode: 0o700 });
      for (const name of readdirSync(stagings)) if (!but.has(name)) rmSync(join(stagings, name), { recursive: true, force: true });
    },
    forget(name): void {
      mkdirSync(incomingFolder(folder), { recursive: true, mode: 0o700 });
      writeFileSync(join(incomingFolder(folder), goneMark(name)), '', { mode: 0o600 });
    },
    async seal({ baseRoot, ...order }): Promise<SealedFile> {
      const { name, bytes, index } = await sealSnapshot({ ...order, fingerprint: { ...here(), ...(baseRoot === '' ? {} : { baseRoot }) } }, ports);
      return { name, bytes, handOver: () => handOver(order.folder, join(incomingFolder(folder), name), index) };
    },
  };
}

/** Whole or not at all: the hot cache takes what has its last name. */
function handOver(from: string, to: string, index: SealedIndex): void {
  mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
  for (const entry of readdirSync(from)) if (!(parts as readonly string[]).includes(entry)) rmSync(join(from, entry), { recursive: true, force: true });
  writeFileSync(aboutPath(from), JSON.stringify(index), { mode: 0o600 });
  rmSync(to, { recursive: true, force: true });
  renameSync(from, to);
}
