import { cpSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
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
  /** Of its pager: all their memory, and processor time, of the first freeze and of the second. */
  readonly pagerBytes: number;
  readonly pagerCpuMs: readonly [number, number];
  readonly freezeMs: number;
  /** Of its first thaw, when nothing is known of what it needs. */
  readonly firstThawMs: number;
}

/**
 * From frozen (stopped, its anonymous memory with a pager or on zram) to the first byte, beside a request to the same app while it is warm: the small
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
    const lines = await boot(
      engine,
      'lines',
      { artefactPath: placeArtefact(engine, 'lines', linesApp(engine)), command: ['node', '--expose-gc', '--max-old-space-size=2000', 'server.js'], offering: 'large' },
      { HEAP_OF: 'lines' },
    );
    const given = { small: await freezeAndCount(engine, small), big: await freezeAndCount(engine, big), lines: await freezeAndCount(engine, lines) };
    await engine.instances.stop({ instance: lines.instance, graceMs: 0 });
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

async function boot(engine: Engine, instance: string, app: { artefactPath: string; command: readonly string[]; offering: string }, env: Record<string, string> = {}): Promise<RunningInstance> {
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
    env: { PORT: `${port}`, HEAP_MEGABYTES: `${bigHeapMegabytes}`, ...env },
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
  const first = pagerOf(engine, instance);
  await Bun.sleep(settleMs);
  const firstThawMs = await thawed(engine, instance);
  await Bun.sleep(learnMs);
  await engine.instances.freeze({ instance: instance.instance });
  const second = pagerOf(engine, instance);
  return {
    anonymousBytes: anonymous,
    leftBytes: anonymousBytes(instance),
    zramBytes: (readZramSwap()?.heldBytes ?? 0) - heldBefore,
    pagerBytes: second.bytes,
    pagerCpuMs: [first.cpuMs, second.cpuMs],
    freezeMs: tookMs,
    firstThawMs,
  };
}

/** Of the processes that hold the instance's memory (pager.c): their own memory, and the files of memory they have, mapped or not. */
function pagerOf(engine: Engine, { instance }: RunningInstance): { bytes: number; cpuMs: number } {
  const held = heldPath(engine.runFolder, instance);
  const files = new Map<number, number>();
  let bytes = 0;
  let cpuMs = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(held)) continue;
      for (const [, kilobytes] of readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8').matchAll(/^(?:Pss_Anon|Pss_File|SwapPss):\s+(\d+) kB$/gm)) bytes += Number(kilobytes) * 1024;
      for (const fd of readdirSync(`/proc/${pid}/fd`).map((name) => `/proc/${pid}/fd/${name}`)) {
        if (!readlinkSync(fd).startsWith('/memfd:')) continue;
        const { ino, blocks } = statSync(fd);
        files.set(ino, blocks * 512);
      }
      const [user = 0, system = 0] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ').slice(11, 13).map(Number) ?? [];
      cpuMs += (user + system) * 10; // clock ticks
    } catch {
      // it has ended meanwhile
    }
  }
  for (const held of files.values()) bytes += held;
  return { bytes, cpuMs };
}

/** The part of anonymous memory that others can have now: without what is left and without what zram and its pager hold of it. */
function givenBack(given: Given): number {
  return (given.anonymousBytes - given.leftBytes - given.zramBytes - given.pagerBytes) / given.anonymousBytes;
}

function summarize(samples: ReadonlyMap<string, readonly number[]>, given: { small: Given; big: Given; lines: Given }): Report {
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
      memoryGivenBackLines: rounded(givenBack(given.lines), 3),
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
      bigPagerCpuMs: given.big.pagerCpuMs[0],
      bigPagerAgainCpuMs: given.big.pagerCpuMs[1],
      bigFreezeMs: rounded(given.big.freezeMs, 0),
      bigFirstThawMs: rounded(given.big.firstThawMs),
      linesAnonymousMb: megabytes(given.lines.anonymousBytes),
      linesLeftMb: megabytes(given.lines.leftBytes),
      linesZramMb: megabytes(given.lines.zramBytes),
      linesPagerMb: megabytes(given.lines.pagerBytes),
      linesFirstThawMs: rounded(given.lines.firstThawMs),
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

/** The JSON files of this clone's npm packages, as an app that keeps them parsed, again and again. */
function bigApp(engine: Engine): string {
  return heapApp(engine, 'big', packageTexts(/\.json$/, 200_000).flatMap(jsonText));
}

/** Programs and prose of the packages, as an app that keeps each once, as objects for its lines and words. */
function linesApp(engine: Engine): string {
  const mostBytes = 60e6;
  let bytes = 0;
  return heapApp(engine, 'lines', packageTexts(/\.(?:md|d\.ts|js|cjs|mjs)$/, 400_000).filter((text) => (bytes += text.length) < mostBytes));
}

function packageTexts(wanted: RegExp, bytesMax: number): string[] {
  const packages = join(import.meta.dir, '../node_modules');
  return readdirSync(packages, { recursive: true })
    .map((name) => join(packages, String(name)))
    .filter((path) => wanted.test(path) && statSync(path).isFile() && statSync(path).size <= bytesMax)
    .toSorted()
    .map((path) => readFileSync(path, 'utf8'));
}

function heapApp(engine: Engine, name: string, texts: readonly string[]): string {
  const folder = join(engine.dataFolder, `${name}-source`);
  mkdirSync(folder);
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
