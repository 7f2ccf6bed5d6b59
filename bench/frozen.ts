import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Offering, findOffering } from '../edgepoint/model/offering.ts';
import { heldPath } from '../edgepoint/box/folders.ts';
import type { BootOrder, RunningInstance } from '../edgepoint/model/calls.ts';
import { readZramSwap } from '../host/zram.ts';
import { exampleApp } from '../images/host/example-apps.ts';
import { type Engine, enterOwnNamespaces, firstByte, openEngine } from './engine.ts';
import { type Contender, interleave } from './interleave.ts';
import type { Report } from './report.ts';
import { placeArtefact } from './small-app.ts';
import { median, medianRatio, percentile, rounded } from './statistics.ts';

const port = 8080;
const bigHeapMegabytes = 400;
const bytesPerMegabyte = 1e6;
/** After a freeze, before the thaw: what is measured is the wake of one that stands still. */
const settleMs = 50;
/** After a thaw, before the next freeze: what the first answer needed is learnt 100 ms after it, and no app is frozen so soon. */
const learnMs = 200;

/** What freezing an app gave. Bytes. */
interface Given {
  readonly anonymousBytes: number;
  readonly leftBytes: number;
  readonly zramBytes: number;
  /** Of its pager: memory in proportion to how it is shared (Pss). */
  readonly pagerBytes: number;
  readonly freezeMs: number;
  /** Of its first thaw, when nothing is known of what it needs. */
  readonly firstThawMs: number;
}

/**
 * From frozen (stopped, its anonymous memory on zram) to the first byte, beside a request to the same app while it is warm: the small
 * app (express on Node 20) and one with 400 MB of parsed JSON in its heap. And what memory freezing gives back.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  await enterOwnNamespaces();
  const engine = await openEngine();
  try {
    const small = await boot(engine, 'small', { artefactPath: placeArtefact(engine, 'small', exampleApp('hello')), command: ['node', 'server.js'], offering: 'small' });
    const big = await boot(engine, 'big', {
      artefactPath: placeArtefact(engine, 'big', bigApp(engine)),
      command: ['node', '--expose-gc', '--max-old-space-size=2000', 'server.js'],
      offering: 'large',
    });
    const given = { small: await freezeAndCount(engine, small), big: await freezeAndCount(engine, big) };
    for (const instance of [small, big]) await thawed(engine, instance);
    const samples = await interleave(
      [
        { name: 'warmSmall', run: () => answered(small) },
        { name: 'thawSmall', run: () => freezeAndWake(engine, small) },
        { name: 'warmBig', run: () => answered(big) },
        { name: 'thawBig', run: () => freezeAndWake(engine, big) },
      ] satisfies Contender[],
      quick ? { rounds: 20, deadlineMs: 25_000 } : { rounds: 100, deadlineMs: 240_000 },
    );
    return summarize(samples, given);
  } finally {
    await engine.close();
  }
}

async function boot(engine: Engine, instance: string, app: { artefactPath: string; command: readonly string[]; offering: string }): Promise<RunningInstance> {
  const order: BootOrder = {
    instance,
    owner: { provider: 'bench', scope: 'main', app: instance },
    release: 1,
    uidSlot: 9,
    offering: findOffering(app.offering) as Offering,
    artefactPath: app.artefactPath,
    volumes: [],
    hostname: instance,
    ownNetwork: false,
    address: null,
    command: app.command,
    env: { PORT: `${port}`, HEAP_MEGABYTES: `${bigHeapMegabytes}` },
  };
  const running = await engine.instances.boot(order);
  await firstByte(running.address, port, 60_000);
  for (let warm = 0; warm < 20; warm += 1) await firstByte(running.address, port);
  return running;
}

async function answered({ address }: RunningInstance): Promise<number> {
  const begunMs = performance.now();
  await firstByte(address, port);
  return performance.now() - begunMs;
}

async function thawed(engine: Engine, instance: RunningInstance): Promise<number> {
  const begunMs = performance.now();
  await engine.instances.thaw({ instance: instance.instance });
  await firstByte(instance.address, port);
  return performance.now() - begunMs;
}

async function freezeAndWake(engine: Engine, instance: RunningInstance): Promise<number> {
  await Bun.sleep(learnMs);
  await engine.instances.freeze({ instance: instance.instance });
  await Bun.sleep(settleMs);
  return thawed(engine, instance);
}

/** Anonymous memory that the kernel counts for it (`rss` of version 1 is just that, and `anon` of version 2). */
function anonymousBytes(instance: RunningInstance): number {
  const { version, memory } = instance.cgroup;
  const stat = readFileSync(join(memory, 'memory.stat'), 'utf8');
  return Number(new RegExp(`^${version === 1 ? 'total_rss' : 'anon'} (\\d+)$`, 'm').exec(stat)?.[1]);
}

