import { randomInt } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { templateMemory } from '../edgepoint/box/template-memory.ts';
import { goneMark, incomingFolder } from '../edgepoint/templates/hot-cache.ts';
import { type Bus, connectBus } from '../host/bus.ts';
import type { Log } from '../host/log.ts';
import { exampleApp } from '../images/host/example-apps.ts';
import { type AppEvent, eventMessage } from '../kit/wire/event.ts';
import { streams } from '../kit/wire/subjects.ts';
import { parseMessage } from '../kit/wire/version.ts';
import type { WorldDescription } from '../world/start.ts';
import { type ChildWorld, deployFolder, openChildWorld } from './child-world.ts';
import { addApps, type Copy, copyOf, type DeployNews, openPlace, type Place, sealTemplates, templateName, untilPublished } from './crowd.ts';
import type { Report } from './report.ts';
import { median, medianRatio, rounded } from './statistics.ts';

const appsMax = 2000;
/** Asleep before the first look at memory: what a daemon loads for its first apps is not counted to those that follow. */
const firstApps = 100;
/** Apps drawn at random that are woken, and wakes of the same app alone. */
const wakesOfAll = 20;
const provider = 'bench';
const app = 'hello';
const idleSeconds = 0.2;
const newsDeadlineMs = 20_000;
const kilobyte = 1000;

const silent: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: (text, fields) => console.error(text, fields), with: () => silent };

type Edgepoint = WorldDescription['edgepoints'][number];
/** Resident kilobytes (1000 bytes) by daemon. */
type Resident = Readonly<Record<string, number>>;

/** Wakes, ms to the first byte: `rest` with the template sealed on the disk, `hot` with it unpacked in memory. */
interface Wakes {
  readonly rest: number[];
  readonly hot: number[];
}

