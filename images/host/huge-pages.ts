import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { messageOf } from '../../kit/errors.ts';
import type { Step } from './step.ts';

/**
 * Multi-size transparent huge pages (Linux 6.8 or newer, Documentation/admin-guide/mm/transhuge.rst). With 64 kB pieces a restore
 * takes one page fault where it took sixteen: decision 017. The kernel begins with `never` at each boot.
 */
const enabledPath = '/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled';

/** The chosen word of a sysfs list such as `always inherit madvise [never]`. */
export function chosenOf(list: string): string {
  return /\[([\w-]+)\]/.exec(list)?.[1] ?? '';
}

export const hugePages: Step = {
  name: 'memory in 64 kB pieces',
  recipe: 'always',
  takeOver: true,
  missing: async () => {
    if (!existsSync(enabledPath)) return null; // an older kernel does without
    /* Another word than the kernel's own default is somebody's choice, and stays. */
    return chosenOf(readFileSync(enabledPath, 'utf8')) === 'never' ? `${enabledPath} says never, which makes every wake slower` : null;
  },
  make: async () => {
    try {
      writeFileSync(enabledPath, 'always');
      return 'always, until the next boot';
    } catch (error) {
      return `left as it is, wakes are slower: ${messageOf(error)}`; // a container whose /sys is read-only
    }
  },
};
