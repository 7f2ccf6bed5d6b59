import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** One thing the set-up makes. What it makes lies under the tools folder, built aside and renamed into place. */
export interface Step {
  readonly name: string;
  /** Everything that decides how the result looks; another recipe means: make it again. */
  readonly recipe: string;
  /** A result without a stamp that works is kept (another clone's, or made by hand); otherwise it is made again. */
  readonly takeOver: boolean;
  /** Null when the result is there and works (a check of the real thing, cheap), else why it must be made. */
  readonly missing: () => Promise<string | null>;
  /** Makes it; returns a sentence for people on what was made or chosen. */
  readonly make: (say: (text: string) => void) => Promise<string>;
}

export interface Stamp {
  readonly recipeHash: string;
  /** What `make` said, shown again on later runs. */
  readonly made: string;
}

export function recipeHash(recipe: string): string {
  return createHash('sha256').update(recipe).digest('hex').slice(0, 16);
}

/**
 * Why a step must be made, or null. Renaming into place is the last act of every step, so what stands there is whole,
 * with a stamp or without.
 */
export function whyMake(state: { stamp: Stamp | null; hash: string; missing: string | null; takeOver: boolean }): string | null {
  if (state.missing !== null) return state.missing;
  if (state.stamp === null) return state.takeOver ? null : 'nothing says how it was made';
  return state.stamp.recipeHash === state.hash ? null : 'its recipe has changed';
}

const stampPath = (folder: string, name: string): string => join(folder, 'stamps', `${name.replaceAll(/[^a-z0-9]+/g, '-')}.json`);

/** The stamp, or null when there is none or it is not readable as one (then the real state decides alone). */
export function readStamp(folder: string, name: string): Stamp | null {
  try {
    const value = JSON.parse(readFileSync(stampPath(folder, name), 'utf8')) as Partial<Stamp>;
    return typeof value.recipeHash === 'string' ? { recipeHash: value.recipeHash, made: String(value.made ?? '') } : null;
  } catch {
    return null;
  }
}

export function writeStamp(folder: string, name: string, stamp: Stamp): void {
  const path = stampPath(folder, name);
  mkdirSync(join(folder, 'stamps'), { recursive: true });
  writeFileSync(`${path}.new`, `${JSON.stringify(stamp)}\n`);
  renameSync(`${path}.new`, path);
}
