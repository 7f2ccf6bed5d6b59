import { cp, readFile, rename, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Failure, codeOf } from '../../kit/errors.ts';
import { formatBytes, formatMs, nsPerMs } from '../../kit/units.ts';
import type { Clock } from '../../kit/clock.ts';
import type { BuildOrder } from '../../kit/wire/check.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { CgroupPaths } from '../model/calls.ts';
import { offeringOf } from '../model/orders.ts';
import type { Probe } from '../model/probe.ts';
import { cacheKey } from './cache.ts';
import type { BuildCache } from './cache.ts';
import { buildToolsPath, dependencyFiles, dependencyText, planBuild, sourcePath, tookTooLong, whyFailed } from './plan.ts';
import type { BuildPlan, BuildStep } from './plan.ts';
import { askRuntime, packInto, runStep, unpackInto } from './runner.ts';
import type { RunnerPlace } from './runner.ts';

/** A build under way: its source is unpacked in `folder/artefact/app`. */
export interface BuildWork {
  /** Of the app as it would be released; only what it says of whom it belongs to is heeded. */
  readonly order: ReleaseOrder;
  readonly build: BuildOrder;
  /** The folder of the artefact (`artefact`), and one for what is made here. */
  readonly artefact: string;
  readonly folder: string;
  /** Aborted when nobody waits for it any more. */
  readonly cancelled: AbortSignal;
  tell(text: string, about?: { tookMs?: number; figures?: Record<string, number> }): void;
  /** Waits for memory, then boots: an instance that belongs to no app. */
  boot(order: ReleaseOrder): Promise<BuildBox>;
}

export interface BuildBox {
  readonly address: string;
  readonly logPath: string;
  readonly gone: AbortSignal;
  readonly cgroup: CgroupPaths;
  end(): Promise<void>;
}

export interface BuilderPorts {
  readonly clock: Clock;
  readonly cache: BuildCache;
  /** Where npm has packages from. */
  readonly npmRegistry: string;
  /** A folder with the tools of builds and runner.cjs, of this user: linked into each box. */
  readonly tools: () => Promise<string>;
  readonly probe: Probe;
  /** What the kernel has refused the box so far. */
  refusals(cgroup: CgroupPaths): { memoryKills: number; forksRefused: number };
  lastWords(logPath: string): Promise<string>;
}

export interface Built {
  readonly file: string;
  readonly digest: string;
  readonly bytes: number;
}

const runnerPort = 7070;
const bootSeconds = 60;
/** As much as the conduit takes of an upload. */
const builtBytesMax = 512 * 1024 ** 2;
const dependencyFileBytesMax = 32 * 1024 ** 2;
/** To pack and unpack may take as long; then something of the build is in the way. */
const packSeconds = 600;

/** Installs what a source folder depends on, and builds it, in a box of its own that is gone when this returns. */
export async function runBuild(work: BuildWork, ports: BuilderPorts): Promise<Built> {
  const order = boxOrder(work);
  await cp(await ports.tools(), join(work.artefact, buildToolsPath), { recursive: true });
  await rename(join(work.artefact, 'app'), join(work.artefact, sourcePath));
  const plan = planBuild(work.build, ports.npmRegistry);
  work.tell(`Builds in a box of the offering ${order.manifest.offering}.`);
  const box = await work.boot(order);
  try {
    const until = AbortSignal.any([box.gone, work.cancelled]);
    const { address } = box;
    const outcome = await ports.probe({ address, port: runnerPort, path: '/', hostname: 'build', timeoutMs: bootSeconds * 1000, proxyProtocol: 'none', gone: until });
    if (outcome.kind !== 'answers') throw new Failure('build-broken', 'the box of the build did not start', { remedy: 'Try again; if it stays so, tell the operator.' });
    const place = { address, port: runnerPort, until };
    for (const step of plan.steps) await (step.kind === 'install' ? install : run)(step, { work, plan, place, box, order }, ports);
    const file = join(work.folder, 'built.tar.gz');
    const { result, tookMs } = await timed(ports, () => packInto(limited(place, packSeconds), [], file, builtBytesMax));
    work.tell(`Packed in ${formatMs(tookMs)}: ${formatBytes(result.bytes)}.`, { tookMs, figures: { bytes: result.bytes } });
    return { file, ...result };
  } catch (thrown) {
    if (work.cancelled.aborted) throw new Failure('superseded', 'nobody waits for it any more');
    throw box.gone.aborted ? endedByItself(order, ports.refusals(box.cgroup), await ports.lastWords(box.logPath)) : thrown;
  } finally {
    await box.end();
  }
}

