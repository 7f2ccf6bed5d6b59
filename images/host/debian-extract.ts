import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { toolsFolder } from '../../host/tools.ts';
import { retryCommand } from './command.ts';

/** A folder beside the final place (same filesystem, so that rename(2) works), removed when `work` fails. */
export async function buildAside<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(toolsFolder, 'building-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Removes what a set-up that was killed had begun; call it under the set-up's lock. What has something mounted in it stays. */
export function removeUnfinished(): void {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
  for (const name of readdirSync(toolsFolder)) {
    const path = join(toolsFolder, name);
    if (name.startsWith('building-') && !mounts.includes(` ${path}/`)) rmSync(path, { recursive: true, force: true });
  }
}

/** Unpacks packages of a Debian suite with what they depend on into a folder, without configuring anything (mmdebstrap(1), extract). */
export async function extractDebian(options: { suite: string; packages: readonly string[]; folder: string; say: (text: string) => void; aptOptions?: readonly string[] }): Promise<void> {
  const aptOptions = (options.aptOptions ?? []).flatMap((option) => ['--aptopt', option]);
  await retryCommand(['mmdebstrap', '--quiet', ...aptOptions, '--variant=extract', `--include=${options.packages.join(',')}`, options.suite, options.folder], {
    code: 'mmdebstrap-failed',
    remedy: 'See whether http://deb.debian.org is reachable from here and whether /var/lib has 1 GB free, then start again.',
    say: options.say,
    before: async () => rmSync(options.folder, { recursive: true, force: true }),
  });
}