/** Its second freeze, which keeps in memory what the first thaw has needed; it stays frozen. */
async function freezeAndCount(engine: Engine, instance: RunningInstance): Promise<Given> {
  const heldBefore = readZramSwap()?.heldBytes ?? 0;
  const anonymous = anonymousBytes(instance);
  const { tookMs } = await engine.instances.freeze({ instance: instance.instance });
  await Bun.sleep(settleMs);
  const firstThawMs = await thawed(engine, instance);
  await Bun.sleep(learnMs);
  await engine.instances.freeze({ instance: instance.instance });
  return { anonymousBytes: anonymous, leftBytes: anonymousBytes(instance), zramBytes: (readZramSwap()?.heldBytes ?? 0) - heldBefore, pagerBytes: pagerBytes(engine, instance), freezeMs: tookMs, firstThawMs };
}

/** All memory of the processes that hold the instance's (pager.c). */
function pagerBytes(engine: Engine, { instance }: RunningInstance): number {
  const held = heldPath(engine.runFolder, instance);
  let bytes = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(held)) continue;
      for (const [, kilobytes] of readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8').matchAll(/^(?:Pss|SwapPss):\s+(\d+) kB$/gm)) bytes += Number(kilobytes) * 1024;
    } catch {
      // it has ended meanwhile
    }
  }
  return bytes;
}

/** The part of anonymous memory that others can have now: without what is left and without what zram and its pager hold of it. */
function givenBack(given: Given): number {
  return (given.anonymousBytes - given.leftBytes - given.zramBytes - given.pagerBytes) / given.anonymousBytes;
}

function summarize(samples: ReadonlyMap<string, readonly number[]>, given: { small: Given; big: Given }): Report {
  const of = (name: string): readonly number[] => samples.get(name) ?? [];
  const megabytes = (bytes: number): number => rounded(bytes / bytesPerMegabyte, 1);
  const names: Readonly<Record<string, string>> = {
    warmSmall: 'small app, warm',
    thawSmall: 'small app, frozen',
    warmBig: `${bigHeapMegabytes} MB heap, warm`,
    thawBig: `${bigHeapMegabytes} MB heap, frozen`,
  };
  return {
    bench: 'frozen',
    ratios: {
      thawOverWarmSmall: rounded(medianRatio(of('thawSmall'), of('warmSmall'))),
      thawOverWarmBig: rounded(medianRatio(of('thawBig'), of('warmBig'))),
      memoryGivenBack: rounded(givenBack(given.big), 3),
      memoryGivenBackSmall: rounded(givenBack(given.small), 3),
    },
    figures: {
      n: of('thawBig').length,
      warmSmallMsP50: rounded(median(of('warmSmall'))),
      thawSmallMsP50: rounded(median(of('thawSmall'))),
      thawSmallMsP99: rounded(percentile(of('thawSmall'), 0.99)),
      warmBigMsP50: rounded(median(of('warmBig'))),
      thawBigMsP50: rounded(median(of('thawBig'))),
      thawBigMsP99: rounded(percentile(of('thawBig'), 0.99)),
      bigAnonymousMb: megabytes(given.big.anonymousBytes),
      bigLeftMb: megabytes(given.big.leftBytes),
      bigZramMb: megabytes(given.big.zramBytes),
      bigPagerMb: megabytes(given.big.pagerBytes),
      bigFreezeMs: rounded(given.big.freezeMs, 0),
      bigFirstThawMs: rounded(given.big.firstThawMs),
      smallAnonymousMb: megabytes(given.small.anonymousBytes),
      smallLeftMb: megabytes(given.small.leftBytes),
      smallZramMb: megabytes(given.small.zramBytes),
      smallPagerMb: megabytes(given.small.pagerBytes),
      smallFreezeMs: rounded(given.small.freezeMs, 0),
      smallFirstThawMs: rounded(given.small.firstThawMs),
    },
    rows: [...samples].map(([name, values]) => ({ 'to first byte': names[name] ?? name, n: values.length, 'p50 ms': rounded(median(values)), 'p99 ms': rounded(percentile(values, 0.99)) })),
    notes: [
      readZramSwap() === null
        ? 'This machine has no swap on zram: nothing is given back, and a thaw reads nothing.'
        : 'zram is the whole machine’s: what others put there or take away meanwhile is counted as this app’s.',
    ],
  };
}

/** The JSON files of this clone's npm packages, as an app that keeps them parsed. */
function bigApp(engine: Engine): string {
  const folder = join(engine.dataFolder, 'big-source');
  mkdirSync(folder);
  const packages = join(import.meta.dir, '../node_modules');
  const largest = 200_000;
  const texts = readdirSync(packages, { recursive: true })
    .map((name) => join(packages, String(name)))
    .filter((path) => path.endsWith('.json') && statSync(path).isFile() && statSync(path).size <= largest)
    .toSorted()
    .flatMap((path) => jsonText(readFileSync(path, 'utf8')));
  writeFileSync(join(folder, 'corpus.json'), JSON.stringify(texts));
  cpSync(join(import.meta.dir, 'big-heap.js'), join(folder, 'server.js'));
  return folder;
}

/** Some are JSON with comments, or broken on purpose. */
function jsonText(text: string): string[] {
  try {
    JSON.parse(text);
    return [text];
  } catch {
    return [];
  }
}
