import t from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import type { Offering } from '../../edgepoint/model/offering.ts';
import { makeArtefact, probeProgram, server } from './app.ts';
import { openEngine, until } from './engine.ts';

const mebibyte = 2 ** 20;
const offering: Offering = { name: 'test', cpuMillis: 300, memoryBytes: 128 * mebibyte, diskBytes: 16 * mebibyte, pidsMax: 40 };

t.test('one that takes more than its offering harms nobody else, booted or restored', async (t) => {
  const engine = await openEngine(t, { poolSize: 3 });
  const artefactPath = makeArtefact(engine.folder, 'probe', { 'server.js': server, probe: probeProgram(engine.folder) });
  const order = (name: string): ReturnType<typeof engine.order> => engine.order(name, { offering, artefactPath });
  const neighbour = await engine.boot(order('neighbour'));
  const booted = await engine.boot(order('booted'));
  await Promise.all([neighbour, booted].map((instance) => engine.run(instance, 'return 1')));
  const path = engine.snapshotPath('shop');
  await engine.snapshot('booted', path);
  const restored = await engine.restore({ ...order('restored'), snapshotPath: path, continues: false });

  const attack = async (instance: RunningInstance): Promise<void> => {
    const name = instance.instance;
    const said = String(await engine.run(instance, `return require('child_process').spawnSync('/app/probe', ['fork']).stdout.toString()`)).trim();
    const [made, why] = said.split(' ');
    t.equal(why, 'EAGAIN', `${name}: a fork bomb ends`);
    t.ok(Number(made) > 5 && Number(made) < 40, `${name}: at ${made} processes`);
    t.equal(await engine.run(instance, 'return 1'), 1, `${name}: it answers after its fork bomb`);

    const before = Number(await engine.run(instance, 'return process.hrtime.bigint().toString()'));
    const usedUs = Number(await engine.run(instance, `
      const from = process.cpuUsage(), end = Date.now() + 1200; while (Date.now() < end); const used = process.cpuUsage(from); return used.user + used.system`));
    const wallMs = (Number(await engine.run(instance, 'return process.hrtime.bigint().toString()')) - before) / 1e6;
    t.ok(usedUs / 1000 < wallMs * 0.3 + 150, `${name}: ${usedUs / 1000} ms of processor in ${wallMs} ms`);

    void engine.run(instance, `state.hog = []; for (;;) state.hog.push(Buffer.alloc(8 << 20, 'x'))`).catch(() => undefined); // it dies before it answers
    const exit = await until(`${name} dies of its hunger`, () => engine.exits.find((news) => news.instance === name), 15_000);
    t.equal(exit.status, 'ended');
    t.equal(await engine.run(neighbour, 'return ++state.count'), instance === booted ? 1 : 2, `its neighbour lives`);
  };
  await attack(booted);
  await attack(restored);
  t.same((await engine.list()).map((instance) => instance.instance), ['neighbour']);
  await engine.nothingRemains(t, 'the boxes of the dead are gone');
});
