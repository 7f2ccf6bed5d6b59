import { dlopen } from 'bun:ffi';
import { existsSync, lstatSync, readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../kit/errors.ts';
import { layersOf } from '../box/mount-table.ts';

/**
 * A clone's private disk lies above that of its template, which is shared, so a copy of what it wrote is not all that it has. Before a
 * snapshot of it becomes whole, what it still saw of its template's disk is added, or it would be gone at its next wake.
 */

/** The template's disk below the root of an instance, from the text of /proc/self/mountinfo; null when there is none. */
export function layerBelow(mountinfo: string, root: string): string | null {
  /* The artefact and the base are always there (make_disk_and_root in mounts.c). */
  const layers = layersOf(mountinfo, root);
  return layers.length > 2 ? (layers[0] ?? null) : null;
}

/** Adds to the copy of an upper layer what of the layer below it was still to be seen. */
export async function addLayerBelow(layer: string, copy: string): Promise<void> {
  if (!existsSync(layer)) throw new Failure('cannot-snapshot', `the disk of its template is gone: ${layer}`);
  for (const [folder, names] of seenThrough(layer, copy)) {
    const { atime, mtime } = lstatSync(join(copy, folder));
    /* In pieces, because an argument list has a limit. */
    for (let from = 0; from < names.length; from += 500) await copyAll(join(layer, folder), names.slice(from, from + 500), join(copy, folder));
    utimesSync(join(copy, folder), atime, mtime);
  }
}

async function copyAll(folder: string, names: readonly string[], to: string): Promise<void> {
  const child = Bun.spawn(['cp', '--archive', '--target-directory', to, '--', ...names], { cwd: folder, stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' });
  if ((await child.exited) !== 0) throw new Failure('cannot-snapshot', `the disk of its template could not be added: ${await new Response(child.stderr).text()}`);
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