/**
 * What an app costs while it sleeps, and whether a crowd of sleepers slows a wake down: a real world, one edgepoint of which is given
 * 2,000 apps beside the one that was deployed there. Its other edgepoint has only the one, and is woken in turn with it.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31));
  const world = await openChildWorld();
  let bus: Bus | null = null;
  try {
    const { description } = world;
    bus = await connectBus({ url: description.natsUrl, seed: readFileSync(join(description.runFolder, 'daemons/conduit/bus.seed'), 'utf8'), name: 'bench' }, silent);
    return await measure({ world, bus, seed, quick });
  } finally {
    await bus?.close();
    await world.stop();
  }
}

async function measure({ world, bus, seed, quick }: { world: ChildWorld; bus: Bus; seed: number; quick: boolean }): Promise<Report> {
  const { description } = world;
  const [crowded, lonely] = description.edgepoints as [Edgepoint, Edgepoint];
  await deploy(world);
  const news = await followNews(bus);
  const place = await openPlace({ site: crowded, dataFolder: crowded.dataFolder, bus, owner: { provider, scope: 'main', app } });
  const original = copyOf(place, app);
  // In the long run nats-server's runtime has time for its own collections: an idle one makes one every two minutes, and buffers that have
  // been used live through the first.
  const settleMs = quick ? 8000 : 260_000;

  // The same app on the same edgepoint, when there is no other.
  const before: number[] = [];
  for (let count = 0; count < (quick ? 5 : wakesOfAll); count += 1) {
    const { tookMs, asleepAgain } = await wake(crowded, original, news);
    before.push(tookMs);
    await asleepAgain;
  }

  const all = Array.from({ length: firstApps + appsMax }, (_, number) => copyOf(place, `sleeper-${String(number).padStart(4, '0')}`));
  const further = all.slice(firstApps);
  const drawn = draw(further, wakesOfAll, seed);
  await addApps(place, all.slice(0, firstApps), news);
  await untilPublished(place, all.slice(0, firstApps));
  const [snapshotPaths] = await Promise.all([sealTemplates(place, drawn), Bun.sleep(settleMs)]);
  const residentBefore = resident(description);
  await addApps(place, further, news, snapshotPaths);
  await untilPublished(place, all);
  await Bun.sleep(settleMs);
  const residentAfter = resident(description);

  const lonelyPlace = await openPlace({ site: lonely, dataFolder: lonely.dataFolder, bus, owner: original });
  const alone: Wakes = { rest: [], hot: [] };
  const inCrowd: Wakes = { rest: [], hot: [] };
  for (const [round, copy] of drawn.entries()) {
    const one = async (where: 'lonely' | 'crowded', into: 'rest' | 'hot'): Promise<Woken> => {
      const woken = await (where === 'lonely' ? wake(lonely, original, news) : wake(crowded, copy, news));
      (where === 'lonely' ? alone : inCrowd)[into].push(woken.tookMs);
      return woken;
    };
    forgetHot(description, lonely, lonelyPlace);
    for (const into of ['rest', 'hot'] as const) {
      // In turn who goes first.
      const asleep: Promise<void>[] = [];
      for (const where of round % 2 === 0 ? (['lonely', 'crowded'] as const) : (['crowded', 'lonely'] as const)) {
        const { asleepAgain } = await one(where, into);
        asleep.push(asleepAgain);
      }
      await Promise.all(asleep);
    }
  }
  news.stop();
  return summarize({ residentBefore, residentAfter, before, alone, inCrowd, apps: further.length, seed });
}

/** The small example, which falls asleep sooner. */
async function deploy(world: ChildWorld): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-bench-'));
  try {
    cpSync(exampleApp(app), folder, { recursive: true });
    const manifest = join(folder, 'edgepoint.toml');
    writeFileSync(manifest, readFileSync(manifest, 'utf8').replace(/^idleSeconds = .*$/m, `idleSeconds = ${idleSeconds}`));
    await deployFolder(folder, { conduitUrl: world.description.conduitUrl, token: await world.newProvider(provider) });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

// ---- waking ----

interface News extends DeployNews {
  /** Resolves when that app has been woken and sleeps again there; rejects when it was not restored from its template. */
  afterWake(edgepoint: string, app: string): Promise<void>;
  stop(): void;
}

/** Something waited for: `note` judges each event about it; true ends the waiting, and what it throws fails it. */
interface Waiting {
  note(event: AppEvent): boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** What the edgepoints tell of deploys, wakes and sleeps. */
async function followNews(bus: Bus): Promise<News> {
  const waiting = new Map<string, Waiting>();
  const keyOf = (edgepoint: string, name: string): string => `${edgepoint}/${name}`;
  const following = await bus.consume(streams.events, { from: 'new' }, async (_subject, text) => {
    const parsed = parseMessage(eventMessage, text);
    if (!parsed.ok) throw new Error(parsed.reason);
    const event = parsed.value;
    const one = waiting.get(event.kind === 'deploy' ? event.deployId : keyOf(event.edgepoint, event.app));
    try {
      if (one?.note(event) === true) one.resolve();
    } catch (failure) {
      one?.reject(failure);
    }
  });
  const waitFor = (key: string, note: (event: AppEvent) => boolean): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`nothing was heard of ${key} within ${newsDeadlineMs} ms`)), newsDeadlineMs);
    waiting.set(key, { note, resolve, reject });
    const ended = promise.finally(() => {
      clearTimeout(timer);
      waiting.delete(key);
    });
    // Nobody awaits it yet when what should cause it fails first.
    ended.catch(() => undefined);
    return ended;
  };
  return {
    ready: (deployId) =>
      waitFor(deployId, ({ stage, text }) => {
        if (stage === 'failed') throw new Error(text);
        return stage === 'ready';
      }),
    afterWake: (edgepoint, name) => {
      let woken = false;
      return waitFor(keyOf(edgepoint, name), ({ kind, text }) => {
        if (kind === 'sleep' && woken) return true;
        woken = kind === 'wake' && text.includes('restored from its template');
        if (!woken) throw new Error(`${name} on ${edgepoint} was not woken by its template: ${text}`);
        return false;
      });
    },
    stop: () => following.stop(),
  };
}

