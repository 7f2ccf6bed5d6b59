import { cgroupFolders } from '../../edgepoint/box/cgroup.ts';
import t from 'tap';
import { bootArguments, type BoxFacts, dumpArguments, guardedEnvironment, restoreArguments } from '../../edgepoint/box/arguments.ts';
import { restoreRequest } from '../../edgepoint/box/criu-request.ts';
import type { BoxOrder } from '../../edgepoint/model/calls.ts';

const order: BoxOrder = {
  instance: 'i1',
  owner: { provider: 'ann', scope: 'main', app: 'shop' },
  release: 3,
  uidSlot: 7,
  offering: { name: 'small', cpuMillis: 1000, memoryBytes: 2 ** 29, diskBytes: 2 ** 27, pidsMax: 256, networkBytesPerSecond: 1_000_000, diskOperationsPerSecond: 500 },
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
  guard: '/usr/lib/guard',
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
  const guard = Object.entries(guardedEnvironment({}, '/usr/lib/guard')).map(([name, value]) => [`${name}=${value}`]);
  t.same(valuesOf(words, '--env'), [['PORT=80'], ['EMPTY='], ['ODD=a=b c'], ...guard]);
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
  const files = [{ path: '/run/me', text: '{instance} at {address} with {peers}, {unknown}\n' }];
  const filed = bootArguments({ ...order, files, command: ['x'], env: {} }, { ...facts, peers: ['10.1.16.7', '10.1.16.8'] });
  t.same(valuesOf(filed, '--file', 2), [['/run/me', 'i1 at 10.1.16.9 with 10.1.16.7,10.1.16.8, {unknown}\n']]);
  const processes = [{ name: 'worker', command: ['sh', '-c', '--'], env: { A: 'b', EMPTY: '' }, mustLive: true }, { name: 'once', command: ['true'], env: {}, mustLive: false }];
  const chained = bootArguments({ ...order, processes, command: ['node'], env: {} }, facts);
  t.equal(
    chained.slice(chained.indexOf('--process')).join(' '),
    '--process 9 worker must-live 2 A=b EMPTY= 3 sh -c -- --process 5 once may-end 0 1 true -- node',
    'each process is counted, so that its words may be any',
  );
  t.notOk(words.includes('--own-network'));
  t.ok(bootArguments({ ...order, ownNetwork: true, command: ['x'], env: {} }, facts).includes('--own-network'));
});

t.test('the clone guard is loaded before what the provider asks for', async (t) => {
  t.same(guardedEnvironment({ COLOUR: 'red', LD_PRELOAD: '/app/a.so', NODE_OPTIONS: '--max-old-space-size=64', PYTHONPATH: '/app/lib' }, '/g'), {
    COLOUR: 'red',
    LD_PRELOAD: '/g/clone-guard.so:/app/a.so',
    NODE_OPTIONS: '--require=/g/clone-guard.cjs --max-old-space-size=64',
    BUN_OPTIONS: '--preload=/g/clone-guard.cjs',
    PYTHONPATH: '/g/python:/app/lib',
  });
});

t.test('a boot and a restore make the same box', async (t) => {
  const booted = box(bootArguments({ ...order, command: ['x'], env: {} }, facts)).filter((word, at, words) => word !== '--env' && words[at - 1] !== '--env');
  for (const continues of [false, true]) {
    const restored = box(restoreArguments({ ...order, snapshotPath: '/s', continues }, facts, '/w', null));
    restored.splice(restored.indexOf(continues ? '--disk-copy' : '--disk-layer'), 6);
    t.same(restored, booted, 'but for the environment, and for where its private disk and its memory come from');
  }
});

t.test('a restore: what differs between a clone and the instance itself', async (t) => {
  const words = (change: Partial<BoxOrder>, continues: boolean, fillFile: string | null = null): string[] =>
    restoreArguments({ ...order, ...change, snapshotPath: '/s', continues }, facts, '/w', fillFile);
  const clone = words({}, false);
  t.same(valuesOf(clone, '--disk-layer'), [['/s/disk']]);
  t.notOk(clone.includes('--disk-copy'));
  t.same(valuesOf(clone, '--images'), [['/s/images']]);
  t.same(valuesOf(clone, '--work'), [['/w']]);
  const external = ['mnt[dev]:/run/e/dev', 'mnt[v0]:/run/e/instances/i1/v0', 'mnt[v1]:/run/e/instances/i1/v1'];
  const wish = { root: '/run/e/instances/i1/root', external, logFile: 'restore.log', lazy: false };
  const hex = (request: Uint8Array): string => Buffer.from(request).toString('hex');
  t.same(clone.slice(-2), ['--', hex(restoreRequest({ ...wish, connections: 'close', ownNetwork: false }))]);
  const same = words({ ownNetwork: true }, true);
  t.same(valuesOf(same, '--disk-copy'), [['/s/disk']]);
  t.notOk(same.includes('--disk-layer'));
  t.equal(same.at(-1), hex(restoreRequest({ ...wish, connections: 'keep', ownNetwork: true })));
  t.notOk(clone.includes('--fill'));
  const lazy = words({}, false, '/run/e/instances/i1.fill');
  t.same(valuesOf(lazy, '--fill', 2), [['/run/e/instances/i1.fill', '/s/first-pages']]);
  t.equal(lazy.at(-1), hex(restoreRequest({ ...wish, connections: 'close', ownNetwork: false, lazy: true })));
});

t.test('a request to CRIU, byte by byte', async (t) => {
  const request = restoreRequest({ root: '/r', external: ['mnt[dev]:/d'], connections: 'close', ownNetwork: true, logFile: 'l', lazy: true });
  const rows: [string, string][] = [
    ['criu_req.type = RESTORE', '08 02'],
    ['criu_req.opts, 48 bytes', '12 30'],
    ['images_dir_fd = 50', '08 32'],
    ['work_dir_fd = 51', '88 01 33'],
    ['log_level = 2', '48 02'],
    ['log_file = l', '52 01 6c'],
    ['root = /r', '6a 02 2f 72'],
    ['manage_cgroups_mode = IGNORE', '90 02 00'],
    ['file_locks = true', '40 01'],
    ['external = mnt[dev]:/d', 'aa 02 0b 6d 6e 74 5b 64 65 76 5d 3a 2f 64'],
    ['tcp_close = true', 'a0 03 01'],
    ['lazy_pages = true', '80 03 01'],
    ['empty_ns = CLONE_NEWNET', 'b0 02 80 80 80 80 04'],
    ['notify_scripts = true', '60 01'],
  ];
  t.equal(Buffer.from(request).toString('hex'), rows.map(([, bytes]) => bytes.replaceAll(' ', '')).join(''), rows.map(([what]) => what).join(', '));
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
  const paths = { version: 1 as const, cpu: '/a', cpuLimit: '/b', memory: '/c', pids: '/d', freezer: '/e', io: '/f' };
  t.same(cgroupFolders(paths), ['/a', '/b', '/c', '/d', '/e', '/f']);
  t.same(cgroupFolders({ version: 2, cpu: '/a', cpuLimit: '/a', memory: '/a', pids: '/a', freezer: '/a', io: '/a' }), ['/a']);
});
