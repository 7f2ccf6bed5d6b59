import t from 'tap';
import { type Offering, offerings } from '../../edgepoint/model/offering.ts';
import { type Engine, openEngine } from './engine.ts';
import { loopDevices } from './place.ts';

const mebibyte = 2 ** 20;
const offering: Offering = { ...(offerings[0] as Offering), name: 'test', cpuMillis: 2000, memoryBytes: 256 * mebibyte, diskBytes: 24 * mebibyte, pidsMax: 64 };
const write = (path: string, text: string): string => `require('fs').writeFileSync('${path}', '${text}')`;
const read = (path: string): string => `return require('fs').readFileSync('${path}', 'utf8')`;
const missing = { message: 'ENOENT' };
/** Writes until the disk is full; returns how many bytes went in, and takes the file away again. */
const fill = (path: string): string => `
  const fs = require('fs'); const file = fs.openSync('${path}', 'w'); const bytes = Buffer.alloc(1 << 20, 'x'); let written = 0;
  try { while (written < 1e9) written += fs.writeSync(file, bytes); return ['no end', written]; }
  catch (error) { return [error.code, written]; }
  finally { fs.closeSync(file); fs.unlinkSync('${path}'); }`;

async function booted(engine: Engine, name: string, change = {}): Promise<{ instance: string; address: string }> {
  const instance = await engine.boot(engine.order(name, { offering, ...change }));
  await engine.run(instance, 'return 1');
  return instance;
}

t.test('the private disk of a template, its clones and a kept instance', async (t) => {
  const engine = await openEngine(t);
  // A connection of `run` may not have closed yet when it is put to sleep, and is restored only in a network of its own.
  const first = await booted(engine, 'first', { ownNetwork: true });
  await engine.run(first, `${write('/var/note', 'before')}; ${write('/app/server.js.note', 'beside the artefact')}; require('fs').rmSync('/etc/motd', { force: true })`);
  const path = engine.snapshotPath('shop');
  await engine.snapshot('first', path);
  await engine.run(first, write('/var/note', 'after'));
  const restore = (name: string): Promise<{ instance: string; address: string }> =>
    engine.restore({ ...engine.order(name, { offering, ownNetwork: true }), snapshotPath: path, continues: false });
  const [one, two] = await Promise.all([restore('one'), restore('two')]);

  t.equal(await engine.run(one, read('/var/note')), 'before', 'what was written before the snapshot is there');
  t.equal(await engine.run(one, read('/app/server.js.note')), 'beside the artefact');
  await t.rejects(engine.run(one, read('/etc/motd')), missing, 'what was removed stays removed');
  await engine.run(one, `${write('/var/mine', 'one')}; ${write('/var/note', 'changed by one')}`);
  await t.rejects(engine.run(two, read('/var/mine')), missing, 'what one clone writes, another does not see');
  t.equal(await engine.run(two, read('/var/note')), 'before', 'nor what it changes');
  await engine.run(two, `require('fs').unlinkSync('/var/note')`);
  t.equal(await engine.run(one, read('/var/note')), 'changed by one');
  t.equal(await engine.run(first, read('/var/note')), 'after', 'the instance it was taken from goes its own way');
  t.equal(await engine.run(await restore('three'), read('/var/note')), 'before', 'the template itself has not changed');

  for (const instance of [first, one]) {
    const [code, bytes] = (await engine.run(instance, fill('/var/full'))) as [string, number];
    t.equal(code, 'ENOSPC', `${instance.instance}: a full disk says so`);
    t.ok(bytes > 20 * mebibyte && bytes <= 24 * mebibyte, `at its size: ${bytes}`);
    t.equal(await engine.run(instance, `${write('/var/again', 'yes')}; ${read('/var/again')}`), 'yes', 'it lives on and may write again');
  }

  for (const nap of [1, 2]) {
    await engine.run(first, write(`/var/nap${nap}`, 'kept'));
    const asleep = engine.snapshotPath(`asleep${nap}`);
    await engine.snapshot('first', asleep, false);
    const awake = await engine.restore({ ...engine.order('first', { offering, ownNetwork: true, address: first.address }), snapshotPath: asleep, continues: true });
    t.equal(awake.address, first.address);
    t.equal(await engine.run(first, read(`/var/nap${nap}`)), 'kept', 'a kept instance has what it wrote since its last sleep');
    t.equal(await engine.run(first, read('/var/note')), 'after');
  }
  for (const instance of await engine.list()) await engine.stop(instance.instance);
  await engine.nothingRemains(t, 'no disk is left');
});

t.test('volumes outlive instances, are shared by those that live, and end at their size', async (t) => {
  const engine = await openEngine(t);
  const volumes = [{ name: 'store', imagePath: `${engine.folder}/data/volumes/shop/store.ext4`, sizeBytes: 16 * mebibyte, mountPath: '/srv/store' }];
  const [one, two] = await Promise.all([booted(engine, 'one', { volumes }), booted(engine, 'two', { volumes })]);
  t.equal(loopDevices(engine.folder).length, 1, 'two instances at once have one device');
  await engine.run(one, write('/srv/store/a', 'by one'));
  t.equal(await engine.run(two, read('/srv/store/a')), 'by one', 'what one writes the other sees at once');
  t.same(await engine.run(two, `const s = require('fs').statSync('/srv/store/a'); return [s.uid, s.gid]`), [0, 0], 'owned by root as they see it');
  const [code, bytes] = (await engine.run(one, fill('/srv/store/full'))) as [string, number];
  t.equal(code, 'ENOSPC');
  t.ok(bytes > 8 * mebibyte && bytes < 16 * mebibyte, `at its size: ${bytes}`);
  t.equal(await engine.run(one, `${write('/srv/store/b', 'still')}; ${read('/srv/store/b')}`), 'still', 'the app lives');
  await engine.run(one, write('/var/private', 'mine'));

  const path = engine.snapshotPath('shop');
  await engine.snapshot('one', path);
  await engine.run(one, write('/srv/store/a', 'later'));
  const clone = await engine.restore({ ...engine.order('clone', { offering, volumes }), snapshotPath: path, continues: false });
  t.equal(await engine.run(clone, read('/srv/store/a')), 'later', 'a volume is not part of a snapshot: a clone sees it as it is now');
  t.equal(await engine.run(clone, `${write('/srv/store/c', 'by the clone')}; return 1`), 1);
  t.equal(await engine.run(two, read('/srv/store/c')), 'by the clone');
  for (const name of ['one', 'two', 'clone']) await engine.stop(name);
  await engine.nothingRemains(t, 'no box is left');
  t.same(loopDevices(engine.folder), [], 'and no device');

  const later = await booted(engine, 'later', { volumes, uidSlot: 4321 });
  t.equal(await engine.run(later, read('/srv/store/c')), 'by the clone', 'it outlives its instances, whatever their uids');
  await t.rejects(engine.run(later, read('/var/private')), missing, 'the private disk does not');
});
