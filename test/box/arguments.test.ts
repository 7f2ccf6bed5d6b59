import t from 'tap';
import { bootArguments, type BoxFacts, cgroupFolders, dumpArguments, restoreArguments } from '../../edgepoint/box/arguments.ts';
import type { BoxOrder } from '../../edgepoint/model/calls.ts';

const order: BoxOrder = {
  instance: 'i1',
  owner: { provider: 'ann', scope: 'main', app: 'shop' },
  release: 3,
  uidSlot: 7,
  offering: { name: 'small', cpuMillis: 1000, memoryBytes: 2 ** 29, diskBytes: 2 ** 27, pidsMax: 256 },
  artefactPath: '/data/artefacts/ab',
  volumes: [
    { name: 'a', imagePath: '/data/a.ext4', sizeBytes: 1, mountPath: '/srv/a' },
    { name: 'b', imagePath: '/data/b.ext4', sizeBytes: 1, mountPath: '/srv/b' },
  ],
  hostname: 'shop',
  ownNetwork: false,
  address: null,
};
const facts: BoxFacts = {
  folder: '/run/e/instances/i1',
  base: '/base',
  artefactUid: 990,
  readerGid: 991,
  dev: '/run/e/dev',
  address: '10.1.16.9',
  prefixLength: 20,
  gateway: '10.1.16.1',
};
/** The values that follow an option, once for each time it stands there, up to `--`. */
const valuesOf = (words: readonly string[], option: string, count = 1): string[][] =>
  words.flatMap((word, at) => (word === option ? [words.slice(at + 1, at + 1 + count)] : []));
const box = (words: readonly string[]): string[] => words.slice(1, words.indexOf('--'));
const criu = (words: readonly string[]): string[] => words.slice(words.indexOf('--') + 1);

t.test('a boot', async (t) => {
  const words = bootArguments({ ...order, command: ['node', '--x', '--', 'server.js'], env: { PORT: '80', EMPTY: '', 'ODD': 'a=b c' } }, facts);
  t.equal(words[0], 'boot');
  t.same(criu(words), ['node', '--x', '--', 'server.js'], 'the command comes whole after the first --');
  t.same(valuesOf(words, '--env'), [['PORT=80'], ['EMPTY='], ['ODD=a=b c']]);
  t.same(valuesOf(words, '--volume', 2), [['/data/a.ext4', '/srv/a'], ['/data/b.ext4', '/srv/b']]);
  const rows: readonly (readonly [string, string])[] = [
    ['--folder', '/run/e/instances/i1'],
    ['--base', '/base'],
    ['--artefact', '/data/artefacts/ab'],
    ['--artefact-uid', '990'],
    ['--reader-gid', '991'],
    ['--first-uid', `${7 * 65_536}`],
    ['--disk-bytes', `${2 ** 27}`],
    ['--address', '10.1.16.9'],
    ['--prefix-length', '20'],
    ['--gateway', '10.1.16.1'],
    ['--hostname', 'shop'],
    ['--dev', '/run/e/dev'],
  ];
  for (const [option, value] of rows) t.same(valuesOf(words, option), [[value]], option);
  t.notOk(words.includes('--own-network'));
  t.ok(bootArguments({ ...order, ownNetwork: true, command: ['x'], env: {} }, facts).includes('--own-network'));
});

t.test('a boot and a restore make the same box', async (t) => {
  const booted = box(bootArguments({ ...order, command: ['x'], env: {} }, facts));
  for (const continues of [false, true]) {
    const restored = box(restoreArguments({ ...order, snapshotPath: '/s', continues }, facts, ['criu'], '/w', '/box'));
    restored.splice(restored.indexOf(continues ? '--disk-copy' : '--disk-layer'), 2);
    t.same(restored, booted, 'but for where its private disk comes from');
  }
});

t.test('a restore: what differs between a clone and the instance itself', async (t) => {
  const words = (change: Partial<BoxOrder>, continues: boolean): string[] =>
    restoreArguments({ ...order, ...change, snapshotPath: '/s', continues }, facts, ['/bin/criu', '--x'], '/w', '/box');
  const clone = words({}, false);
  t.same(valuesOf(clone, '--disk-layer'), [['/s/disk']]);
  t.notOk(clone.includes('--disk-copy') || clone.includes('--tcp-established') || clone.includes('--empty-ns'));
  t.ok(clone.includes('--tcp-close'));
  t.same(criu(clone).slice(0, 3), ['/bin/criu', '--x', 'restore']);
  t.same(valuesOf(clone, '--external'), [['mnt[dev]:/run/e/dev'], ['mnt[v0]:/run/e/instances/i1/v0'], ['mnt[v1]:/run/e/instances/i1/v1']]);
  t.same(valuesOf(clone, '--pidfile'), [['/w/restored.pid']]);
  t.same(valuesOf(clone, '--root'), [['/run/e/instances/i1/root']]);
  const same = words({ ownNetwork: true }, true);
  t.same(valuesOf(same, '--disk-copy'), [['/s/disk']]);
  t.notOk(same.includes('--disk-layer') || same.includes('--tcp-close'));
  t.ok(same.includes('--tcp-established'));
  t.same(valuesOf(same, '--empty-ns'), [['net']]);
  t.same(valuesOf(same, '--action-script'), [['/box']]);
});

t.test('a dump', async (t) => {
  const words = (keepRunning: boolean, ownNetwork: boolean): string[] =>
    dumpArguments({ pid: 5, folder: '/run/i1', volumeMountPaths: ['/srv/a'], imagesFolder: '/p/images', keepRunning, ownNetwork, script: '/copy.sh' });
  const sleep = words(false, true);
  t.same(valuesOf(sleep, '--tree'), [['5']]);
  t.same(valuesOf(sleep, '--external'), [['mnt[/dev]:dev'], ['mnt[/srv/a]:v0']], 'named as a restore will name them');
  t.same(valuesOf(sleep, '--empty-ns'), [['net']]);
  t.same(valuesOf(sleep, '--images-dir'), [['/p/images']]);
  t.notOk(sleep.includes('--leave-running'));
  t.ok(words(true, false).includes('--leave-running') && !words(true, false).includes('--empty-ns'));
});

t.test('cgroup folders without repetition', async (t) => {
  const paths = { version: 1 as const, cpu: '/a', cpuLimit: '/b', memory: '/c', pids: '/d', freezer: '/e' };
  t.same(cgroupFolders(paths), ['/a', '/b', '/c', '/d', '/e']);
  t.same(cgroupFolders({ version: 2, cpu: '/a', cpuLimit: '/a', memory: '/a', pids: '/a', freezer: '/a' }), ['/a']);
});
