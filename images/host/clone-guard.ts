import { chmodSync, cpSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { guardSources, tools } from '../../host/tools.ts';
import { requireCommand } from './command.ts';
import { buildAside } from './debian-extract.ts';
import type { Step } from './step.ts';

/** No library at all, so that programs of any C library can load it (clone-guard.c). */
const flags = ['-O2', '-Wall', '-Wextra', '-shared', '-fPIC', '-nostdlib', '-fvisibility=hidden', '-ftls-model=initial-exec'];

/** What every program of an instance loads first, in a root filesystem below instances, where templates look for it for as long as they live. */
export function cloneGuardIn(root: string): Step {
  return {
    name: `clone guard of ${basename(root)}`,
    recipe: flags.join(' '),
    takeOver: true,
    missing: async () => (existsSync(join(root, tools.guard)) ? null : 'not there for these sources'),
    make: async () => {
      await placeGuard(root);
      return `compiled from edgepoint/guard (${Object.keys(guardSources).join(', ')})`;
    },
  };
}

/** Puts the guard of this commit into a root filesystem; whole or not at all. Repeatable. */
async function placeGuard(root: string): Promise<void> {
  const place = join(root, tools.guard);
  if (existsSync(place)) return;
  await buildAside(async (folder) => {
    const aside = join(folder, 'guard');
    for (const [name, source] of Object.entries(guardSources)) {
      const target = join(aside, name);
      mkdirSync(dirname(target), { recursive: true, mode: 0o755 });
      if (!name.endsWith('.c')) cpSync(source, target);
      else await requireCommand(['gcc', ...flags, '-o', target.replace(/\.c$/, '.so'), source], 'guard-not-compiled', 'The compiler names the line above; the set-up installs gcc and libc6-dev.');
    }
    await requireCommand(['chmod', '--recursive', 'u=rwX,go=rX', aside], 'guard-not-placed', 'See whether the tools folder can be written.');
    mkdirSync(dirname(place), { recursive: true });
    chmodSync(dirname(place), 0o755);
    renameSync(aside, place);
  });
}
