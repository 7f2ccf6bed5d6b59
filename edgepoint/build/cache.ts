import { createHash } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../../kit/errors.ts';
import { planCache } from './plan-cache.ts';
import type { CachedFile, CacheLimits } from './plan-cache.ts';

/**
 * Dependencies that were installed, as tar.gz, by provider and key. What lies there was packed in a box of that provider's and is unpacked
 * in such a one: nobody else's build meets it.
 */
export interface BuildCache {
  /** The file, or null when there is none. */
  find(provider: string, key: string): Promise<string | null>;
  /** Where to write one; `keep` puts it in place, and others that were used longest ago leave. */
  part(provider: string, key: string): Promise<string>;
  keep(provider: string, key: string): Promise<void>;
  drop(provider: string, key: string): Promise<void>;
}

export const cacheKey = (dependencies: string): string => createHash('sha256').update(dependencies).digest('hex');

export function openBuildCache(folder: string, limits: CacheLimits): BuildCache {
  const pathOf = (provider: string, key: string): string => join(folder, provider, `${key}.tar.gz`);
  const partOf = (provider: string, key: string): string => `${pathOf(provider, key)}.part`;
  return {
    async find(provider, key) {
      const path = pathOf(provider, key);
      try {
        await utimes(path, new Date(), new Date());
        return path;
      } catch (thrown) {
        if (codeOf(thrown) === 'ENOENT') return null;
        throw thrown;
      }
    },
    async part(provider, key) {
      await mkdir(join(folder, provider), { recursive: true, mode: 0o700 });
      return partOf(provider, key);
    },
    async keep(provider, key) {
      await rename(partOf(provider, key), pathOf(provider, key));
      for (const { path } of planCache(await filesIn(folder), limits)) await rm(path, { force: true });
    },
    drop: (provider, key) => rm(partOf(provider, key), { force: true }),
  };
}

async function filesIn(folder: string): Promise<CachedFile[]> {
  const found: CachedFile[] = [];
  for (const provider of await readdir(folder)) {
    for (const name of await readdir(join(folder, provider))) {
      const path = join(folder, provider, name);
      const { size, mtimeMs } = await stat(path);
      found.push({ provider, path, bytes: size, usedMs: mtimeMs });
    }
  }
  return found;
}
