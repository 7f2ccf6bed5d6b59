import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Where the set-up (images/host) puts what it makes for this machine, outside any clone, so that a second clone finds it.
 * Every path is made by exactly one step of the set-up; daemons take them from their settings, with these as defaults.
 */
export const toolsFolder = process.env['EDGEPOINT_TOOLS'] ?? '/var/lib/edgepoint/tools';

const boxFolder = join(import.meta.dirname, '../edgepoint/box');
/** The C files of edgepoint-box, in order. */
export const boxSources: readonly string[] = readdirSync(boxFolder, { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.[ch]$/.test(name))
  .toSorted()
  .map((name) => join(boxFolder, name));

/** What programs of an instance load first, by its name there. */
export const guardSources: Readonly<Record<string, string>> = Object.fromEntries(
  ['clone-guard.c', 'clone-guard.cjs', 'python/sitecustomize.py'].map((name) => [name, join(import.meta.dirname, '../edgepoint/guard', name)]),
);

/** Part of a name: two clones at different commits must not run each other's. */
function hashOf(paths: readonly string[]): string {
  const hash = createHash('sha256');
  for (const path of paths) hash.update(readFileSync(path));
  return hash.digest('hex').slice(0, 12);
}

/** What the box of a build has beside the base root: npm from the npm registry. A folder's name says what is in it, so that clones at different commits each find their own. */
export const buildToolsContents = { npm: '10.9.9' } as const;

export const tools = {
  /** An executable that runs a criu which really dumps and restores on this machine (built with our patches, its own, or a private one). */
  criu: join(toolsFolder, 'bin/criu'),
  /** CRIU without our patches, which only peers of benchmarks use. */
  peerCriu: join(toolsFolder, 'bin/criu-as-it-comes'),
  natsServer: join(toolsFolder, 'bin/nats-server'),
  /** Makes the box of an instance and boots or restores into it; compiled from the C files of edgepoint/box. */
  box: join(toolsFolder, `bin/edgepoint-box-${hashOf(boxSources)}`),
  /** The clone guard as an instance sees it: a folder in its base root, which may hold those of several commits. */
  guard: `/usr/lib/edgepoint/guard-${hashOf(Object.values(guardSources))}`,
  /** The base root filesystem of instances: Debian 13 with Node 20, files owned by uid 0. */
  baseRoot: join(toolsFolder, 'base'),
  /** What lies below the root of an image in place of the base root: the clone guard and nothing else. */
  imageBase: join(toolsFolder, 'image-base'),
  /** The tools of builds (images/host/build-tools.ts). */
  buildTools: join(toolsFolder, `build-tools-${createHash('sha256').update(JSON.stringify(buildToolsContents)).digest('hex').slice(0, 12)}`),
  /** A base root with many more runtimes and servers, which only tests use. */
  runtimesRoot: join(toolsFolder, 'runtimes'),
} as const;
