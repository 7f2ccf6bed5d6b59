import { existsSync, readFileSync } from 'node:fs';
import t from 'tap';
import { hotPath } from '../../edgepoint/box/folders.ts';
import type { FreezeTaken } from '../../edgepoint/model/calls.ts';
import { readCounters } from '../../edgepoint/perf/counters.ts';
import { readZramSwap } from '../../host/zram.ts';
import { echo, makeArtefact } from './app.ts';
import { chance, moment, rounds } from './chance.ts';
import { type Engine, openEngine, until } from './engine.ts';

t.setTimeout(rounds(180_000, 900_000));

const freeze = (engine: Engine, instance: string): Promise<FreezeTaken> => engine.restored.call('freeze', { instance }) as Promise<FreezeTaken>;
const thaw = (engine: Engine, instance: string): Promise<unknown> => engine.restored.call('thaw', { instance });
const frozenOnes = async (engine: Engine): Promise<string[]> => (await engine.list()).flatMap((one) => (one.frozen === true ? [one.instance] : []));

/** 40 MB of text in the heap, of which no two pieces are alike, and its digest. */
const fill = `
  state.digest = () => { const hash = require('crypto').createHash('sha256'); for (const one of state.text) hash.update(one); return hash.digest('hex'); };
  state.text = Array.from({ length: 40_000 }, (_, at) => ('entry ' + at + ' of the register, ').repeat(45) + at);
  return state.digest();`;

t.test('a frozen instance stands still, gives its memory back, and goes on with every byte of it', async (t) => {
  const engine = await openEngine(t);
  const shop = await engine.boot(engine.order('shop', { ownNetwork: true }));
  const digest = await engine.run(shop, fill);
  await engine.run(shop, 'state.ticks = 0; setInterval(() => { state.ticks += 1; }, 5)');
  const billed = (): number => readCounters(shop.cgroup)?.memoryBytes ?? 0;
  const billedBefore = billed();
  const taken = await freeze(engine, 'shop');
  t.same(await frozenOnes(engine), ['shop']);
  const counted = (): string => readFileSync(`${shop.cgroup.cpu}/${shop.cgroup.version === 1 ? 'cpuacct.usage' : 'cpu.stat'}`, 'utf8');
  const before = counted();
  await moment(200);
  t.equal(counted(), before, 'it uses no processor time');
  t.ok(taken.memoryBytes > 40e6, `it held ${taken.memoryBytes} bytes`);
  if (readZramSwap() === null) t.equal(taken.givenBackBytes, 0, 'with no swap on zram it keeps its memory');
  else t.ok(taken.givenBackBytes > 40e6, `it gave ${taken.givenBackBytes} bytes back`);
  t.ok(billed() <= billedBefore - taken.givenBackBytes + 2e6, `what it gave back is not billed: ${billed()} bytes after ${billedBefore}`);
  t.match(await freeze(engine, 'shop'), { memoryBytes: Number }, 'a repeated freeze is none');
  t.same(await frozenOnes(engine), ['shop']);

  const asked = engine.run(shop, 'return state.digest()');
  await moment(50);
  await thaw(engine, 'shop');
  t.equal(await asked, digest, 'a request that came meanwhile is answered, and its memory is whole');
  t.same(await frozenOnes(engine), []);
  await thaw(engine, 'shop');
  const ticks = Number(await engine.run(shop, 'return state.ticks'));
  await until('its timers go on', async () => Number(await engine.run(shop, 'return state.ticks')) > ticks + 3);

  const path = engine.snapshotPath('shop');
  await freeze(engine, 'shop');
  await thaw(engine, 'shop');
  await engine.snapshot('shop', path, false);
  const awake = await engine.restore({ ...engine.order('shop', { ownNetwork: true }), address: shop.address, snapshotPath: path, continues: true });
  t.equal(await engine.run(awake, 'return state.digest()'), digest, 'also through a snapshot');
  await t.rejects(freeze(engine, 'nobody'), { code: 'no-such-instance' });
  await t.rejects(thaw(engine, 'nobody'), { code: 'no-such-instance' });
});

