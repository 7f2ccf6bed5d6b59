import { chmodSync, copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { tools } from '../../host/tools.ts';
import { swapIn } from './base-root.ts';
import { buildAside } from './debian-extract.ts';
import type { Step } from './step.ts';

/** Where the box mounts things and programs expect a folder, for images that hold nothing of the kind. */
const folders = ['app', 'proc', 'sys', 'dev', 'etc', 'run', 'tmp'];
/** Images leave the resolver to whoever runs them: it is the machine's, as in the base root of other apps. */
const resolver = '/etc/resolv.conf';

/** The layer below the root of an image: empty folders, the machine's resolver, and the clone guard that a later step puts there. */
export const imageBase: Step = {
  name: 'layer below images',
  recipe: [...folders, resolver].join(' '),
  takeOver: false,
  missing: async () => (existsSync(join(tools.imageBase, 'tmp')) ? null : 'not there'),
  make: () =>
    buildAside(async (folder) => {
      const root = join(folder, 'image-base');
      for (const name of folders) mkdirSync(join(root, name), { recursive: true, mode: 0o755 });
      chmodSync(root, 0o755);
      chmodSync(join(root, 'tmp'), 0o1777);
      if (existsSync(resolver)) {
        copyFileSync(resolver, join(root, resolver));
        chmodSync(join(root, resolver), 0o644);
      }
      await swapIn(root, tools.imageBase);
      return 'empty folders and the resolver';
    }),
};
