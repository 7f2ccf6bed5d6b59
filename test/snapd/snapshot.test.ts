import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeArtefact, probeProgram, server } from '../restored/app.ts';
import { openEngine, unfinished, until } from '../restored/engine.ts';

/** Starts the probe inside the instance, holding something while it lives; what it says. */
const hold = (what: string): string =>
  `const child = require('child_process').spawn('/app/probe', ['hold', '${what}']); return new Promise((resolve) => child.stdout.once('data', (text) => resolve(String(text).trim())))`;

t.test('a program that holds what cannot be snapshotted is told why and runs on', async (t) => {
  const engine = await openEngine(t);
  const artefactPath = makeArtefact(engine.folder, 'probe', { 'server.js': server, probe: probeProgram(engine.folder) });
  const refused: Readonly<Record<string, string>> = { mqueue: 'unsupported-file', notify: 'unsupported-file', 'huge-memfd': 'unsupported-file', 'proc-inotify': 'watches-files' };
  for (const [what, code] of Object.entries(refused)) {
    const instance = await engine.boot(engine.order(what, { artefactPath, ownNetwork: true }));
    t.equal(await engine.run(instance, hold(what)), 'holding', what);
    for (const keepRunning of [true, false]) {
      await t.rejects(engine.snapshot(what, engine.snapshotPath(what), keepRunning), { code, message: /could not be snapshotted/, remedy: /criu\// }, `${what}: ${code}`);
      t.equal(await engine.run(instance, `state.count += 1; return state.count`), keepRunning ? 1 : 2, `${what}: it runs on and answers`);
      t.notOk(existsSync(engine.snapshotPath(what)), `${what}: no snapshot`);
    }
    await engine.stop(what);
    t.equal(engine.exits.length, 0, `${what}: it did not end by itself`);
  }
  t.same(unfinished(engine.folder), [], 'no unfinished snapshot is left');
  await engine.nothingRemains(t, 'nor anything else');
});

t.test('what programs often hold is snapshotted and wakes with them', async (t) => {
  const engine = await openEngine(t);
  const artefactPath = makeArtefact(engine.folder, 'probe', { 'server.js': server, probe: probeProgram(engine.folder) });
  const instance = await engine.boot(engine.order('first', { artefactPath }));
  await engine.run(instance, `const fs = require('fs'); state.seen = {}; fs.writeFileSync('/var/watched', '');
    for (const path of ['/var/watched', '/app', '/app/server.js']) fs.watch(path, () => { state.seen[path] = true; });
    state.deleted = fs.openSync('/var/deleted', 'w+'); fs.writeSync(state.deleted, Buffer.alloc(3 << 20, 'd')); fs.unlinkSync('/var/deleted');
    state.timer = 0; setInterval(() => { state.timer += 1; }, 5); state.started = performance.now();
    state.child = require('child_process').spawn('/bin/sh', ['-c', 'while read line; do echo "got $line"; done']);
    state.random = require('crypto').randomUUID();`);
  for (const what of ['pidfd', 'netlink', 'system-v', 'descriptor-in-flight', 'aio']) t.equal(await engine.run(instance, hold(what)), 'holding', what);
  for (const what of ['mptcp', 'landlock', 'secret-memory']) t.match(String(await engine.run(instance, hold(what))), /^(ENOSYS|EPROTONOSUPPORT)$/, `${what} is refused, so that it cannot be in the way`);
  await engine.snapshot('first', engine.snapshotPath('shop'));
  const clone = await engine.restore({ ...engine.order('clone', { artefactPath }), snapshotPath: engine.snapshotPath('shop'), continues: false });
  t.equal(await engine.run(clone, `const bytes = Buffer.alloc(10); require('fs').readSync(state.deleted, bytes, 0, 10, (3 << 20) - 10); return String(bytes)`), 'dddddddddd', 'a deleted file');
  t.equal(await engine.run(clone, `state.child.stdin.write('x\\n'); return new Promise((resolve) => state.child.stdout.once('data', (text) => resolve(String(text).trim())))`), 'got x', 'a child and its pipes');
  const ticks = Number(await engine.run(clone, 'return state.timer'));
  await until('timers go on', async () => Number(await engine.run(clone, 'return state.timer')) > ticks + 3);
  t.ok(Number(await engine.run(clone, 'return performance.now() - state.started')) < 60_000, 'the monotonic clock goes on from where it was');
  t.same(await engine.run(clone, 'return state.seen'), {});
  for (const path of ['/var/watched', '/app/server.js', '/app/new']) await engine.run(clone, `require('fs').appendFileSync('${path}', 'new')`);
  await until('each watch sees its change', async () => Object.keys((await engine.run(clone, 'return state.seen')) as object).length === 3);
});

t.test('orders that repeat, contradict or come to nobody', async (t) => {
  const engine = await openEngine(t);
  const order = engine.order('first');
  const [one, two] = await Promise.all([engine.boot(order), engine.boot(order)]);
  t.same(one, two, 'a boot repeated at the same time has one result');
  t.same(await engine.boot(order), one, 'and repeated later');
  t.equal((await engine.list()).length, 1);
  await engine.run(one, 'return 1');
  const path = engine.snapshotPath('shop');
  const [first, second] = await Promise.all([engine.snapshot('first', path), engine.snapshot('first', path)]);
  t.same(first, second, 'a snapshot repeated at the same time has one result');
  const both = await Promise.all(['a', 'b'].map((name) => engine.snapshot('first', engine.snapshotPath(name))));
  t.ok(both[0]?.bytes && both[1]?.bytes, 'two snapshots of one instance are taken one after the other');
  await t.rejects(engine.snapshot('first', path), { code: 'exists' }, 'a snapshot is never overwritten');
  await t.rejects(engine.snapshot('nobody', engine.snapshotPath('nobody')), { code: 'no-such-instance' });
  t.notOk(existsSync(engine.snapshotPath('nobody')));
  const asleep = await engine.snapshot('first', engine.snapshotPath('asleep'), false);
  t.same(await engine.snapshot('first', engine.snapshotPath('asleep'), false), asleep, 'a sleep repeated after its answer was lost gets it again');
  await until('the end is told', () => engine.exits.length === 1);
  t.match(engine.exits, [{ instance: 'first', status: 'snapshotted' }], 'once');
  const wake = { ...order, snapshotPath: path, continues: false };
  const clones = await Promise.all([engine.restore({ ...wake, instance: 'x' }), engine.restore({ ...wake, instance: 'x' })]);
  t.same(clones[0], clones[1], 'a restore repeated at the same time has one result');
  t.equal(await engine.stop('nobody'), null, 'a stop of nobody');
  const stopped = await Promise.all([engine.stop('x'), engine.stop('x')]);
  t.match(stopped[0], { cpuNs: Number });
  t.same(stopped[0], stopped[1], 'two stops at once');
  for (const name of ['a', 'a', 'b', 'asleep', 'shop']) await engine.snapd.call('discard', { snapshotPath: engine.snapshotPath(name) });
  t.notOk(existsSync(path), 'discarded');
  await engine.nothingRemains(t, 'nothing remains');
});

t.test('a program that ends at once is told of, and its box goes', async (t) => {
  const engine = await openEngine(t);
  await engine.boot(engine.order('short', { command: ['node', '-e', 'process.exit(3)'] }));
  const exit = await until('its end is told', () => engine.exits[0]);
  t.match(exit, { instance: 'short', status: 'ended', counters: { cpuNs: Number, memoryBytes: Number } });
  t.ok(exit.counters.cpuNs > 1e6, 'with what it used');
  await engine.nothingRemains(t, 'its box is gone');
  await t.rejects(engine.boot(engine.order('folder', { command: ['/app'] })), { code: 'cannot-start', message: /\/app: Permission denied/ });
  await t.rejects(engine.boot(engine.order('void', { artefactPath: '/nowhere' })), { message: /nowhere/ });
  const polite = await engine.boot(engine.order('polite', { command: ['node', '-e', "process.on('SIGTERM', () => { require('fs').writeFileSync('/dev/stdout', 'bye'); process.exit(0); }); setInterval(() => {}, 1000); console.log('up')"] }));
  await until('it listens for signals', () => readFileSync(engine.place.path(polite.logPath), 'utf8').includes('up'));
  const fromMs = Date.now();
  t.match(await engine.stop('polite', 20_000), { cpuNs: Number }, 'a stop tells what it used, also when it ended by itself');
  t.ok(Date.now() - fromMs < 10_000, 'a program that ends on SIGTERM is not waited for longer');
  t.equal(engine.exits.length, 1, 'a stop is no news');
  await engine.nothingRemains(t, 'nothing remains');
});

t.test('a snapshot that is cut or altered does not start, says so, and leaves nothing', async (t) => {
  const engine = await openEngine(t);
  const instance = await engine.boot(engine.order('first'));
  await engine.run(instance, 'return 1');
  const good = engine.snapshotPath('good');
  await engine.snapshot('first', good);
  const images = readdirSync(join(good, 'images'));
  const pages = images.find((name) => /^pages-\d/.test(name)) as string;
  const core = images.find((name) => name.startsWith('core-')) as string;
  const table: Readonly<Record<string, (path: string) => void>> = {
    'pages cut in half': (path) => truncateSync(join(path, 'images', pages), Math.floor(statSync(join(path, 'images', pages)).size / 2)),
    'no pages': (path) => rmSync(join(path, 'images', pages)),
    'an empty core': (path) => truncateSync(join(path, 'images', core), 0),
    'noise for a core': (path) => writeFileSync(join(path, 'images', core), Buffer.alloc(500, 0xa5)),
    'no inventory': (path) => rmSync(join(path, 'images/inventory.img')),
    'no images': (path) => rmSync(join(path, 'images'), { recursive: true }),
    'no disk': (path) => rmSync(join(path, 'disk'), { recursive: true }),
    'nothing at all': (path) => rmSync(path, { recursive: true }),
  };
  for (const [label, spoil] of Object.entries(table)) {
    const path = engine.snapshotPath('spoilt');
    rmSync(path, { recursive: true, force: true });
    cpSync(good, path, { recursive: true, verbatimSymlinks: true });
    spoil(path);
    await t.rejects(engine.restore({ ...engine.order('bad'), snapshotPath: path, continues: false }), { code: 'cannot-restore', message: /./ }, label);
    t.same((await engine.list()).map((one) => one.instance), ['first'], `${label}: no instance`);
    await engine.nothingRemains(t, `${label}: nothing remains`);
  }
  const clone = await engine.restore({ ...engine.order('clone'), snapshotPath: good, continues: false });
  t.equal(await engine.run(clone, 'return 2'), 2, 'the good one still starts');
});

t.test('a full disk fails the snapshot, not the instance', async (t) => {
  const engine = await openEngine(t);
  const instance = await engine.boot(engine.order('first'));
  await engine.run(instance, `require('fs').writeFileSync('/var/much', Buffer.alloc(6 << 20, 'x'))`);
  const small = join(engine.folder, 'data', 'small');
  mkdirSync(small);
  const inPlace = (...command: string[]): void => {
    const done = spawnSync('nsenter', ['--target', `${engine.place.pid}`, '--mount', '--', ...command]);
    if (done.status !== 0) throw new Error(done.stderr.toString());
  };
  for (const size of ['64k', '3m', '14m']) {
    inPlace('mount', '-t', 'tmpfs', '-o', `size=${size}`, 'small', small);
    for (const keepRunning of [true, false]) {
      await t.rejects(engine.snapshot('first', join(small, 'x', '1'), keepRunning), { code: 'disk-full' }, `${size}, ${keepRunning ? 'to run on' : 'to sleep'}`);
      t.ok(await engine.run(instance, 'return ++state.count'), 'it runs on and answers');
    }
    t.same(readdirSync(engine.place.path(join(small, 'x'))), [], 'no part of it is left');
    inPlace('umount', small);
  }
  await engine.snapshot('first', engine.snapshotPath('shop'));
  t.ok(existsSync(engine.snapshotPath('shop')), 'with room it succeeds');
});
