import { join } from 'node:path';
import t from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { type Offering, offerings } from '../../edgepoint/model/offering.ts';
import { makeArtefact, probeProgram, server } from './app.ts';
import { openEngine, until } from './engine.ts';

const mebibyte = 2 ** 20;
const offering: Offering = { ...(offerings[0] as Offering), name: 'test', cpuMillis: 300, memoryBytes: 128 * mebibyte, diskBytes: 16 * mebibyte, pidsMax: 40 };

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

/* What an instance sends and is sent goes through two token buckets; a bucket that is full lets this much pass at once. */
const bucketBytes = mebibyte / 2;

t.test('one that sends or is sent more than its offering allows waits, booted or restored', async (t) => {
  const engine = await openEngine(t, { poolSize: 3 });
  const bytesPerSecond = 4 * mebibyte;
  const bytes = 6 * mebibyte;
  const order = (name: string, networkBytesPerSecond: number): ReturnType<typeof engine.order> => engine.order(name, { offering: { ...offering, networkBytesPerSecond } });
  const slow = await engine.boot(order('slow', bytesPerSecond));
  const fast = await engine.boot(order('fast', 1000 * mebibyte));
  const path = engine.snapshotPath('slow');
  await engine.run(slow, 'return 1');
  await engine.snapshot('slow', path);
  const restored = await engine.restore({ ...order('restored', bytesPerSecond), snapshotPath: path, continues: false });

  const sent = async (instance: RunningInstance): Promise<number> => {
    const beganMs = performance.now();
    t.equal(String(await engine.run(instance, `return 'x'.repeat(${bytes})`)).length, bytes);
    return performance.now() - beganMs;
  };
  const received = async (instance: RunningInstance): Promise<number> => {
    const beganMs = performance.now();
    t.equal(await engine.run(instance, `const text = '${'x'.repeat(bytes)}'; return text.length`), bytes);
    return performance.now() - beganMs;
  };
  const leastMs = ((bytes - bucketBytes) / bytesPerSecond) * 1000;
  for (const instance of [slow, restored]) {
    for (const [what, tookMs] of [['sends', await sent(instance)], ['is sent', await received(instance)]] as const) {
      t.ok(tookMs >= leastMs * 0.97, `${instance.instance} ${what} 6 MiB in ${tookMs.toFixed(0)} ms, ${leastMs.toFixed(0)} at least`);
    }
  }
  const freeMs = [await sent(fast), await received(fast)];
  t.ok(Math.max(...freeMs) < leastMs, `one that may do more does: ${freeMs.map((ms) => ms.toFixed(0)).join(' and ')} ms`);
});

t.test('one that asks more of the disk of its volume than its offering allows waits', async (t) => {
  const engine = await openEngine(t);
  const operations = 60;
  const asked = 120;
  const volumes = [{ name: 'data', imagePath: join(engine.folder, 'data/volumes/data.ext4'), sizeBytes: 16 * mebibyte, mountPath: '/data' }];
  const order = (name: string, diskOperationsPerSecond: number): ReturnType<typeof engine.order> => engine.order(name, { volumes, offering: { ...offering, diskOperationsPerSecond } });
  const tookMs = async (instance: RunningInstance): Promise<readonly [written: number, read: number]> =>
    (await engine.run(instance, `
      const { spawnSync } = require('child_process');
      const dd = (...words) => {
        const beganMs = performance.now();
        const done = spawnSync('dd', ['bs=4096', 'count=${asked}', ...words]);
        if (done.status !== 0) throw new Error(done.stderr.toString());
        return performance.now() - beganMs;
      };
      return [dd('if=/dev/zero', 'of=/data/file', 'oflag=direct'), dd('if=/data/file', 'of=/dev/null', 'iflag=direct')]`)) as [number, number];
  const fast = await tookMs(await engine.boot(order('fast', 1_000_000)));
  await engine.stop('fast');
  const slow = await tookMs(await engine.boot(order('slow', operations)));
  /* The kernel counts in slices of a tenth of a second, and lets the first one pass. */
  const leastMs = ((asked - operations * 0.3) / operations) * 1000;
  for (const [index, what] of ['written', 'read'].entries()) {
    t.ok((slow[index] ?? 0) >= leastMs, `${asked} blocks ${what} in ${slow[index]?.toFixed(0)} ms, ${leastMs.toFixed(0)} at least`);
    t.ok((fast[index] ?? 0) < leastMs, `one that may do more does: ${fast[index]?.toFixed(0)} ms`);
  }
});
