import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { tools } from '../../host/tools.ts';
import { swapIn } from './base-root.ts';
import { buildAside } from './debian-extract.ts';
import type { Step } from './step.ts';

/** Where the box mounts things and programs expect a folder, for images that hold nothing of the kind. */
const folders = ['app', 'proc', 'sys', 'dev', 'run', 'tmp'];

/** The layer below the root of an image: empty folders, and the clone guard that a later step puts there. */
export const imageBase: Step = {
  name: 'layer below images',
  recipe: folders.join(' '),
  takeOver: false,
  missing: async () => (existsSync(join(tools.imageBase, 'tmp')) ? null : 'not there'),
  make: () =>
    buildAside(async (folder) => {
      const root = join(folder, 'image-base');
      for (const name of folders) mkdirSync(join(root, name), { recursive: true, mode: 0o755 });
      chmodSync(root, 0o755);
      chmodSync(join(root, 'tmp'), 0o1777);
      await swapIn(root, tools.imageBase);
      return 'empty folders for the clone guard';
    }),
};
