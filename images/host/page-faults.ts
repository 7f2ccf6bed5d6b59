import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { messageOf } from '../../kit/errors.ts';
import type { Step } from './step.ts';

/**
 * Lazy restores: CRIU opens a userfaultfd(2) inside the instance's user namespace, which the kernel allows there only when it allows
 * it to all (Documentation/admin-guide/sysctl/vm.rst): decision 106. The kernel begins with 0 at each boot.
 */
const allowedPath = '/proc/sys/vm/unprivileged_userfaultfd';

export const pageFaults: Step = {
  name: 'page faults of instances',
  recipe: '1',
  takeOver: true,
  missing: async () => {
    if (!existsSync(allowedPath)) return null; // a kernel without: restores are eager there
    return readFileSync(allowedPath, 'utf8').trim() === '0' ? `${allowedPath} says 0, which makes wakes of big processes slower` : null;
  },
  make: async () => {
    try {
      writeFileSync(allowedPath, '1');
      return 'answered, until the next boot';
    } catch (error) {
      return `left as it is, wakes of big processes are slower: ${messageOf(error)}`; // a container whose /proc/sys is read-only
    }
  },
};
