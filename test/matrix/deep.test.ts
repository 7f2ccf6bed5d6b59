import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { RunningInstance, SnapshotTaken } from '../../edgepoint/model/calls.ts';
import { makeArtefact, server } from '../restored/app.ts';
import { type Engine, openEngine } from '../restored/engine.ts';
import { memoryBytes } from './application.ts';
import { everyKind } from './applications.ts';

const depth = process.env['LONG'] === '1' ? 50 : 10;
const timeout = 20_000 + depth * 5_000;
t.setTimeout(3 * timeout);

/** What could grow from one restore to the next. */
interface Size {
  readonly imageBytes: number;
  readonly diskBytes: number;
  readonly memoryBytes: number;
  readonly mappings: number;
  readonly descriptors: number;
  readonly mounts: number;
}

function sizeOf(instance: RunningInstance, { imageBytes, bytes }: SnapshotTaken): Size {
  const proc = `/proc/${instance.pid}`;
  const lines = (file: string): number => readFileSync(join(proc, file), 'utf8').split('\n').length;
  return {
    imageBytes,
    diskBytes: bytes,
    memoryBytes: memoryBytes(instance),
    mappings: lines('maps'),
    descriptors: readdirSync(`${proc}/fd`).length,
    mounts: lines('mountinfo'),
  };
}

/** On its private disk before the template was taken: a file of its own, a file of the base taken away, and one replaced by a folder. */
const before = `
  const fs = require('fs');
  fs.writeFileSync('/var/first', 'as it was');
  fs.rmSync('/etc/debian_version');
  fs.rmSync('/etc/issue');
  fs.mkdirSync('/etc/issue');
  fs.mkdirSync('/var/much/within', { recursive: true });
  fs.writeFileSync('/var/much/within/gone', 'x');
`;
/** After it: some of that is taken away in turn. */
const after = `
  const fs = require('fs');
  fs.rmSync('/var/much', { recursive: true });
  fs.mkdirSync('/var/much');
  fs.writeFileSync('/var/much/new', 'x');
`;
const look = `
  const fs = require('fs');
  fs.appendFileSync('/var/count', 'x');
  return [++state.count, fs.statSync('/var/count').size, fs.readFileSync('/var/first', 'utf8'), fs.existsSync('/etc/debian_version'), fs.readdirSync('/etc/issue').length, fs.readdirSync('/var/much').join()];
`;

/** A program at the end of a chain of restores. */
interface Deep {
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  readonly command: readonly string[];
  /** Before its template is taken, and once after it was restored. */
  readonly before: (engine: Engine, instance: RunningInstance) => Promise<unknown>;
  readonly after: (engine: Engine, instance: RunningInstance) => Promise<unknown>;
  /** Asserts its state when it was restored so many levels deep. */
  readonly check: (t: Test, engine: Engine, instance: RunningInstance, level: number) => Promise<unknown>;
}

const disk: Deep = {
  files: { 'server.js': server },
  command: ['node', 'server.js'],
  before: (engine, instance) => engine.run(instance, before),
  after: (engine, instance) => engine.run(instance, after),
  check: async (t, engine, instance, level) => t.same(await engine.run(instance, look), [level, level, 'as it was', false, 0, 'new'], `restored ${level} deep`),
};

const kinds = everyKind();
const everything: Deep = {
  files: kinds.files,
  command: kinds.command,
  before: (engine, instance) => kinds.count(() => engine.connect(instance)),
  after: (engine, instance) => kinds.count(() => engine.connect(instance)),
  check: async (t, engine, instance, level) => t.equal(await kinds.count(() => engine.connect(instance)), level + 2, `restored ${level} deep`),
};

/** A chain of restores, each of a snapshot of the one before it. */
async function chain(t: Test, program: Deep, ownNetwork: boolean): Promise<Size[]> {
  const engine = await openEngine(t);
  const artefactPath = makeArtefact(engine.folder, 'deep', program.files);
  const order = (name: string): ReturnType<Engine['order']> => engine.order(name, { artefactPath, ownNetwork, command: program.command });
  await program.before(engine, await engine.boot(order('first')));
  let path = engine.snapshotPath('template');
  await engine.snapshot('first', path, false);
  const sizes: Size[] = [];
  let instance = await engine.restore({ ...order('deep-0'), snapshotPath: path, continues: false });
  await program.after(engine, instance);
  for (let level = 1; level <= depth; level += 1) {
    await program.check(t, engine, instance, level);
    const next = engine.snapshotPath(`level-${level}`);
    const taken = await engine.snapshot(instance.instance, next, false);
    await engine.snapd.call('discard', { snapshotPath: path });
    path = next;
    const name = ownNetwork ? instance.instance : `deep-${level}`;
    instance = await engine.restore({ ...order(name), address: ownNetwork ? instance.address : null, snapshotPath: path, continues: ownNetwork });
    sizes.push(sizeOf(instance, taken));
  }
  await program.check(t, engine, instance, depth + 1);
  await engine.stop(instance.instance);
  await engine.nothingRemains(t, 'nothing remains');
  return sizes;
}

function doesNotGrow(t: Test, sizes: readonly Size[], allowedBytes = 0): void {
  /* The first levels still allocate what the program needs once. */
  const early = sizes[2] as Size;
  const last = sizes.at(-1) as Size;
  t.comment(`after 3: ${JSON.stringify(early)}`);
  t.comment(`after ${sizes.length}: ${JSON.stringify(last)}`);
  t.ok(last.imageBytes < early.imageBytes * 1.15 + allowedBytes, 'its image does not grow');
  t.ok(last.diskBytes < early.diskBytes * 1.15 + allowedBytes, 'nor what is kept of it on the disk');
  /* Of three readings the least: between two garbage collections a program holds some megabytes more, whatever its depth. */
  const lastBytes = Math.min(...sizes.slice(-3).map((size) => size.memoryBytes));
  t.ok(lastBytes < early.memoryBytes * 1.15 + 2 ** 20, `nor its memory (${lastBytes} bytes)`);
  t.equal(last.mounts, early.mounts, 'nor its mounts');
  /* A request that is just ending may hold one. */
  t.ok(last.descriptors <= early.descriptors + 2, 'nor its descriptors');
}

t.test(`one that sleeps and wakes, ${depth} deep`, { timeout }, async (t) => doesNotGrow(t, await chain(t, disk, true)));
t.test(`a clone of a clone, ${depth} deep`, { timeout }, async (t) => doesNotGrow(t, await chain(t, disk, false)));
t.test(`one that holds every kind of thing, ${depth} deep`, { timeout }, async (t) => {
  const sizes = await chain(t, everything, true);
  /* Memory comes in pieces of 64 kB (decision 017), whose untouched pages of zeros are dumped too: some levels pass until all of its processes' are whole. */
  doesNotGrow(t, sizes, 4 * 2 ** 20);
  /* Unlike one of Node's, its memory is laid out once, but for the stacks of a timer's threads. */
  t.ok((sizes.at(-1)?.mappings ?? 0) <= (sizes[0]?.mappings ?? 0) + 8, 'nor its mappings');
});
