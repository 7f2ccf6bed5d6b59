import { existsSync, readdirSync } from 'node:fs';
import t from 'tap';
import { chance, moment, rounds } from './chance.ts';
import { openEngine, until } from './engine.ts';
import { loopDevices } from './place.ts';

t.setTimeout(rounds(110_000, 900_000));

t.test('instances live on without restored, and the next one adopts them', async (t) => {
  const engine = await openEngine(t);
  const booted = await engine.boot(engine.order('booted'));
  await engine.run(booted, 'return ++state.count');
  const path = engine.snapshotPath('shop');
  await engine.snapshot('booted', path);
  const restored = await engine.restore({ ...engine.order('restored'), snapshotPath: path, continues: false });
  const third = await engine.boot(engine.order('third'));
  for (const instance of [booted, restored, third]) await engine.run(instance, 'return state.count += 10');
  const before = await engine.list();
  await engine.killDaemon('restored');
  t.equal(await engine.run(booted, 'return state.count'), 11, 'they answer while nobody watches');
  t.equal(await engine.run(restored, 'return state.count'), 11);
  process.kill(third.pid, 'SIGKILL');
  await until('the third is gone', () => !existsSync(`/proc/${third.pid}/exe`) || engine.place.stat(third.pid) === 'Z');
  await engine.startDaemon('restored');
  t.same((await engine.list()).toSorted(byName), before.filter((one) => one.instance !== 'third').toSorted(byName), 'the next one lists those that live, with all their facts');
  await engine.nothingRemains(t, 'and takes away what has ended meanwhile');
  t.same(await engine.boot(engine.order('booted')), booted, 'an order repeated to the next one finds what runs');
  const asleep = engine.snapshotPath('asleep');
  await engine.snapshot('booted', asleep, false);
  const exit = await until('the exit of an adopted one is told', () => engine.exits.find((news) => news.instance === 'booted'));
  t.equal(exit.status, 'snapshotted');
  const clone = await engine.restore({ ...engine.order('clone'), snapshotPath: asleep, continues: false });
  t.equal(await engine.run(clone, 'return state.count'), 11);
  t.equal(new Set([clone.address, restored.address]).size, 2, 'no address is given twice');
  t.match(await engine.stop('restored'), { cpuNs: Number }, 'an adopted one can be stopped');
  await engine.stop('clone');
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('killed at any moment of a start, it leaves an instance that answers or none', { timeout: 600_000 }, async (t) => {
  const random = chance(t);
  // Every start from a snapshot unpacks it, so that some are cut in the middle of that.
  const engine = await openEngine(t, { hotBytes: 0 });
  const template = await engine.boot(engine.order('template', { ownNetwork: true }));
  await engine.run(template, 'return state.count = 7');
  const path = engine.snapshotPath('shop');
  await engine.snapshot('template', path, false);
  const volumes = [{ name: 'store', imagePath: `${engine.folder}/data/volumes/store.ext4`, sizeBytes: 8 * 2 ** 20, mountPath: '/srv/store' }];
  const orders = {
    boot: (name: string) => engine.boot(engine.order(name)),
    'boot with a volume': (name: string) => engine.boot(engine.order(name, { volumes })),
    clone: (name: string) => engine.restore({ ...engine.order(name, { ownNetwork: true }), snapshotPath: path, continues: false }),
    wake: (name: string) => engine.restore({ ...engine.order(name, { ownNetwork: true, address: template.address }), snapshotPath: path, continues: true }),
  };
  const kinds = Object.keys(orders) as (keyof typeof orders)[];
  for (let round = 0; round < rounds(15, 200); round += 1) {
    const kind = kinds[round % kinds.length] as keyof typeof orders;
    const name = `r${round}`;
    const waitMs = random() * 80;
    const started = orders[kind](name).then((instance) => instance, () => null);
    await moment(waitMs);
    await engine.killDaemon('restored');
    const answered = await started;
    engine.configure('restored', Math.floor(round / kinds.length) % 2 === 0 ? { lazyFromBytes: 0 } : {}); // every kind eagerly and lazily
    await engine.startDaemon('restored');
    const live = await engine.list();
    const label = `round ${round}: ${kind}, killed after ${waitMs.toFixed(1)} ms`;
    if (answered) t.same(live, [answered], `${label}: told as started, and still there`);
    for (const instance of live) t.ok(await engine.run(instance, 'return state.count + 1'), `${label}: it answers`);
    await engine.nothingRemains(t, `${label}: ${live.length === 0 ? 'nothing' : 'nothing else'} is left`);
    const again = await orders[kind](name);
    t.ok(await engine.run(again, 'return state.count + 1'), `${label}: the order repeated succeeds`);
    await engine.stop(name);
  }
  t.same(engine.exits.filter((exit) => exit.instance !== 'template'), [], 'none ended by itself');
  t.same(loopDevices(engine.folder), [], 'no device is left of a volume');
  t.same(readdirSync(engine.place.path(`${engine.runFolder}/templates/hot`)), [], 'nothing unpacked, or half unpacked');
});

function byName(a: { instance: string }, b: { instance: string }): number {
  return a.instance < b.instance ? -1 : 1;
}
