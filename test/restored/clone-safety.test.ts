import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { tools } from '../../host/tools.ts';
import { makeArtefact } from './app.ts';
import { drawBody, nodeDraws, type Runtime, runtimes } from './draws.ts';
import { openEngine } from './engine.ts';

t.setTimeout(300_000); // each runtime draws millions of values
const clones = 20;
const programs = join(import.meta.dirname, '../programs');

/** Values that were drawn more than once, by anybody. */
function repeated(drawn: readonly (readonly unknown[])[]): unknown[] {
  const seen = new Set<unknown>();
  return drawn.flat().filter((value) => seen.size === seen.add(value).size);
}

async function drawInClones(t: Test, runtime: Runtime, baseRoot?: string): Promise<void> {
  const engine = await openEngine(t, { poolSize: 4, ...(baseRoot ? { baseRoot } : {}) });
  const { program } = runtime;
  const artefactPath = program ? makeArtefact(engine.folder, program, { [program]: readFileSync(join(programs, program)) }) : engine.artefact;
  const order = engine.order('template', { command: runtime.command, artefactPath });
  const template = await engine.boot(order);
  /* Caches and generators are filled before the snapshot, as by an app that has served already. */
  for (const { draw } of Object.values(runtime.draws)) await engine.run(template, runtime.body(draw, 2));
  const snapshotPath = engine.snapshotPath('template');
  await engine.snapshot('template', snapshotPath, true);
  const { command: _, env: __, ...box } = order;
  const running: RunningInstance[] = [template];
  for (let clone = 0; clone < clones; clone += 1) running.push(await engine.restore({ ...box, instance: `clone-${clone}`, snapshotPath, continues: false }));
  for (const [name, { draw, count }] of Object.entries(runtime.draws)) {
    const drawn: unknown[][] = [];
    for (const instance of running) drawn.push((await engine.run(instance, runtime.body(draw, count))) as unknown[]);
    t.equal(drawn.flat().length, running.length * count, `${name}: ${count} values in each of ${running.length}`);
    t.same(repeated(drawn).slice(0, 3), [], `${name}: no value twice`);
  }
}

const story = 'twenty clones of one template, and the template, never draw the same value';

t.test(`${story}: Node 20`, { timeout: 120_000 }, (t) => drawInClones(t, { name: 'Node 20', command: ['node', 'server.js'], draws: nodeDraws, body: drawBody }));

for (const runtime of runtimes) t.test(`${story}: ${runtime.name}`, { timeout: 120_000 }, (t) => drawInClones(t, runtime, tools.runtimesRoot));

interface CompiledServer {
  readonly name: string;
  readonly program: string;
  readonly unguarded: readonly string[];
  /** Of the values on a line of `/random`: those that never repeat. */
  readonly safe: readonly number[];
}

const compiledServers: readonly CompiledServer[] = [
  { name: 'Go, which loads no guard, from the kernel', program: 'go-server', unguarded: ['go-server (linked statically)'], safe: [0] },
  { name: 'Rust, from the kernel', program: 'rust-server', unguarded: [], safe: [0, 1] },
  { name: "Rust beside thread_rng, which a deploy asks about", program: 'rust-server-own', unguarded: ['rust-server-own (thread_rng of Rust)'], safe: [0] },
];

for (const { name, program, unguarded, safe } of compiledServers) {
  t.test(`${story}: ${name}`, { timeout: 60_000 }, async (t) => {
    const engine = await openEngine(t, { poolSize: 4, baseRoot: tools.runtimesRoot });
    const draw = async (instance: RunningInstance, count: number): Promise<string[]> => {
      const socket = await engine.connect(instance);
      socket.write(`GET /random?count=${count} HTTP/1.0\r\n\r\n`);
      const lines = (await text(socket)).split('\r\n\r\n')[1]?.trim().split('\n') ?? [];
      return lines.flatMap((line) => safe.map((column) => line.split(' ')[column] ?? ''));
    };
    const order = engine.order('template', { command: [program] });
    const template = await engine.boot(order);
    await draw(template, 5);
    const snapshotPath = engine.snapshotPath('template');
    t.same((await engine.snapshot('template', snapshotPath, true)).unguarded, unguarded, 'what a deploy asks its provider about');
    const { command: _, env: __, ...box } = order;
    const drawn = [await draw(template, 10_000)];
    for (let clone = 0; clone < clones; clone += 1) drawn.push(await draw(await engine.restore({ ...box, instance: `clone-${clone}`, snapshotPath, continues: false }), 10_000));
    t.same(drawn.map((values) => values.length), Array.from({ length: clones + 1 }, () => 10_000 * safe.length));
    t.same(repeated(drawn).slice(0, 3), [], 'no value twice');
  });
}

