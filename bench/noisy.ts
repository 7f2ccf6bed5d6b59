import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupProcesses, type InstanceCgroup, isFrozen, setBehindOthers, setFrozen } from '../edgepoint/box/cgroup.ts';
import { readRecord } from '../edgepoint/box/record.ts';
import { slotCgroup } from '../edgepoint/box/slot.ts';
import { setTimeSlice, shortestSliceNs } from '../host/time-slice.ts';
import { type Engine, enterOwnNamespaces, firstByte, openEngine } from './engine.ts';
import type { Report } from './report.ts';
import { appPort, boxOrder, placeArtefact, placeSmallApp } from './small-app.ts';
import { medianRatio, percentile, rounded } from './statistics.ts';

/** Programs that take what they can get, each with a way of its own; several processes of each. */
const bombs: Readonly<Record<string, string>> = {
  processor: 'for (let i = 0; i < 40; i += 1) spawn(process.execPath, ["-e", "for (;;);"]); for (;;);',
  forks: 'const next = () => { try { spawn("/bin/true").on("exit", next).on("error", () => setTimeout(next, 1)); } catch { setTimeout(next, 1); } }; for (let i = 0; i < 20; i += 1) next();',
  memory: 'const fill = () => { const pieces = []; for (let i = 0; i < 300; i += 1) pieces.push(Buffer.alloc(1 << 20, i)); setTimeout(fill, 0); }; fill();',
  disk: 'const write = () => { const name = "/tmp/" + Math.random(); fs.writeFileSync(name, Buffer.alloc(8 << 20)); fs.unlinkSync(name); setImmediate(write); }; write();',
};

const windowMs = 500;
const pauseMs = 3;
const settleMs = 50;
const goesBehindWithinMs = 60_000;

type Window = 'alone' | 'beside' | 'without';

/**
 * How much a quiet app's requests are slowed by neighbours that take what they can get. The neighbours stand still and run in turn, a window each, so
 * that all are measured in the same seconds; in a third window what keeps them from it (decision 154) is undone by hand. Whoever asks is another
 * machine in truth, so it goes before everything here, by real-time priority: a nice value counts only among the processes of its session.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  await enterOwnNamespaces();
  const engine = await openEngine();
  try {
    const app = placeSmallApp(engine);
    const quiet = await engine.instances.boot({ ...boxOrder('quiet', app.artefactPath), command: app.command, env: { PORT: `${appPort}` } });
    for (let warm = 0; warm < 300; warm += 1) await firstByte(quiet.address, appPort);
    const rows: Record<string, string | number>[] = [];
    const ratios: Record<string, number> = {};
    const figures: Record<string, number> = {};
    for (const [name, body] of Object.entries(bombs)) {
      const artefactPath = placeArtefact(engine, name, join(import.meta.dir, 'big-heap'));
      const command = ['node', '-e', `const fs = require('fs'); const { spawn } = require('child_process'); ${body}`];
      await engine.instances.boot({ ...boxOrder(name, artefactPath), command, env: {} });
      figures[`${name}BehindAfterMs`] = await goesBehind(cgroupNamed(engine, name));
      const took = await compare(engine, name, quiet.address, quick ? 12 : 60);
      await engine.instances.stop({ instance: name, graceMs: 0 });
      const all = Object.fromEntries(Object.entries(took).map(([window, rounds]) => [window, rounds.flat()])) as Record<Window, number[]>;
      ratios[name] = rounded(percentile(all.beside, 0.99) / percentile(all.alone, 0.99));
      figures[`${name}Without`] = rounded(percentile(all.without, 0.99) / percentile(all.alone, 0.99));
      figures[`${name}MedianOfPairs`] = pairs(took.beside, took.alone);
      figures[`${name}MedianOfPairsWithout`] = pairs(took.without, took.alone);
      const columns = (['alone', 'beside', 'without'] as const).flatMap((window) => [0.5, 0.9, 0.99].map((share) => [`${window} p${share * 100} ms`, at(all[window], share)]));
      rows.push({ 'a neighbour that takes all it can of': name, n: all.beside.length, ...Object.fromEntries(columns) });
    }
    figures['worst'] = Math.max(...Object.values(ratios));
    const notes = ['Ratios are of p99 beside it and alone; Without: what decision 154 does is undone. A fresh connection for each request, one after the other.', 'MedianOfPairs: of the ratios of p95 of a window to that of the one before in which it stood still.'];
    return { bench: 'noisy', ratios, figures, rows, notes };
  } finally {
    await engine.close();
  }
}

const at = (values: readonly number[], share: number): number => rounded(percentile(values, share), 2);
/** A window is too short for a p99 of its own. */
const pairs = (windows: readonly (readonly number[])[], alone: readonly (readonly number[])[]): number =>
  rounded(medianRatio(windows.map((values) => percentile(values, 0.95)), alone.map((values) => percentile(values, 0.95))));

