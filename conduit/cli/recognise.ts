import type { BuildWish, Manifest } from '../../kit/wire/manifest.ts';

export type Installer = NonNullable<BuildWish['install']>;

/** What is built of a folder before it can run, and why. */
export interface Recognised {
  readonly install: Installer;
  /** In words for the provider. */
  readonly reason: string;
  /** Names at the folder's root that are not sent: the build makes them anew. */
  readonly without: readonly string[];
}

/** What lies at the root of the folder; `read` gives null for a file that is not there. */
export interface FolderLook {
  has(name: string): Promise<boolean>;
  read(name: string): Promise<string | null>;
}

const made: Readonly<Record<Installer, readonly string[]>> = { npm: ['node_modules'], none: [] };

/**
 * Whether the platform builds a folder; null: it runs as it is. A manifest with [build] says so itself. Without one, a folder that names what
 * it depends on and does not bring it along is built; one that brings it along is sent as it is.
 */
export async function recogniseBuild(manifest: Pick<Manifest, 'build' | 'image'>, folder: FolderLook): Promise<Recognised | null> {
  if (manifest.image !== undefined) return null;
  const installer = manifest.build?.install ?? (await guessInstaller(folder))?.install ?? 'none';
  if (manifest.build !== undefined) return { install: installer, reason: 'edgepoint.toml has a [build]', without: made[installer] };
  const guess = await guessInstaller(folder);
  if (guess === null) return null;
  for (const name of made[guess.install]) if (await folder.has(name)) return null;
  return { ...guess, without: [] };
}

/** Which program would install what the folder names; null when it names nothing. */
export async function guessInstaller(folder: Pick<FolderLook, 'read'>): Promise<{ readonly install: 'npm'; readonly reason: string } | null> {
  for (const lock of ['package-lock.json', 'npm-shrinkwrap.json']) {
    if (dependsOnPackages(await folder.read(lock))) return { install: 'npm', reason: `${lock} names packages, and there is no node_modules` };
  }
  return null;
}

/** Whether a lock file of npm names more than the app itself (package-lock.json(5), `packages`). */
function dependsOnPackages(lock: string | null): boolean {
  try {
    const { packages = {} } = JSON.parse(lock ?? '{}') as { packages?: Record<string, { dev?: boolean }> };
    return Object.entries(packages).some(([path, entry]) => path !== '' && entry.dev !== true);
  } catch {
    // What is no JSON, npm itself will complain of.
    return true;
  }
}