/** The same app, with the program of a build in place of its own, and nothing else of its manifest: no secrets, variables or volumes. */
function boxOrder({ order, build }: BuildWork): ReleaseOrder {
  const { secrets: _, cronSite: __, canaryPercent: ___, ...plain } = order;
  const manifest = manifestSchema.parse({ app: order.owner.app, command: ['node', `${buildToolsPath}/runner.cjs`], port: runnerPort, offering: build.offering });
  const built: ReleaseOrder = { ...plain, manifest };
  offeringOf(built); // one that this edgepoint does not know is refused before anything is made
  return built;
}

interface InBox {
  readonly work: BuildWork;
  readonly plan: BuildPlan;
  readonly place: RunnerPlace;
  readonly box: BuildBox;
  readonly order: ReleaseOrder;
}

/** The dependencies: those of an earlier build when nothing they are made from has changed. */
async function install(step: BuildStep, inBox: InBox, ports: BuilderPorts): Promise<void> {
  const { work, plan } = inBox;
  const { provider } = work.order.owner;
  const key = cacheKey(await dependenciesOf(work, step, inBox.place, ports));
  const kept = await ports.cache.find(provider, key);
  if (kept !== null) {
    const { tookMs } = await timed(ports, () => unpackInto(limited(inBox.place, packSeconds), kept));
    return work.tell(`The dependencies are those of an earlier build: unpacked in ${formatMs(tookMs)}, not installed.`, { tookMs, figures: { cached: 1 } });
  }
  const { tookMs } = await run(step, inBox, ports);
  work.tell(`The dependencies were installed in ${formatMs(tookMs)}.`, { tookMs, figures: { cached: 0 } });
  try {
    await packInto(limited(inBox.place, packSeconds), plan.produces, await ports.cache.part(provider, key), builtBytesMax);
    await ports.cache.keep(provider, key);
  } finally {
    await ports.cache.drop(provider, key);
  }
}

async function dependenciesOf(work: BuildWork, step: BuildStep, place: RunnerPlace, ports: BuilderPorts): Promise<string> {
  const names = dependencyFiles[work.build.install];
  const files = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await readIfThere(join(work.artefact, sourcePath, name))] as const)));
  return dependencyText({ tools: basename(await ports.tools()), runtime: await askRuntime(place), install: step, sourceDigest: work.order.artefactDigest, files });
}

async function run(step: BuildStep, { work, place, box, order }: InBox, ports: BuilderPorts): Promise<{ tookMs: number }> {
  const { timeoutSeconds } = work.build;
  if (step.kind !== 'source') work.tell(`Runs ${step.argv.join(' ')}.`);
  const inTime = limited(place, timeoutSeconds);
  const { result, tookMs } = await timed(ports, async () => {
    try {
      return await runStep(inTime, step);
    } catch (thrown) {
      throw inTime.until.aborted && !place.until.aborted ? tookTooLong(step, timeoutSeconds, await ports.lastWords(box.logPath)) : thrown;
    }
  });
  const failure = whyFailed(step, { ...result, ...ports.refusals(box.cgroup), lastWords: await ports.lastWords(box.logPath) }, offeringOf(order));
  if (failure !== null) throw failure;
  return { tookMs };
}

/** The box itself has gone: for want of memory, or because something of the build ended its first process. */
function endedByItself(order: ReleaseOrder, { memoryKills }: { memoryKills: number }, lastWords: string): Failure {
  const words = lastWords.trim() === '' ? 'It wrote nothing.' : `Its last words:\n${lastWords.trim()}`;
  const why = memoryKills > 0 ? 'it wanted more memory' : 'it ended its own first process, or wanted more memory';
  return new Failure('build-ended', `the box of the build ended before the build did: ${why} (it has ${formatBytes(offeringOf(order).memoryBytes)})`, { remedy: words });
}

const limited = (place: RunnerPlace, seconds: number): RunnerPlace => ({ ...place, until: AbortSignal.any([place.until, AbortSignal.timeout(seconds * 1000)]) });

async function timed<T>({ clock }: BuilderPorts, does: () => Promise<T>): Promise<{ result: T; tookMs: number }> {
  const fromBootNs = clock.bootNs();
  const result = await does();
  return { result, tookMs: (clock.bootNs() - fromBootNs) / nsPerMs };
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    if ((await stat(path)).size > dependencyFileBytesMax) throw new Failure('build-failed', `${basename(path)} is longer than ${formatBytes(dependencyFileBytesMax)}`);
    return await readFile(path, 'utf8');
  } catch (thrown) {
    if (['ENOENT', 'ENOTDIR', 'EISDIR', 'ELOOP'].includes(codeOf(thrown))) return null;
    throw thrown;
  }
}
