import { spawnSync } from 'node:child_process';
import { chownSync, copyFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import type { AdmitOrder, OfferOrder, WeighedOffer } from '../../edgepoint/model/exchange.ts';
import { drawBody, nodeDraws } from './draws.ts';
import { type Engine, openEngine } from './engine.ts';

t.setTimeout(180_000);

const bun = fileURLToPath(new URL('../../node_modules/.bin/bun', import.meta.url));
const entry = fileURLToPath(new URL('../../edgepoint/main.ts', import.meta.url));
/** The group that reads logs is another on each edgepoint. */
const readers = { a: 54_321, b: 54_399 } as const;

/** Two edgepoints, each with folders, keys, a network and an address range of its own, that the operator has told of each other. */
async function openTwo(t: Test, options: { lazyFromBytes?: number } = {}): Promise<{ a: Engine; b: Engine }> {
  const a = await openEngine(t, { edgepoint: 'a', subnet: '10.77.0.0/24' });
  const b = await openEngine(t, { edgepoint: 'b', subnet: '10.78.0.0/24', ...options });
  for (const [engine, gid] of [[a, readers.a], [b, readers.b]] as const) chownSync(engine.artefact, gid, gid);
  const identity = (engine: Engine, edgepoint: string): unknown => {
    const done = spawnSync(bun, [entry, 'identity', '--zone', 'z', '--edgepoint', edgepoint, '--data-folder', join(engine.folder, 'data')], { encoding: 'utf8' });
    if (done.status !== 0) throw new Error(done.stderr);
    return JSON.parse(done.stdout);
  };
  writeFileSync(join(a.folder, 'trusted.json'), JSON.stringify([identity(b, 'b')]), { mode: 0o600 });
  writeFileSync(join(b.folder, 'trusted.json'), JSON.stringify([identity(a, 'a')]), { mode: 0o600 });
  return { a, b };
}

/** Offers a template of `a` to `b`, carries its bytes over and has `b` take it in; its path there. */
async function carry(a: Engine, b: Engine, snapshotPath: string, change: Partial<OfferOrder> = {}): Promise<{ path: string; order: AdmitOrder }> {
  const wanted = { owner: a.order('any').owner, release: 1, orderDigest: 'the release' };
  const offer = (await a.snapd.call('offer', { ...wanted, snapshotPath, imageBytes: 1, coldBootMs: 500, sites: ['z.a', 'z.b'], ...change })) as { text: string; granted: string[] };
  const file = join(b.folder, 'coming');
  copyFileSync(snapshotPath, file);
  const order = { offer: offer.text, from: { zone: 'z', edgepoint: 'a' }, wanted, file, snapshotPath: join(b.folder, 'data/snapshots/ann.main.shop/1') };
  const weighed = (await b.snapd.call('weigh', order)) as WeighedOffer;
  if (!weighed.usable) throw new Error(weighed.reason);
  const { snapshotPath: path } = (await b.snapd.call('admit', order)) as { snapshotPath: string };
  return { path, order };
}

/** Values that were drawn more than once, by anybody. */
function repeated(drawn: readonly (readonly unknown[])[]): unknown[] {
  const seen = new Set<unknown>();
  return drawn.flat().filter((value) => seen.size === seen.add(value).size);
}

for (const [how, options] of Object.entries({ 'at once': {}, 'lazily': { lazyFromBytes: 1 } })) {
  t.test(`a template made on one edgepoint wakes on another, ${how}, and is there as any other`, async (t) => {
    const { a, b } = await openTwo(t, options);
    const order = a.order('template', { files: [{ path: '/run/me.json', text: '{instance} {address}' }] });
    const template = await a.boot(order);
    const born = await a.run(template, `state.count = 7; console.log('from the template'); require('fs').writeFileSync('/var/note', 'on its disk'); return state.born`);
    const watched = `state.seen = []; require('fs').mkdirSync('/tmp/watched', { recursive: true }); require('fs').watch('/tmp/watched', (kind, name) => state.seen.push(name))`;
    await a.run(template, `${watched}; state.before = Number(process.hrtime.bigint()) / 1e9`);
    const taken = await a.snapshot('template', a.snapshotPath('ann.main.shop'));
    const { path } = await carry(a, b, taken.snapshotPath);

    const { command: _, env: __, ...box } = order;
    const woken = await b.restore({ ...box, artefactPath: b.artefact, instance: 'clone', snapshotPath: path, continues: false });
    t.match(woken.address, /^10\.78\.0\./);
    t.same(await b.run(woken, `return [state.born, state.count, require('fs').readFileSync('/var/note', 'utf8'), require('os').hostname()]`), [born, 7, 'on its disk', 'shop'], 'it goes on');
    t.equal(await b.run(woken, `return require('fs').readFileSync('/run/me.json', 'utf8')`), `clone ${woken.address}`, 'with files of its own');
    t.same(await b.run(woken, `return Object.values(require('os').networkInterfaces()).flat().filter((one) => one.family === 'IPv4' && !one.internal).map((one) => one.address)`), [woken.address]);
    t.equal(await b.run(woken, `require('fs').writeFileSync('/tmp/watched/new', ''); for (let waits = 0; waits < 1000 && state.seen.length === 0; waits += 1) await new Promise((resolve) => setTimeout(resolve, 5)); return state.seen[0]`), 'new', 'what it watches it sees');
    const passed = (await b.run(woken, `return Number(process.hrtime.bigint()) / 1e9 - state.before`)) as number;
    t.ok(passed >= 0 && passed < 120, `its clock runs on: ${passed.toFixed(1)} s`);
    await b.run(woken, `console.log('from the clone')`);
    const log = b.place.path(woken.logPath);
    t.match(readFileSync(log, 'utf8'), /from the template\n(.*\n)*from the clone\n/);
    t.equal(statSync(log).gid, readers.b, 'whoever reads logs here may read its log');
    t.equal(woken.logStartBytes > 0, true, 'and knows where its own part begins');

    /* A snapshot of what came from elsewhere is this edgepoint's own through and through. */
    const again = await b.snapshot('clone', b.snapshotPath('again'));
    await b.stop('clone');
    const second = await b.restore({ ...box, artefactPath: b.artefact, instance: 'second', snapshotPath: again.snapshotPath, continues: false });
    t.equal(await b.run(second, `return state.count`), 7);
    t.equal(await a.run(template, `return state.count`), 7, 'the one it was taken of runs on');
    await b.stop('second');
    await a.stop('template');
    await a.nothingRemains(t, 'nothing is left on the one');
    await b.nothingRemains(t, 'nor on the other');
  });
}

t.test('clones on two edgepoints, and the template, never draw the same value', async (t) => {
  const { a, b } = await openTwo(t);
  const order = a.order('template');
  const template = await a.boot(order);
  /* Caches and generators are filled before the snapshot, as by an app that has served already. */
  for (const { draw } of Object.values(nodeDraws)) await a.run(template, drawBody(draw, 2));
  const taken = await a.snapshot('template', a.snapshotPath('ann.main.shop'));
  const { path } = await carry(a, b, taken.snapshotPath);
  const { command: _, env: __, ...box } = order;
  const running: (readonly [Engine, RunningInstance])[] = [[a, template]];
  for (let clone = 0; clone < 5; clone += 1) {
    running.push([a, await a.restore({ ...box, instance: `clone-${clone}`, snapshotPath: taken.snapshotPath, continues: false })]);
    /* The same names on both: nothing of a name may go into what is drawn. */
    running.push([b, await b.restore({ ...box, artefactPath: b.artefact, instance: `clone-${clone}`, snapshotPath: path, continues: false })]);
  }
  const generations: unknown[] = [];
  for (const [engine, instance] of running) generations.push(await engine.run(instance, `return require('fs').readFileSync('/run/edgepoint/generation').toString('hex')`));
  t.equal(new Set(generations).size, running.length, 'each has a generation of its own');
  for (const [name, { draw, count }] of Object.entries(nodeDraws)) {
    const drawn: unknown[][] = [];
    for (const [engine, instance] of running) drawn.push((await engine.run(instance, drawBody(draw, count))) as unknown[]);
    t.equal(drawn.flat().length, running.length * count, `${name}: ${count} values in each of ${running.length}`);
    t.same(repeated(drawn).slice(0, 3), [], `${name}: no value twice`);
  }
});

t.test('what is not exactly what was offered never wakes, and snapd killed in the middle leaves nothing half', async (t) => {
  const { a, b } = await openTwo(t);
  const template = await a.boot(a.order('template'));
  await a.run(template, `state.big = require('crypto').randomBytes(40e6)`);
  const { snapshotPath } = await a.snapshot('template', a.snapshotPath('ann.main.shop'));
  const { path, order } = await carry(a, b, snapshotPath);
  const folder = join(b.folder, 'data/snapshots/ann.main.shop');
  const discard = (): Promise<unknown> => b.snapd.call('discard', { snapshotPath: path });
  await discard();

  const whole = readFileSync(snapshotPath);
  const other = Buffer.from(whole);
  other[1000] = (other[1000] as number) ^ 1;
  writeFileSync(order.file, other);
  await t.rejects(b.snapd.call('admit', order), { code: 'snapshot-refused', message: /chunk 1 of \d+ is not what was sealed/ });
  t.notOk(existsSync(order.snapshotPath));
  t.notOk(existsSync(`${order.snapshotPath}.part`));

  writeFileSync(order.file, whole);
  for (let round = 0; round < 3; round += 1) {
    const admitting = b.snapd.call('admit', order).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 5 + round * 20));
    await b.killDaemon('snapd');
    await admitting;
    await b.startDaemon('snapd');
    /* Whole or not at all; what is half is removed before any order is taken. */
    const left = existsSync(order.snapshotPath) ? 'whole' : 'nothing';
    t.notOk(existsSync(`${order.snapshotPath}.part`), `killed, it has left ${left}`);
    await discard();
  }
  const { snapshotPath: admitted } = (await b.snapd.call('admit', order)) as { snapshotPath: string };
  const { command: _, env: __, ...box } = a.order('clone');
  const woken = await b.restore({ ...box, artefactPath: b.artefact, snapshotPath: admitted, continues: false });
  t.equal(await b.run(woken, `return state.big.length`), 40e6);
  t.match(basename(admitted), /^[0-9a-f]{64}$/);
  t.ok(existsSync(folder));

  /* Taken out of the list, its maker is trusted no longer, at once. */
  writeFileSync(join(b.folder, 'trusted.json'), '[]', { mode: 0o600 });
  t.match(await b.snapd.call('weigh', order), { usable: false, reason: /not among the edgepoints/ });
});
