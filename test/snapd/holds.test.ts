import { existsSync } from 'node:fs';
import t from 'tap';
import { makeArtefact, probeProgram, server } from '../restored/app.ts';
import { openEngine, unfinished, until } from '../restored/engine.ts';

t.setTimeout(110_000);

/** Starts the probe inside the instance, holding something while it lives; what it says. */
const hold = (what: string): string =>
  `const child = require('child_process').spawn('/app/probe', ['hold', '${what}']); return new Promise((resolve) => child.stdout.once('data', (text) => resolve(String(text).trim())))`;

t.test('a program that holds what cannot be snapshotted is told why and runs on', { timeout: 100_000 }, async (t) => {
  const engine = await openEngine(t);
  const artefactPath = makeArtefact(engine.folder, 'probe', { 'server.js': server, probe: probeProgram(engine.folder) });
  const refused: Readonly<Record<string, string>> = {
    mqueue: 'outside-file',
    notify: 'unsupported-file',
    'huge-memfd': 'huge-pages',
    'proc-inotify': 'watches-files',
    'hard-link': 'renamed-link',
    'thread-timer': 'thread-timer',
    'shared-descriptors': 'shares-with-child',
    'shared-memory': 'shares-with-child',
    vfork: 'does-not-stop',
  };
  /** CRIU waits for it for 10 s. */
  const slow = new Set(['vfork']);
  for (const [what, code] of Object.entries(refused)) {
    const instance = await engine.boot(engine.order(what, { artefactPath, ownNetwork: true }));
    t.equal(await engine.run(instance, hold(what)), 'holding', what);
    for (const keepRunning of slow.has(what) ? [true] : [true, false]) {
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
