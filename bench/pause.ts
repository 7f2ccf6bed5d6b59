import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { boxPlaces } from '../edgepoint/box/folders.ts';
import { type Engine, enterOwnNamespaces, firstByte, openEngine } from './engine.ts';
import { interleave } from './interleave.ts';
import type { Report } from './report.ts';
import { openRuncPeer } from './runc.ts';
import { appPort, type BenchApp, boxOrder, makeTemplate, placeArtefact, placeSmallApp } from './small-app.ts';
import { compileTiny } from './tiny.ts';
import { median, medianRatio, percentile, rounded } from './statistics.ts';

/**
 * How long a program stands still while a snapshot is taken of it that leaves it running, by CRIU's own statistics; and how long the slowest
 * request waited that was made meanwhile, which counts what a program does to give back memory before it becomes a template. Beside it
 * `runc checkpoint --leave-running` of the same app.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  await enterOwnNamespaces();
  const engine = await openEngine();
  let close = (): void => undefined;
  try {
    const small = placeSmallApp(engine);
    await makeTemplate(engine, 'small', small); // as a deploy's first, which reads files from the disk
    const tiny = { artefactPath: placeArtefact(engine, 'tiny', compileTiny(engine)), command: ['/app/tiny-server'] };
    const runc = await openRuncPeer({
      artefact: small.artefactPath,
      dev: boxPlaces(engine.runFolder).dev,
      folder: join(engine.dataFolder, 'runc'),
      command: small.command,
      port: appPort,
      networkLock: 'default',
      address: '10.250.3.249',
      prefixLength: 22,
    });
    close = runc.close;
    const waits: number[] = [];
    let count = 0;
    /* A fresh instance each time, as a deploy's: it has answered a little and has never been snapshotted. */
    const pause = async (kind: string, app: BenchApp): Promise<number> => {
      const name = `${kind}-${(count += 1)}`;
      const address = await boot(engine, name, app);
      const snapshotPath = join(engine.dataFolder, `${name}.pause`);
      const asking = askOn(address);
      const taken = await engine.snapshots.snapshot({ instance: name, snapshotPath, keepRunning: true });
      const longestMs = await asking.end();
      if (kind === 'small') waits.push(longestMs);
      await engine.instances.stop({ instance: name, graceMs: 0 });
      await engine.snapshots.discard({ snapshotPath });
      rmSync(snapshotPath, { recursive: true, force: true });
      await Bun.sleep(100);
      return taken.frozenMs;
    };
    const samples = await interleave(
      [
        { name: 'small', run: () => pause('small', small) },
        { name: 'tiny', run: () => pause('tiny', tiny) },
        { name: 'runc', run: () => runc.pause() },
      ],
      quick ? { rounds: 20, deadlineMs: 25_000 } : { rounds: 100, deadlineMs: 240_000 },
    );
    return summarize(samples, waits);
  } finally {
    close();
    await engine.close();
  }
}

async function boot(engine: Engine, instance: string, app: BenchApp): Promise<string> {
  const { address } = await engine.instances.boot({ ...boxOrder(instance, app.artefactPath), command: app.command, env: { PORT: `${appPort}` } });
  for (let warm = 0; warm < 3; warm += 1) await firstByte(address, appPort);
  return address;
}

/** One request after the other until the end; how long the longest took. */
function askOn(address: string): { end(): Promise<number> } {
  let ended = false;
  let longestMs = 0;
  const asked = (async () => {
    while (!ended) {
      const begunMs = performance.now();
      await firstByte(address, appPort);
      longestMs = Math.max(longestMs, performance.now() - begunMs);
      await Bun.sleep(1);
    }
  })();
  return {
    async end() {
      ended = true;
      await asked;
      return longestMs;
    },
  };
}

function summarize(samples: ReadonlyMap<string, readonly number[]>, waits: readonly number[]): Report {
  const of = (name: string): readonly number[] => samples.get(name) ?? [];
  const row = (what: string, values: readonly number[]): Record<string, string | number> => ({
    'stood still for a live snapshot': what,
    n: values.length,
    'p50 ms': rounded(median(values), 1),
    'p99 ms': rounded(percentile(values, 0.99), 1),
  });
  return {
    bench: 'pause',
    ratios: { runcOverPause: rounded(medianRatio(of('runc'), of('small'))) },
    figures: {
      n: of('small').length,
      pauseMsP50: rounded(median(of('small'))),
      pauseMsP99: rounded(percentile(of('small'), 0.99)),
      tinyPauseMsP50: rounded(median(of('tiny'))),
      runcPauseMsP50: rounded(median(of('runc'))),
      longestRequestMsP50: rounded(median(waits)),
    },
    rows: [row('small app (express, Node 20)', of('small')), row('tiny C server', of('tiny')), row('small app, runc checkpoint --leave-running', of('runc')), row('small app, the longest request meanwhile', waits)],
    notes: ['The longest request counts what the program does to give back memory before it is dumped, and the requests themselves.'],
  };
}