t.test('thread_rng of Rust does repeat, so it is right to ask', async (t) => {
  const engine = await openEngine(t, { poolSize: 2, baseRoot: tools.runtimesRoot });
  const { command, env, ...box } = engine.order('template', { command: ['rust-server-own'] });
  const draw = async (instance: RunningInstance): Promise<string | undefined> => {
    const socket = await engine.connect(instance);
    socket.write('GET /random?count=1 HTTP/1.0\r\n\r\n');
    return (await text(socket)).split(' ').at(-1)?.trim();
  };
  await draw(await engine.boot({ ...box, command, env }));
  const snapshotPath = engine.snapshotPath('template');
  await engine.snapshot('template', snapshotPath, false);
  const drawn: (string | undefined)[] = [];
  for (const instance of ['one', 'two']) drawn.push(await draw(await engine.restore({ ...box, instance, snapshotPath, continues: false })));
  t.match(drawn[0], /^[0-9a-f]{32}$/);
  t.equal(drawn[0], drawn[1]);
});

t.test('without the guard the very same draws repeat, so the tests above can fail', async (t) => {
  const engine = await openEngine(t, { poolSize: 2 });
  const command = ['env', '-u', 'LD_PRELOAD', '-u', 'NODE_OPTIONS', 'node', 'server.js'];
  const { env: _, ...box } = engine.order('template', { command });
  const template = await engine.boot({ ...box, env: {} });
  for (const { draw } of Object.values(nodeDraws)) await engine.run(template, drawBody(draw, 2));
  const snapshotPath = engine.snapshotPath('template');
  await engine.snapshot('template', snapshotPath, false);
  const drawn: string[][] = [];
  for (const instance of ['one', 'two']) {
    const clone = await engine.restore({ ...box, instance, snapshotPath, continues: false });
    drawn.push((await Promise.all(Object.values(nodeDraws).map(({ draw }) => engine.run(clone, drawBody(draw, 1))))).map(String));
  }
  const names = Object.keys(nodeDraws).filter((_, index) => drawn[0]?.[index] === drawn[1]?.[index]);
  for (const name of ['crypto.randomUUID', 'WebCrypto randomUUID', 'crypto.randomInt', 'Math.random']) t.ok(names.includes(name), `${name} repeats`);
});

t.test('a clone of a clone, and an instance that continues twice from one state, draw afresh too', async (t) => {
  const engine = await openEngine(t, { poolSize: 2 });
  const { command, env, ...box } = engine.order('first', { ownNetwork: true });
  const first = await engine.boot({ ...box, command, env });
  const drawAll = async (instance: RunningInstance): Promise<unknown[]> => {
    const drawn: unknown[] = [];
    for (const { draw } of Object.values(nodeDraws)) drawn.push(...((await engine.run(instance, drawBody(draw, 2))) as unknown[]));
    return drawn;
  };
  const drawn = [await drawAll(first)];
  const snapshotPath = engine.snapshotPath('kept');
  await engine.snapshot('first', snapshotPath, false);
  for (let wake = 0; wake < 3; wake += 1) {
    const woken = await engine.restore({ ...box, address: first.address, snapshotPath, continues: true });
    drawn.push(await drawAll(woken));
    if (wake === 1) await engine.snapshot('first', engine.snapshotPath('kept-again'), true);
    await engine.stop('first');
  }
  const again = await engine.restore({ ...box, address: first.address, snapshotPath: engine.snapshotPath('kept-again'), continues: true });
  drawn.push(await drawAll(again));
  t.same(repeated(drawn), [], 'no value twice in five lives');
});
