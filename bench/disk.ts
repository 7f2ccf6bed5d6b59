import { closeSync, fdatasyncSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { dlopen } from 'bun:ffi';
import { type Engine, enterOwnNamespaces, openEngine } from './engine.ts';
import { interleave } from './interleave.ts';
import { type ObjectStore, openObjectStore } from './object-store.ts';
import type { Report } from './report.ts';
import { median, medianRatio, percentile, rounded } from './statistics.ts';
import { appPort, boxOrder, makeTemplate, placeSmallApp, timed } from './small-app.ts';

const libc = dlopen('libc.so.6', { posix_fadvise: { args: ['i32', 'i64', 'i64', 'i32'], returns: 'i32' } }).symbols;
const dontNeed = 4; // POSIX_FADV_DONTNEED
const pageBytes = 4096;

/**
 * A template at rest, and what it costs to wake from it: unpacked already (hot), sealed in the page cache (cold cache), sealed on the
 * disk (cold disk), or nowhere on this edgepoint: fetched from the object store, where it has put it itself or another edgepoint has; and
 * a cold boot beside them. The small app: express on Node 20.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  await enterOwnNamespaces();
  const engine = await openEngine();
  let store: ObjectStore | null = null;
  try {
    const app = placeSmallApp(engine);
    const template = await makeTemplate(engine, 'small', app);
    const wanted = { ...boxOrder('bench', app.artefactPath), snapshotPath: template, continues: false };
    const wake = (): Promise<number> => timed(engine, (instance) => engine.instances.restore({ ...wanted, instance }));
    const unpack = async (spent: boolean): Promise<void> => (await engine.templates.use(wanted)).done({ spent });
    store = await openObjectStore(engine, wanted.owner);
    for (const by of ['own', 'other'] as const) await store.put(template, by);
    const fetchedMs: number[] = [];
    const wakeFrom = async (from: ObjectStore, by: 'own' | 'other'): Promise<number> => {
      let fetched = '';
      const tookMs = await timed(engine, async (instance) => {
        const brought = await from.bring(by);
        fetched = brought.snapshotPath;
        if (by === 'other') fetchedMs.push(brought.tookMs);
        return engine.instances.restore({ ...wanted, snapshotPath: fetched, instance });
      });
      await engine.snapshots.discard({ snapshotPath: fetched });
      return tookMs;
    };
    const fetches = store;
    const samples = await interleave(
      [
        { name: 'hot', run: () => unpack(false).then(wake) },
        { name: 'coldCache', run: () => unpack(true).then(wake) },
        { name: 'coldDisk', run: () => unpack(true).then(() => forget(template)).then(wake) },
        { name: 'own', run: () => unpack(true).then(() => wakeFrom(fetches, 'own')) },
        { name: 'other', run: () => wakeFrom(fetches, 'other') },
        { name: 'coldBoot', run: () => timed(engine, (instance) => engine.instances.boot({ ...boxOrder(instance, app.artefactPath), command: app.command, env: { PORT: `${appPort}` } })) },
      ],
      quick ? { rounds: 15, deadlineMs: 30_000 } : { rounds: 60, deadlineMs: 240_000 },
    );
    const other = await makeTemplate(engine, 'other', app);
    return summarize(samples, await sizes(engine, [template, other]), fetchedMs);
  } finally {
    await store?.close();
    await engine.close();
  }
}

/** Takes a file out of the page cache, so that the next read of it goes to the disk (posix_fadvise(2)). */
function forget(path: string): void {
  const file = openSync(path, 'r');
  fdatasyncSync(file);
  if (libc.posix_fadvise(file, 0n, 0n, dontNeed) !== 0) throw new Error(`${path} stays in the page cache`);
  closeSync(file);
}

interface Sizes {
  readonly atRestBytes: number;
  readonly memoryBytes: number;
  /** The part of a template's pages that another template of the same app has, too. */
  readonly equalPages: number;
  /** The same, in runs of sixteen pages. */
  readonly equalRuns: number;
}

async function sizes(engine: Engine, templates: readonly string[]): Promise<Sizes> {
  const memories: Buffer[] = [];
  for (const snapshotPath of templates) {
    const hot = await engine.templates.use({ ...boxOrder('bench', ''), snapshotPath, continues: false });
    memories.push(readFileSync(join(hot.path, 'images/pages-1.img')));
    hot.done({ spent: false });
  }
  const [one = Buffer.alloc(0), two = Buffer.alloc(0)] = memories;
  return { atRestBytes: statSync(templates[0] ?? '').size, memoryBytes: one.length, equalPages: equalPart(one, two, pageBytes), equalRuns: equalPart(one, two, 16 * pageBytes) };
}

function equalPart(one: Buffer, two: Buffer, pieceBytes: number): number {
  const pieces = (memory: Buffer): string[] => Array.from({ length: Math.floor(memory.length / pieceBytes) }, (_, index) => memory.toString('latin1', index * pieceBytes, (index + 1) * pieceBytes));
  const known = new Set(pieces(one));
  const others = pieces(two);
  return others.filter((piece) => known.has(piece)).length / others.length;
}

const names: Readonly<Record<string, string>> = {
  hot: 'restore, unpacked already',
  coldCache: 'restore, sealed in the page cache',
  coldDisk: 'restore, sealed on the disk',
  own: 'restore, fetched from the object store',
  other: 'restore, fetched from the object store, made by another edgepoint',
  coldBoot: 'cold boot',
};

function summarize(samples: ReadonlyMap<string, readonly number[]>, measured: Sizes, fetchedMs: readonly number[]): Report {
  const of = (name: string): readonly number[] => samples.get(name) ?? [];
  return {
    bench: 'disk',
    ratios: {
      coldCacheOverHot: rounded(medianRatio(of('coldCache'), of('hot'))),
      coldDiskOverHot: rounded(medianRatio(of('coldDisk'), of('hot'))),
      fetchedOverHot: rounded(medianRatio(of('own'), of('hot'))),
      fetchedFromOtherOverHot: rounded(medianRatio(of('other'), of('hot'))),
      bootOverFetchedFromOther: rounded(medianRatio(of('coldBoot'), of('other'))),
      bootOverColdCache: rounded(medianRatio(of('coldBoot'), of('coldCache'))),
      bootOverColdDisk: rounded(medianRatio(of('coldBoot'), of('coldDisk'))),
      memoryOverAtRest: rounded(measured.memoryBytes / measured.atRestBytes),
    },
    figures: {
      n: of('hot').length,
      atRestMb: rounded(measured.atRestBytes / 1e6),
      memoryMb: rounded(measured.memoryBytes / 1e6),
      hotMsP50: rounded(median(of('hot'))),
      coldCacheMsP50: rounded(median(of('coldCache'))),
      coldDiskMsP50: rounded(median(of('coldDisk'))),
      fetchedMsP50: rounded(median(of('own'))),
      fetchedFromOtherMsP50: rounded(median(of('other'))),
      fetchAndAdmitMsP50: rounded(median(fetchedMs)),
      coldBootMsP50: rounded(median(of('coldBoot'))),
      equalPagesPart: rounded(measured.equalPages, 3),
      equalRunsOf16Part: rounded(measured.equalRuns, 3),
    },
    rows: [...samples].map(([name, values]) => ({
      'asleep to first byte, small app': names[name] ?? name,
      n: values.length,
      'p50 ms': rounded(median(values), 1),
      'p99 ms': rounded(percentile(values, 0.99), 1),
      'times hot': rounded(medianRatio(values, of('hot'))),
    })),
    notes: [
      `At rest: ${rounded(measured.atRestBytes / 1e6)} MB (compressed, encrypted, signed) of ${rounded(measured.memoryBytes / 1e6)} MB of memory.`,
      `Of the pages of another template of the same app ${rounded(measured.equalPages * 100, 1)} % are equal to one of this; in runs of sixteen pages ${rounded(measured.equalRuns * 100, 1)} %.`,
    ],
  };
}
