import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { mountsBelow, readMountinfo } from '../mount-table.ts';

/** Where snapshots are in plain text: while they are taken, and while restores read them. */
export function templateMemory(runFolder: string): string {
  return join(runFolder, 'templates');
}

/**
 * Lays a tmpfs there that only root reads and that never goes to swap, unless it is there: what is in it must not reach a disk. It
 * takes at most half of the machine's memory, and goes with the mount namespace of snapd and restored. Either may come first, so one
 * at a time looks and mounts.
 */
export function prepareTemplateMemory(runFolder: string): string {
  const folder = templateMemory(runFolder);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (isMounted(folder)) return folder;
  // noswap came with Linux 6.4.
  const script = 'mountpoint -q "$0" || mount -t tmpfs -o size=50%,mode=0700,nosuid,noexec,noswap edgepoint-templates "$0" || mount -t tmpfs -o size=50%,mode=0700,nosuid,noexec edgepoint-templates "$0"';
  const done = Bun.spawnSync(['flock', `${folder}.lock`, 'sh', '-c', script, folder], { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' });
  if (done.exitCode !== 0) throw new Error(`no memory for snapshots at ${folder}: ${done.stderr.toString().trim()}`);
  return folder;
}

function isMounted(folder: string): boolean {
  return mountsBelow(readMountinfo(), folder).includes(folder);
}
