import { existsSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { tools, toolsFolder } from '../../host/tools.ts';
import { requireCommand } from './command.ts';
import type { Step } from './step.ts';

const sourceFolder = join(import.meta.dirname, '../../edgepoint/box');
const flags = ['-O2', '-Wall', '-Wextra', '-static'];

/**
 * Makes and enters the box of an instance: every C file of edgepoint/box in one static program. The sources are small and in the
 * repository, so it is compiled on the machine that runs it.
 */
export function boxProgram(): Step | null {
  const files = readdirSync(sourceFolder).filter((name) => /\.[ch]$/.test(name)).toSorted();
  const sources = files.filter((name) => name.endsWith('.c'));
  if (!sources.includes('box.c')) return null;
  const texts = files.map((name) => `${name}\n${readFileSync(join(sourceFolder, name), 'utf8')}`);
  return {
    name: 'box program',
    recipe: [flags.join(' '), ...texts].join('\n'),
    takeOver: false,
    missing: async () => (existsSync(tools.box) ? null : 'not there'),
    make: async () => {
      const aside = join(toolsFolder, 'bin', `edgepoint-box.new-${process.pid}`);
      const paths = sources.map((name) => join(sourceFolder, name));
      await requireCommand(['gcc', ...flags, '-o', aside, ...paths], 'box-not-compiled', 'The compiler names the line above; the set-up installs gcc and libc6-dev.');
      renameSync(aside, tools.box);
      return `compiled from edgepoint/box (${sources.join(', ')})`;
    },
  };
}
