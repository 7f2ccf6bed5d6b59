import t from 'tap';
import { chooseRestore, lazyFromBytes } from '../../edgepoint/restored/choose-restore.ts';

const mebibyte = 2 ** 20;

t.test('which restores are lazy, and why', async (t) => {
  const rows: readonly [string, number, boolean, number, boolean, string][] = [
    ['a small app', 15.8 * mebibyte, true, lazyFromBytes, false, 'its memory is 15.8 MiB, less than 128.0 MiB'],
    ['just below', lazyFromBytes - 1, true, lazyFromBytes, false, 'its memory is 128.0 MiB, less than 128.0 MiB'],
    ['just enough', lazyFromBytes, true, lazyFromBytes, true, 'its memory is 128.0 MiB, at least 128.0 MiB'],
    ['a big heap', 400 * mebibyte, true, lazyFromBytes, true, 'its memory is 400.0 MiB, at least 128.0 MiB'],
    ['a big heap where the kernel says no', 400 * mebibyte, false, lazyFromBytes, false, 'its memory is 400.0 MiB, but this machine lets no instance have its page faults answered (vm.unprivileged_userfaultfd)'],
    ['a snapshot that does not say', 0, true, lazyFromBytes, false, 'its memory is 0 B, less than 128.0 MiB'],
    ['an operator who wants it always', 0, true, 0, true, 'its memory is 0 B, at least 0 B'],
  ];
  for (const [what, memoryBytes, machineAllows, from, lazy, reason] of rows) t.same(chooseRestore({ memoryBytes, machineAllows, lazyFromBytes: from }), { lazy, reason }, what);
});
