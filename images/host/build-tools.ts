import { chmodSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildToolsContents, tools } from '../../host/tools.ts';
import { requireCommand, retryCommand } from './command.ts';
import { buildAside } from './debian-extract.ts';
import type { Step } from './step.ts';

const programs = { npm: 'npm-cli.js', npx: 'npx-cli.js' } as const;

/** What builds of source folders have in their box beside the base root. The folder's name says what is in it, so nothing there is ever replaced. */
export const buildTools: Step = {
  name: 'tools of builds',
  recipe: JSON.stringify(buildToolsContents),
  takeOver: true,
  missing: async () => (existsSync(join(tools.buildTools, 'bin/npm')) ? null : 'not there'),
  make: (say) =>
    // Another clone's step of this name has another recipe; what is there is whole.
    existsSync(join(tools.buildTools, 'bin/npm')) ? Promise.resolve(`npm ${buildToolsContents.npm}`) : buildAside(async (folder) => {
      const aside = join(folder, 'build-tools');
      mkdirSync(join(aside, 'bin'), { recursive: true });
      await retryCommand(['npm', 'pack', '--silent', '--pack-destination', folder, `npm@${buildToolsContents.npm}`], {
        code: 'npm-not-fetched',
        remedy: 'npm comes from the npm registry; check that it can be reached, then start again.',
        say,
      });
      const remedy = 'See whether /var/lib has 1 GB free, then start again.';
      await requireCommand(['tar', '-xzf', join(folder, `npm-${buildToolsContents.npm}.tgz`), '-C', aside, '--no-same-owner', '--transform=s:^package:npm:'], 'npm-not-unpacked', remedy);
      for (const [name, script] of Object.entries(programs)) {
        const path = join(aside, 'bin', name);
        writeFileSync(path, `#!/bin/sh\nexec node "$(dirname "$0")/../npm/bin/${script}" "$@"\n`);
        chmodSync(path, 0o755);
      }
      chmodSync(aside, 0o755);
      if (!existsSync(tools.buildTools)) renameSync(aside, tools.buildTools);
      return `npm ${buildToolsContents.npm}`;
    }),
};