t.test('what a thaw needed stays in memory at the next freeze, and is read from nowhere', { skip: readZramSwap() === null ? 'this machine has no swap on zram' : false }, async (t) => {
  const engine = await openEngine(t);
  const shop = await engine.boot(engine.order('shop'));
  const digest = await engine.run(shop, fill);
  const residentBytes = (): number => Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${shop.pid}/status`, 'utf8'))?.[1]) * 1024;
  const majorFaults = (): number => Number(readFileSync(`/proc/${shop.pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[9]);
  const hot = hotPath(engine.runFolder, 'shop');
  const wake = async (): Promise<number> => {
    const before = majorFaults();
    await thaw(engine, 'shop');
    await engine.run(shop, 'return 1');
    return majorFaults() - before;
  };
  let coldBytes = 0;
  let unlearnt = 0;
  /* A garbage collection in that moment touches the whole heap, from which nothing is learnt: the next thaw is asked again. */
  for (let tries = 0; tries < 8 && !existsSync(hot); tries += 1) {
    await freeze(engine, 'shop');
    coldBytes = residentBytes();
    unlearnt = await wake();
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  t.ok(existsSync(hot), 'it is learnt what that needed');
  await freeze(engine, 'shop');
  const keptBytes = residentBytes();
  t.ok(keptBytes > coldBytes && keptBytes < 20e6, `${keptBytes} bytes stay, after ${coldBytes}`);
  const learnt = await wake();
  t.ok(learnt < unlearnt / 4, `${learnt} page faults are waited for, after ${unlearnt}`);
  await engine.run(shop, 'return state.digest()');
  await until('what it has touched meanwhile is too much to keep', async () => {
    await freeze(engine, 'shop');
    await thaw(engine, 'shop');
    await engine.run(shop, 'return state.digest()');
    await moment(200);
    return !existsSync(hot);
  });
  t.equal(await engine.run(shop, 'return state.digest()'), digest, 'its memory is whole');
});

t.test('an open connection goes on where it was', async (t) => {
  const engine = await openEngine(t);
  const order = engine.order('echo', { artefactPath: makeArtefact(engine.folder, 'echo', { 'server.js': echo }) });
  const socket = await engine.connect(await engine.boot(order));
  let came = '';
  socket.on('data', (bytes: Buffer) => (came += bytes.toString()));
  socket.write('before;');
  await until('the first bytes come back', () => came === 'before;');
  await freeze(engine, 'echo');
  socket.write('meanwhile;');
  await moment(100);
  t.equal(came, 'before;', 'nothing of it runs');
  await thaw(engine, 'echo');
  socket.write('after;');
  await until('all bytes come back', () => came === 'before;meanwhile;after;');
  socket.destroy();
});

t.test('a frozen instance can be ended: at once, or with grace', async (t) => {
  const engine = await openEngine(t);
  const onTerm = `require('http').createServer((_, answer) => answer.end('{"ok":1}')).listen(8080, '0.0.0.0'); process.on('SIGTERM', () => { console.log('bye'); process.exit(0); });`;
  const artefactPath = makeArtefact(engine.folder, 'polite', { 'server.js': onTerm });
  for (const [name, graceMs] of [['at-once', 0], ['with-grace', 5000]] as const) {
    const instance = await engine.boot(engine.order(name, { artefactPath }));
    await engine.run(instance, '');
    await freeze(engine, name);
    const fromMs = Date.now();
    t.match(await engine.stop(name, graceMs), { cpuNs: Number }, `${name}: its last counters come`);
    t.ok(Date.now() - fromMs < 3000, `${name}: it took ${Date.now() - fromMs} ms`);
    await engine.nothingRemains(t, `${name}: nothing is left`);
  }
  t.same(engine.exits, [], 'their ends are no news');
});

t.test('kill -9 of restored at any moment of a freeze or a thaw: the next one knows what stands still', async (t) => {
  const random = chance(t);
  const engine = await openEngine(t);
  const shop = await engine.boot(engine.order('shop'));
  const digest = await engine.run(shop, fill);
  await freeze(engine, 'shop');
  await engine.killDaemon('restored');
  await engine.startDaemon('restored');
  t.same(await frozenOnes(engine), ['shop'], 'it is frozen for the next one too');
  await thaw(engine, 'shop');
  for (let round = 0; round < rounds(6, 100); round += 1) {
    const call = round % 2 === 0 ? freeze : thaw;
    if (call === thaw) await freeze(engine, 'shop');
    const waitMs = random() * (call === freeze ? 120 : 3);
    const called = call(engine, 'shop').catch(() => null);
    await moment(waitMs);
    await engine.killDaemon('restored');
    await called;
    await engine.startDaemon('restored');
    const label = `round ${round}: a ${call.name} cut after ${waitMs.toFixed(1)} ms`;
    await call(engine, 'shop');
    t.same(await frozenOnes(engine), call === freeze ? ['shop'] : [], `${label}: repeated, it is done`);
    await thaw(engine, 'shop');
    t.equal(await engine.run(shop, 'return state.digest()'), digest, `${label}: it answers, and its memory is whole`);
  }
  await freeze(engine, 'shop');
  await engine.killDaemon('restored');
  process.kill(shop.pid, 'SIGKILL');
  await engine.startDaemon('restored');
  await engine.stop('shop');
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('a thaw in the middle of a freeze does not wait for its end', async (t) => {
  const random = chance(t);
  const engine = await openEngine(t);
  const shop = await engine.boot(engine.order('shop'));
  const digest = await engine.run(shop, fill);
  for (let round = 0; round < rounds(8, 100); round += 1) {
    const waitMs = random() * 60;
    const froze = freeze(engine, 'shop');
    await moment(waitMs);
    const fromMs = performance.now();
    await thaw(engine, 'shop');
    const tookMs = performance.now() - fromMs;
    await froze;
    t.same(await frozenOnes(engine), [], `round ${round}: thawed in ${tookMs.toFixed(1)} ms, ${waitMs.toFixed(1)} ms into a freeze`);
    t.equal(await engine.run(shop, 'return state.digest()'), digest);
  }
});
