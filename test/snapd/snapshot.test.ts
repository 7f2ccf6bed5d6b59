import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { makeArtefact, probeProgram } from '../restored/app.ts';
import { openEngine, until } from '../restored/engine.ts';

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
  const data = dirname(dirname(dirname(path)));
  for (const stranger of [dirname(data), join(data, '..', 'other', 'x'), data, join(data, 'f'.repeat(64))]) {
    await t.rejects(engine.snapd.call('discard', { snapshotPath: stranger }), { code: 'not-a-snapshot' }, `${stranger} is none of its own`);
  }
  t.ok(existsSync(data));
  await engine.nothingRemains(t, 'nothing remains');
});

t.test('a program gives back the memory it does not use before it becomes a template, and only then', async (t) => {
  const engine = await openEngine(t);
  const program = await engine.boot(engine.order('garbage'));
  const heldMb = async (): Promise<number> => Number(await engine.run(program, 'return process.memoryUsage().heapTotal')) / 2 ** 20;
  await engine.run(program, 'for (let i = 0; i < 3e5; i += 1) state.last = { i, text: String(i) };');
  const before = await heldMb();
  const taken = await engine.snapshot('garbage', engine.snapshotPath('garbage'), true);
  t.ok((await heldMb()) < before - 2, `${before.toFixed(1)} MiB of heap became ${(await heldMb()).toFixed(1)}`);
  t.ok(taken.bytes < 12 * 2 ** 20, `a snapshot of ${taken.bytes} bytes`);
  t.equal(await engine.run(program, `return process.listenerCount('SIGPWR')`), 0, 'it is asked once');
  await engine.boot(engine.order('asleep'));
  await engine.snapshot('asleep', engine.snapshotPath('asleep'), false);
});

t.test('a snapshot names the programs that have no clone guard', async (t) => {
  const engine = await openEngine(t);
  const guarded = await engine.boot(engine.order('guarded'));
  await engine.run(guarded, 'return 1');
  t.same((await engine.snapshot('guarded', engine.snapshotPath('guarded'))).unguarded, []);
  const artefactPath = makeArtefact(engine.folder, 'static', { probe: probeProgram(engine.folder) });
  await engine.boot(engine.order('static', { artefactPath, command: ['/app/probe', 'hold', 'deleted-file'] }));
  t.same((await engine.snapshot('static', engine.snapshotPath('static'))).unguarded, ['probe (linked statically)']);
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
  for (let round = 0; round < 20; round += 1) await t.rejects(engine.boot(engine.order('void', { artefactPath: '/nowhere' })), { message: /nowhere/ }, 'also when its slot was made a moment ago');
  const polite = await engine.boot(engine.order('polite', { command: ['node', '-e', "process.on('SIGTERM', () => { require('fs').writeFileSync('/dev/stdout', 'bye'); process.exit(0); }); setInterval(() => {}, 1000); console.log('up')"] }));
  await until('it listens for signals', () => readFileSync(engine.place.path(polite.logPath), 'utf8').includes('up'));
  const fromMs = Date.now();
  t.match(await engine.stop('polite', 20_000), { cpuNs: Number }, 'a stop tells what it used, also when it ended by itself');
  t.ok(Date.now() - fromMs < 10_000, 'a program that ends on SIGTERM is not waited for longer');
  t.equal(engine.exits.length, 1, 'a stop is no news');
  await engine.nothingRemains(t, 'nothing remains');
});

t.test('a full disk fails the snapshot, not the instance', async (t) => {
  const engine = await openEngine(t);
  const instance = await engine.boot(engine.order('first'));
  await engine.run(instance, `require('fs').writeFileSync('/var/much', require('crypto').randomBytes(12 << 20))`); // which no sealing makes smaller
  const small = join(engine.folder, 'data', 'small');
  mkdirSync(small);
  const inPlace = (...command: string[]): void => {
    const done = spawnSync('nsenter', ['--target', `${engine.place.pid}`, '--mount', '--', ...command]);
    if (done.status !== 0) throw new Error(done.stderr.toString());
  };
  for (const size of ['64k', '3m', '10m']) {
    inPlace('mount', '-t', 'tmpfs', '-o', `size=${size}`, 'small', small);
    for (const keepRunning of [true, false]) {
      await t.rejects(engine.snapshot('first', join(small, 'x', '1'), keepRunning), { code: 'disk-full' }, `${size}, ${keepRunning ? 'to run on' : 'to sleep'}`);
      t.ok(await engine.run(instance, 'return ++state.count'), 'it runs on and answers');
    }
    t.same(readdirSync(engine.place.path(join(small, 'x'))), [], 'no part of it is left');
    inPlace('umount', small);
  }
  const memory = join(engine.runFolder, 'templates');
  inPlace('mount', '-o', 'remount,size=8m', memory);
  for (const keepRunning of [true, false]) {
    await t.rejects(engine.snapshot('first', engine.snapshotPath('big'), keepRunning), { code: 'memory-full' }, `too little memory, ${keepRunning ? 'to run on' : 'to sleep'}`);
    t.ok(await engine.run(instance, 'return ++state.count'), 'it runs on and answers');
  }
  t.same(readdirSync(engine.place.path(join(memory, 'staging'))), [], 'no part of it is left');
  inPlace('mount', '-o', 'remount,size=50%', memory);
  await engine.snapshot('first', engine.snapshotPath('shop'));
  t.ok(existsSync(engine.snapshotPath('shop')), 'with room it succeeds');
});
