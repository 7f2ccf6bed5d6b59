import { existsSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { boxSources, tools, toolsFolder } from '../../host/tools.ts';
import { requireCommand } from './command.ts';
import type { Step } from './step.ts';

const flags = ['-O2', '-Wall', '-Wextra', '-static'];
const libraries = ['-lzstd'];
const unusedDays = 7;

/**
 * Makes and enters the box of an instance: every C file of edgepoint/box in one static program. The sources are small and in the
 * repository, so it is compiled on the machine that runs it.
 */
export const boxProgram: Step = {
  name: 'box program',
  recipe: [...flags, ...libraries].join(' '),
  takeOver: true,
  missing: async () => (existsSync(tools.box) ? null : 'not there for these sources'),
  make: async () => {
    const aside = `${tools.box}.new-${process.pid}`;
    const sources = boxSources.filter((path) => path.endsWith('.c'));
    await requireCommand(['gcc', ...flags, '-o', aside, ...sources, ...libraries], 'box-not-compiled', 'The compiler names the line above; the set-up installs gcc, libc6-dev and libzstd-dev.');
    renameSync(aside, tools.box);
    removeOld();
    return `compiled from edgepoint/box (${sources.map((path) => basename(path)).join(', ')})`;
  },
};

/** Those of other commits, when nobody made one for a while. */
function removeOld(): void {
  const folder = join(toolsFolder, 'bin');
  const oldest = Date.now() - unusedDays * 86_400_000;
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (name.startsWith('edgepoint-box') && path !== tools.box && statSync(path).mtimeMs < oldest) rmSync(path);
  }
}
