import type { Test } from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { makeArtefact } from '../restored/app.ts';
import type { Engine } from '../restored/engine.ts';
import { type Application, memoryBytes } from './application.ts';

const sleeps = 5;

/** What a row of the matrix says. */
export interface Row {
  readonly name: string;
  readonly memoryBytes: number;
  readonly imageBytes: number;
  /** The template, compressed and sealed. */
  readonly diskBytes: number;
  readonly frozenMs: number;
  readonly coldMs: number;
  readonly restoreMs: number;
  readonly kept: boolean;
  readonly template: boolean;
}

/** Takes one application through boot, warm-up, and five sleeps with each `state`; asserts what its counter says after each. */
export async function journey(t: Test, engine: Engine, application: Application): Promise<Row> {
  const artefactPath = makeArtefact(engine.folder, application.name.replaceAll(' ', '-'), application.files);
  const order = (instance: string, ownNetwork: boolean): ReturnType<Engine['order']> =>
    engine.order(instance, {
      artefactPath,
      ownNetwork,
      command: application.command,
      env: application.env ?? {},
      offering: application.offering,
      owner: { provider: 'ann', scope: 'main', app: application.name.replaceAll(' ', '-') },
    });
  const count = (instance: RunningInstance): Promise<number> => application.count(() => engine.connect(instance));
  const coldMs: number[] = [];
  const restoreMs: number[] = [];
  const frozenMs: number[] = [];

  async function booted(name: string, ownNetwork: boolean): Promise<{ instance: RunningInstance; counted: number }> {
    const begunMs = performance.now();
    const instance = await engine.boot(order(name, ownNetwork));
    await count(instance);
    coldMs.push(performance.now() - begunMs);
    await count(instance);
    return { instance, counted: await count(instance) };
  }

  async function restored(begin: () => Promise<RunningInstance>): Promise<{ instance: RunningInstance; counted: number }> {
    const begunMs = performance.now();
    const instance = await begin();
    const counted = await count(instance);
    restoreMs.push(performance.now() - begunMs);
    return { instance, counted };
  }

  let kept = true;
  let { instance, counted } = await booted('kept', true);
  const memory = memoryBytes(instance);
  const { address } = instance;
  for (let sleep = 1; sleep <= sleeps; sleep += 1) {
    const snapshotPath = engine.snapshotPath(`kept-${sleep}`);
    frozenMs.push((await engine.snapshot('kept', snapshotPath, false)).frozenMs);
    const awake = await restored(() => engine.restore({ ...order('kept', true), address, snapshotPath, continues: true }));
    kept = t.equal(awake.counted, counted + 1, `kept: it goes on from ${counted} after sleep ${sleep}`) && kept;
    instance = awake.instance;
    counted = await count(instance);
    kept = t.equal(counted, awake.counted + 1, 'and on') && kept;
    await engine.snapd.call('discard', { snapshotPath });
  }
  await engine.stop('kept');

  let template = true;
  const first = await booted('first', false);
  const snapshotPath = engine.snapshotPath('template');
  const taken = await engine.snapshot('first', snapshotPath);
  template = t.equal(await count(first.instance), first.counted + 1, 'template: the one it was taken from runs on') && template;
  await engine.stop('first');
  for (let wake = 1; wake <= sleeps; wake += 1) {
    const name = `clone-${wake}`;
    const awake = await restored(() => engine.restore({ ...order(name, false), snapshotPath, continues: false }));
    template = t.equal(awake.counted, first.counted + 1, `template: wake ${wake} begins where the template was`) && template;
    template = t.equal(await count(awake.instance), first.counted + 2, 'and goes on') && template;
    await engine.stop(name);
  }
  await engine.snapd.call('discard', { snapshotPath });
  return { name: application.name, memoryBytes: memory, imageBytes: taken.imageBytes, diskBytes: taken.bytes, frozenMs: median([...frozenMs, taken.frozenMs]), coldMs: median(coldMs), restoreMs: median(restoreMs), kept, template };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** The matrix as a table for people. */
export function describeRows(rows: readonly Row[]): string[] {
  const head = ['application', 'memory MB', 'image MB', 'disk MB', 'frozen ms', 'cold ms', 'restore ms', 'times', 'kept', 'template'];
  const yes = (right: boolean): string => (right ? 'ok' : 'WRONG');
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
  const lines = rows.map((row) => [
    row.name,
    megabytes(row.memoryBytes),
    megabytes(row.imageBytes),
    megabytes(row.diskBytes),
    row.frozenMs.toFixed(0),
    row.coldMs.toFixed(0),
    row.restoreMs.toFixed(0),
    (row.coldMs / row.restoreMs).toFixed(1),
    yes(row.kept),
    yes(row.template),
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...lines.map((line) => line[column]?.length ?? 0)));
  return [head, ...lines].map((line) => line.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join('  '));
}
