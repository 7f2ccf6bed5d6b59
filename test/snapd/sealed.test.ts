import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openEngine, until } from '../restored/engine.ts';

t.test('of a snapshot nothing in plain text comes to the disk, and in memory root alone reads it', async (t) => {
  const engine = await openEngine(t);
  const order = engine.order('kept', { ownNetwork: true });
  const instance = await engine.boot(order);
  // Put together there, so that the whole of it stands nowhere else.
  await engine.run(instance, `state.secret = ['a secret', 'of nobody', 'else'].join(' '); require('fs').writeFileSync('/var/secret', state.secret)`);
  const secret = ['a secret', 'of nobody', 'else'].join(' ');
  const holding = (folder: string): string[] => {
    const done = spawnSync('nsenter', ['--target', `${engine.place.pid}`, '--mount', '--', 'grep', '--recursive', '--files-with-matches', '--fixed-strings', '--devices=skip', secret, folder], { encoding: 'utf8' });
    return done.stdout.split('\n').filter(Boolean);
  };
  const data = join(engine.folder, 'data');
  const memory = join(engine.runFolder, 'templates');

  const template = await engine.snapshot('kept', engine.snapshotPath('template'));
  t.same(holding(data), [], 'not on the disk');
  t.same(holding(memory), [], 'nor left in memory, as long as nobody is restored from it');
  t.equal(statSync(template.snapshotPath).size, template.bytes, 'what is told is what is at rest');
  t.ok(template.bytes < 3e6, `${template.bytes} bytes`);

  const sleep = engine.snapshot('kept', engine.snapshotPath('asleep'), false);
  const seen = new Set<string>();
  let done = false;
  void sleep.finally(() => (done = true));
  while (!done) {
    for (const path of holding(data)) seen.add(path);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  t.same([...seen], [], 'nor while it is taken');
  await sleep;
  await until('it is handed to restores', () => holding(memory).length > 0 && holding(memory).every((path) => path.startsWith(join(memory, 'hot'))));
  t.match(holding(memory), [/hot\/[0-9a-f]{64}\/(images\/pages-1\.img|disk\/var\/secret)/, /hot/], 'as it is, for a wake that may follow at once');

  const mount = readFileSync(`/proc/${engine.place.pid}/mountinfo`, 'utf8').split('\n').find((line) => line.includes(` ${memory} `));
  t.match(mount, / - tmpfs /, 'memory');
  const [major = 0, minor = 0] = release().split('.').map(Number.parseFloat);
  if (major > 6 || (major === 6 && minor >= 4)) t.match(mount, /noswap/, 'that is never swapped');
  t.equal(statSync(engine.place.path(memory)).mode & 0o777, 0o700, 'for root alone');

  const awake = await engine.restore({ ...order, address: instance.address, snapshotPath: (await sleep).snapshotPath, continues: true });
  t.equal(await engine.run(awake, `return state.secret === require('fs').readFileSync('/var/secret', 'utf8')`), true);
  await until('what it slept with has left memory: nobody else wakes by it', () => readdirSync(engine.place.path(join(memory, 'hot'))).length === 0);
  t.same(readdirSync(engine.place.path(join(memory, 'staging'))), []);
  const clone = await engine.restore({ ...order, instance: 'clone', snapshotPath: template.snapshotPath, continues: false });
  const hot = (): string[] => readdirSync(engine.place.path(join(memory, 'hot'))).flatMap((name) => ['disk', 'images'].filter((part) => existsSync(engine.place.path(join(memory, 'hot', name, part)))));
  t.same(hot(), ['disk', 'images'], 'unpacked for a clone');
  await engine.snapd.call('discard', { snapshotPath: template.snapshotPath });
  t.notOk(existsSync(engine.snapshotPath('template')), 'discarded by the name that was told');
  await until('of what is discarded only the disk is left, on which a clone stands', () => hot().join() === 'disk');
  t.equal(await engine.run(clone, `return require('fs').readFileSync('/var/secret', 'utf8')`), secret);
  await engine.stop('clone');
  await until('and then nothing', () => hot().length === 0);
});
