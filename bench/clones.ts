import { readFileSync } from 'node:fs';
import { type Engine, enterOwnNamespaces, firstByte, openEngine } from './engine.ts';
import { interleave } from './interleave.ts';
import type { Report } from './report.ts';
import { appPort, type BenchApp, boxOrder, makeTemplate, placeSmallApp } from './small-app.ts';
import { median, medianRatio, percentile, rounded } from './statistics.ts';

const many = 20;
const settleMs = 1500; // after each run: as many slots as it took are made anew

/** Twenty clones of the small app ordered at once, until each has answered, beside one; and the memory that is each one's own. */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  await enterOwnNamespaces();
  const engine = await openEngine({ poolSize: many + 4 });
  try {
    const app = placeSmallApp(engine);
    const template = await makeTemplate(engine, 'small', app);
    const privateMb: number[] = [];
    const samples = await interleave(
      [
        { name: 'one', run: async () => (await cloneMany(engine, app, template, 1)).tookMs },
        {
          name: 'twenty',
          run: async () => {
            const { tookMs, privateMbPerClone } = await cloneMany(engine, app, template, many);
            privateMb.push(privateMbPerClone);
            return tookMs;
          },
        },
      ],
      quick ? { rounds: 9, deadlineMs: 38_000 } : { rounds: 40, deadlineMs: 240_000 },
    );
    const of = (name: string): readonly number[] => samples.get(name) ?? [];
    return {
      bench: 'clones',
      ratios: { twentyOverOne: rounded(medianRatio(of('twenty'), of('one'))) },
      figures: {
        n: of('twenty').length,
        oneMsP50: rounded(median(of('one'))),
        twentyMsP50: rounded(median(of('twenty'))),
        privateMbPerClone: rounded(median(privateMb)),
      },
      rows: [...samples].map(([name, values]) => ({
        'clones of the small app, all serving': name,
        n: values.length,
        'p50 ms': rounded(median(values), 1),
        'p99 ms': rounded(percentile(values, 0.99), 1),
      })),
      notes: ['privateMbPerClone: memory of a clone that is shared with nobody (Private_* of /proc/PID/smaps_rollup), after its first answer, with 20 running.'],
    };
  } finally {
    await engine.close();
  }
}

let count = 0;

/** Orders clones at once; until each has answered once. */
async function cloneMany(engine: Engine, app: BenchApp, snapshotPath: string, clones: number): Promise<{ tookMs: number; privateMbPerClone: number }> {
  const names = Array.from({ length: clones }, () => `clone-${(count += 1)}`);
  const begunMs = performance.now();
  const running = await Promise.all(
    names.map(async (instance) => {
      const started = await engine.instances.restore({ ...boxOrder(instance, app.artefactPath), snapshotPath, continues: false });
      await firstByte(started.address, appPort);
      return started;
    }),
  );
  const tookMs = performance.now() - begunMs;
  const privateMbPerClone = running.reduce((sum, { pid }) => sum + privateMb(pid), 0) / clones;
  await Promise.all(names.map((instance) => engine.instances.stop({ instance, graceMs: 0 })));
  await Bun.sleep(settleMs);
  return { tookMs, privateMbPerClone };
}

/** Megabytes of memory that this process shares with no other. */
function privateMb(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return [...rollup.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB$/gm)].reduce((sum, [, kilobytes]) => sum + Number(kilobytes), 0) / 1024;
}
