import { setPriority } from 'node:os';
import { join } from 'node:path';
import { readRecord } from '../edgepoint/box/record.ts';
import { setFrozen } from '../edgepoint/box/cgroup.ts';
import { slotCgroup } from '../edgepoint/box/slot.ts';
import { type Engine, enterOwnNamespaces, firstByte, openEngine } from './engine.ts';
import type { Report } from './report.ts';
import { appPort, boxOrder, placeArtefact, placeSmallApp } from './small-app.ts';
import { percentile, rounded } from './statistics.ts';

/** Programs that take what they can get, each with a way of its own; several processes of each. */
const bombs: Readonly<Record<string, string>> = {
  processor: 'for (let i = 0; i < 40; i += 1) spawn(process.execPath, ["-e", "for (;;);"]); for (;;);',
  forks: 'const next = () => { try { spawn("/bin/true").on("exit", next).on("error", () => setTimeout(next, 1)); } catch { setTimeout(next, 1); } }; for (let i = 0; i < 20; i += 1) next();',
  memory: 'const fill = () => { const pieces = []; for (let i = 0; i < 300; i += 1) pieces.push(Buffer.alloc(1 << 20, i)); setTimeout(fill, 0); }; fill();',
  disk: 'const write = () => { const name = "/tmp/" + Math.random(); fs.writeFileSync(name, Buffer.alloc(8 << 20)); fs.unlinkSync(name); setImmediate(write); }; write();',
};

const windowMs = 500;
const pauseMs = 3;

/**
 * How much a quiet app's requests are slowed by neighbours that take what they can get. The neighbours stand still and run in turn, a window each, so
 * that both are measured in the same seconds. Whoever asks is another machine in truth, so it goes before everything here.
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
    for (const [name, body] of Object.entries(bombs)) {
      const artefactPath = placeArtefact(engine, name, join(import.meta.dir, 'big-heap'));
      const command = ['node', '-e', `const fs = require('fs'); const { spawn } = require('child_process'); ${body}`];
      await engine.instances.boot({ ...boxOrder(name, artefactPath), command, env: {} });
      await Bun.sleep(500);
      const { alone, beside } = await compare(engine, name, quiet.address, quick ? 10 : 60);
      await engine.instances.stop({ instance: name, graceMs: 0 });
      ratios[name] = rounded(percentile(beside, 0.99) / percentile(alone, 0.99));
      rows.push({ 'a neighbour that takes all it can of': name, n: beside.length, 'alone p50 ms': at(alone, 0.5), 'beside p50 ms': at(beside, 0.5), 'alone p99 ms': at(alone, 0.99), 'beside p99 ms': at(beside, 0.99) });
    }
    return { bench: 'noisy', ratios, figures: { worst: Math.max(...Object.values(ratios)) }, rows, notes: ['Ratios are of p99. A fresh connection for each request, one after the other.'] };
  } finally {
    await engine.close();
  }
}

const at = (values: readonly number[], share: number): number => rounded(percentile(values, share), 2);

async function compare(engine: Engine, bomb: string, address: string, rounds: number): Promise<{ alone: number[]; beside: number[] }> {
  const record = readRecord(engine.runFolder, bomb);
  if (record === null) throw new Error(`the neighbour ${bomb} does not run`);
  const cgroup = slotCgroup({ world: `bench${process.pid}`, edgepoint: 'bench', boxProgram: '', criu: '', cgroupVersion: record.running?.cgroup.version ?? 1 }, record.slot);
  const alone: number[] = [];
  const beside: number[] = [];
  setPriority(0, -20);
  try {
    for (let round = 0; round < rounds; round += 1) {
      for (const [frozen, into] of [[true, alone], [false, beside]] as const) {
        setFrozen(cgroup, frozen);
        await Bun.sleep(50);
        for (const endMs = performance.now() + windowMs; performance.now() < endMs; await Bun.sleep(pauseMs)) {
          const begunMs = performance.now();
          await firstByte(address, appPort);
          into.push(performance.now() - begunMs);
        }
      }
    }
  } finally {
    setPriority(0, 0);
    setFrozen(cgroup, false);
  }
  return { alone, beside };
}
