import { dlopen } from 'bun:ffi';
import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../kit/errors.ts';
import { layersOf } from '../box/mount-table.ts';

/**
 * A clone's private disk lies above that of its template, which is shared, so a copy of what it wrote is not all that it has. What it
 * still sees of its template's disk is part of its snapshot too, or it would be gone at its next wake.
 *
 * It is copied while the clone runs on, because that takes time and may find no room: nothing is lost then. What the clone hides of it
 * until it stands still is left out afterwards (an upper layer hides ever more of a lower one, never less), and what is left changes
 * its place only, which cannot fail for want of room.
 */

/** The template's disk below the root of an instance, from the text of /proc/self/mountinfo; null when there is none. */
export function layerBelow(mountinfo: string, root: string): string | null {
  /* The artefact and the base are always there (make_disk_and_root in mounts.c). */
  const layers = layersOf(mountinfo, root);
  return layers.length > 2 ? (layers[0] ?? null) : null;
}

const waitingPlace = (staging: string): string => join(staging, 'below');

/** Copies what can be seen of a layer through the upper one, to wait in the staging of a snapshot. */
export async function copyLayerBelow(layer: string, upper: string, staging: string): Promise<void> {
  if (!existsSync(layer)) throw new Failure('cannot-snapshot', `the disk of its template is gone: ${layer}`);
  for (const [folder, names] of seenThrough(layer, upper)) {
    const to = join(waitingPlace(staging), folder);
    mkdirSync(to, { recursive: true });
    /* In pieces, because an argument list has a limit. */
    for (let from = 0; from < names.length; from += 500) await copyAll(join(layer, folder), names.slice(from, from + 500), to);
  }
}

async function copyAll(folder: string, names: readonly string[], to: string): Promise<void> {
  const child = Bun.spawn(['cp', '--archive', '--target-directory', to, '--', ...names], { cwd: folder, stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' });
  if ((await child.exited) !== 0) throw new Failure('cannot-snapshot', `the disk of its template could not be copied: ${await new Response(child.stderr).text()}`);
}

/** Moves what waits under the copy of the upper layer, which is final now. Repeatable; nothing waits when it is no clone's. */
export function joinLayerBelow(staging: string, disk: string): void {
  const below = waitingPlace(staging);
  if (!existsSync(below)) return;
  for (const [folder, names] of seenThrough(below, disk)) {
    const { atime, mtime } = lstatSync(join(disk, folder));
    for (const name of names) renameSync(join(below, folder, name), join(disk, folder, name));
    utimesSync(join(disk, folder), atime, mtime);
  }
  rmSync(below, { recursive: true, force: true });
}

/** By folder of the layer: the names in it that nothing in the upper layer hides. What is below them is not listed. */
function seenThrough(layer: string, upper: string, folder = '.'): [string, string[]][] {
  const seen: string[] = [];
  const deeper: [string, string[]][] = [];
  for (const entry of readdirSync(join(layer, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name);
    const above = lstatSync(join(upper, path), { throwIfNoEntry: false });
    if (above === undefined) seen.push(entry.name);
    /* A file hides it, and so does a device that marks what was removed (kernel documentation, overlayfs, "whiteouts and opaque directories"). */
    else if (above.isDirectory() && entry.isDirectory() && !isOpaque(join(upper, path))) deeper.push(...seenThrough(layer, upper, path));
  }
  return seen.length > 0 ? [[folder, seen], ...deeper] : deeper;
}

const libc = dlopen('libc.so.6', { lgetxattr: { args: ['cstring', 'cstring', 'ptr', 'u64'], returns: 'i64' } }).symbols;
const opaqueName = Buffer.from('trusted.overlay.opaque\0');

/** A folder that was removed and made anew hides the one below it. */
function isOpaque(folder: string): boolean {
  const value = Buffer.alloc(1);
  return libc.lgetxattr(Buffer.from(`${folder}\0`), opaqueName, value, 1n) === 1n && value.toString() === 'y';
}
