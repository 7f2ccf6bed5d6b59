import { join } from 'node:path';
import { requireCommand, runCommand } from './command.ts';
import type { Step } from './step.ts';

const repository = join(import.meta.dirname, '../..');
const folders = ['kit', 'host', 'edgepoint', 'conduit', 'metering', 'global-dispatcher', 'node_modules', 'package.json', 'tsconfig.json'];

/** Daemons run as users of their own. Some npm packages hold files only their owner may read, and a clone may be made under umask 077. */
export const readableFiles: Step = {
  name: 'files that daemons read',
  recipe: folders.join(' '),
  takeOver: true,
  missing: async () => {
    const found = await runCommand(['find', ...paths(), '!', '-type', 'l', '(', '!', '-perm', '-o=r', '-o', '-type', 'd', '!', '-perm', '-o=x', ')', '-print', '-quit']);
    const first = found.output.trim();
    return first === '' ? null : `other users cannot read ${first}`;
  },
  make: async () => {
    await requireCommand(['chmod', '--recursive', 'a+rX', ...paths()], 'files-not-readable', 'Make the files of this clone readable for all users.');
    return 'readable for all users';
  },
};

const paths = (): string[] => folders.map((folder) => join(repository, folder));