function cgroupNamed(engine: Engine, instance: string): InstanceCgroup {
  const record = readRecord(engine.runFolder, instance);
  if (record === null) throw new Error(`${instance} does not run`);
  return slotCgroup({ world: `bench${process.pid}`, edgepoint: 'bench', boxProgram: '', criu: '', cgroupVersion: record.running?.cgroup.version ?? 1 }, record.slot);
}

/** Milliseconds until others go before it. */
async function goesBehind(cgroup: InstanceCgroup): Promise<number> {
  const begunMs = performance.now();
  while (readFileSync(join(cgroup.cpuLimit, 'cpu.idle'), 'utf8').trim() !== '1') {
    if (performance.now() - begunMs > goesBehindWithinMs) throw new Error('the neighbour uses the processor all the time, and nobody minds');
    await Bun.sleep(10);
  }
  return Math.round(performance.now() - begunMs);
}

/** What is built, or as if it were not. Of processes that stand still, so that none of them escapes by a fork. */
function arrange(bomb: InstanceCgroup, quiet: InstanceCgroup, built: boolean): void {
  setBehindOthers(bomb, built);
  for (const pid of [...cgroupProcesses(bomb), ...cgroupProcesses(quiet)]) {
    for (const thread of readdirSync(`/proc/${pid}/task`)) setTimeSlice(Number(thread), built ? shortestSliceNs : 0n);
  }
}

function goFirst(first: boolean): void {
  const { exitCode } = Bun.spawnSync(['chrt', ...(first ? ['--fifo', '--pid', '50'] : ['--other', '--pid', '0']), `${process.pid}`]);
  if (exitCode !== 0) throw new Error('chrt');
}

async function compare(engine: Engine, bomb: string, address: string, rounds: number): Promise<Record<Window, number[][]>> {
  const cgroup = cgroupNamed(engine, bomb);
  const quiet = cgroupNamed(engine, 'quiet');
  const took: Record<Window, number[][]> = { alone: [], beside: [], without: [] };
  const stopped = async (): Promise<void> => {
    setFrozen(cgroup, true);
    while (!isFrozen(cgroup)) await Bun.sleep(1);
  };
  goFirst(true);
  try {
    for (let round = 0; round < rounds; round += 1) {
      for (const window of ['alone', 'beside', 'without'] as const) {
        await stopped();
        arrange(cgroup, quiet, window !== 'without');
        if (window !== 'alone') setFrozen(cgroup, false);
        await Bun.sleep(settleMs);
        const times: number[] = [];
        for (const endMs = performance.now() + windowMs; performance.now() < endMs; await Bun.sleep(pauseMs)) {
          const begunMs = performance.now();
          await firstByte(address, appPort);
          times.push(performance.now() - begunMs);
        }
        took[window].push(times);
      }
    }
  } finally {
    goFirst(false);
    setFrozen(cgroup, false);
  }
  return took;
}