interface Woken {
  readonly tookMs: number;
  readonly asleepAgain: Promise<void>;
}

/** A request to an app that sleeps; milliseconds to its first byte. */
async function wake(edgepoint: Edgepoint, copy: Copy, news: News): Promise<Woken> {
  const asleepAgain = news.afterWake(edgepoint.edgepoint, copy.app);
  return { tookMs: await timeToFirstByte(edgepoint.ipv4, copy.host), asleepAgain };
}

function timeToFirstByte(address: string, host: string): Promise<number> {
  const begunMs = performance.now();
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const fail = (why: unknown): void => reject(new Error(`${host}: ${String(why)}`));
  Bun.connect({
    hostname: address,
    port: 80,
    socket: {
      open: (socket) => void socket.write(`GET /whoami HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`),
      data: (socket, bytes) => {
        const tookMs = performance.now() - begunMs;
        if (bytes.toString().startsWith('HTTP/1.1 200')) resolve(tookMs);
        else fail(bytes);
        socket.end();
      },
      close: () => fail('closed without an answer'),
      error: (_socket, error) => fail(error),
    },
  }).catch(fail);
  return promise;
}

/** As after many other wakes: the template is no longer unpacked in memory, and lies sealed on the disk. */
function forgetHot(description: WorldDescription, { edgepoint, runFolder }: Edgepoint, place: Place): void {
  const seen = `/proc/${description.daemons[`${edgepoint}-restored`]}/root`;
  writeFileSync(join(seen, incomingFolder(templateMemory(runFolder)), goneMark(templateName(place.facts.snapshotPath))), '', { mode: 0o600 });
}

/** Apps drawn at random, each once (Fisher and Yates; mulberry32). */
function draw(copies: readonly Copy[], count: number, seed: number): Copy[] {
  let state = seed;
  const random = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const left = [...copies];
  return Array.from({ length: count }, () => left.splice(Math.floor(random() * left.length), 1)).flat();
}

// ---- memory ----

function resident({ daemons }: WorldDescription): Resident {
  return Object.fromEntries(
    Object.entries(daemons).map(([name, pid]) => {
      const kibibytes = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
      return [name, (kibibytes * 1024) / kilobyte];
    }),
  );
}

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

function summarize(found: { residentBefore: Resident; residentAfter: Resident; before: readonly number[]; alone: Wakes; inCrowd: Wakes; apps: number; seed: number }): Report {
  const { residentBefore, residentAfter, before, alone, inCrowd, apps, seed } = found;
  const megabytes = (kilobytes: number): number => rounded(kilobytes / 1000, 1);
  const [beforeKb, afterKb] = [sum(Object.values(residentBefore)), sum(Object.values(residentAfter))];
  return {
    bench: 'asleep',
    ratios: {
      wakeOverAlone: rounded(medianRatio(inCrowd.rest, alone.rest)),
      hotWakeOverAlone: rounded(medianRatio(inCrowd.hot, alone.hot)),
    },
    figures: {
      n: inCrowd.rest.length,
      apps,
      residentKbPerApp: rounded((afterKb - beforeKb) / apps),
      residentMbBefore: megabytes(beforeKb),
      residentMbAfter: megabytes(afterKb),
      aloneMsP50: rounded(median(alone.rest)),
      crowdedMsP50: rounded(median(inCrowd.rest)),
      aloneHotMsP50: rounded(median(alone.hot)),
      crowdedHotMsP50: rounded(median(inCrowd.hot)),
      beforeCrowdHotMsP50: rounded(median(before)),
    },
    rows: Object.entries(residentAfter).map(([daemon, after]) => ({
      daemon,
      'MB before': megabytes(residentBefore[daemon] ?? 0),
      'MB after': megabytes(after),
      'kB for each app': rounded((after - (residentBefore[daemon] ?? 0)) / apps),
    })),
    notes: [`SEED=${seed} drew the ${inCrowd.rest.length} apps that were woken.`],
  };
}
