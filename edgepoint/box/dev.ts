import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

const nodes: readonly (readonly [string, number, number])[] = [
  ['null', 1, 3],
  ['zero', 1, 5],
  ['full', 1, 7],
  ['random', 1, 8],
  ['urandom', 1, 9],
  ['tty', 5, 0],
];

const links: readonly (readonly [string, string])[] = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
  /* Shared memory lies on the private disk: counted, limited and snapshotted with it. */
  ['shm', '/run/shm'],
];

/** The /dev all instances of an edgepoint see, read-only: a tmpfs with the harmless devices (null(4), random(4)). Idempotent. */
export function prepareDev(folder: string): void {
  if (existsSync(join(folder, 'null'))) return;
  mkdirSync(folder, { recursive: true });
  const run = (...command: string[]): void => {
    const done = Bun.spawnSync(command);
    if (done.exitCode !== 0) throw new Error(`${command.join(' ')}: ${done.stderr.toString().trim()}`);
  };
  run('mount', '-t', 'tmpfs', '-o', 'mode=0755,size=64k', 'edgepoint-dev', folder);
  for (const [name, major, minor] of nodes) run('mknod', '-m', '0666', join(folder, name), 'c', `${major}`, `${minor}`);
  for (const [name, target] of links) symlinkSync(target, join(folder, name));
  mkdirSync(join(folder, 'pts'));
  run('mount', '-o', 'remount,ro', folder);
}
