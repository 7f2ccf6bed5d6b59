import { randomInt } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { templateMemory } from '../edgepoint/box/memory/template-memory.ts';
import { goneMark, incomingFolder } from '../edgepoint/templates/hot-cache.ts';
import type { WorldDescription } from '../world/start.ts';
import { addApps, type Copy, copyOf, openPlace, type Place, sealTemplates, templateName, untilPublished } from './crowd.ts';
import type { Report } from './report.ts';
import { type Edgepoint, sleeper, type Sleepers, wake, withSleepers, type Woken } from './sleepers.ts';
import { median, medianRatio, rounded } from './statistics.ts';

const appsMax = 2000;
/** Asleep before the first look at memory: what a daemon loads for its first apps is not counted to those that follow. */
const firstApps = 100;
/** Apps drawn at random that are woken, and wakes of the same app alone. */
const wakesOfAll = 20;
const kilobyte = 1000;
/**
 * How long daemons are left alone, at least, before their memory is looked at; before and after the apps alike. In the long run
 * nats-server has time for its own collections: an idle Go program makes one every two minutes (runtime: forcegcperiod), and buffers
 * that have been used live through the first.
 */
const restMsLeast = { quick: 30_000, full: 260_000 };
/** At rest: less than this given back between two looks. */
const stillKb = 500;
const lookMs = 8000;
const restMsMax = 60_000;

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
  return withSleepers((sleepers) => measure({ ...sleepers, seed, quick }));
}

async function measure({ description, bus, news, seed, quick }: Sleepers & { seed: number; quick: boolean }): Promise<Report> {
  const [crowded, lonely] = description.edgepoints as [Edgepoint, Edgepoint];
  const place = await openPlace({ site: crowded, dataFolder: crowded.dataFolder, bus, owner: sleeper });
  const original = copyOf(place, sleeper.app);

  // The same app on the same edgepoint, when there is no other.
  const before: number[] = [];
  for (let count = 0; count < (quick ? 5 : wakesOfAll); count += 1) {
    const { tookMs, asleepAgain } = await wake(crowded, original, news);
    before.push(tookMs);
    await asleepAgain;
  }

  const restMs = restMsLeast[quick ? 'quick' : 'full'];
  const all = Array.from({ length: firstApps + appsMax }, (_, number) => copyOf(place, `sleeper-${String(number).padStart(4, '0')}`));
  const further = all.slice(firstApps);
  const drawn = draw(further, wakesOfAll, seed);
  await addApps(place, all.slice(0, firstApps), news);
  await untilPublished(place, all.slice(0, firstApps));
  const snapshotPaths = await sealTemplates(place, drawn);
  const restedBefore = await untilAtRest(description, restMs);
  await addApps(place, further, news, snapshotPaths);
  await untilPublished(place, all);
  const restedAfter = await untilAtRest(description, restMs);

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
  return summarize({ restedBefore, restedAfter, before, alone, inCrowd, apps: further.length, seed });
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

interface Rested {
  readonly resident: Resident;
  readonly tookMs: number;
}

/** Looks until the daemons together have given back no more than a little between two looks, and at least as long as said. */
async function untilAtRest(description: WorldDescription, leastMs: number): Promise<Rested> {
  const begunMs = performance.now();
  let now = resident(description);
  for (let before = Infinity; ; before = sum(Object.values(now)), now = resident(description)) {
    const tookMs = performance.now() - begunMs;
    const still = before - sum(Object.values(now)) < stillKb;
    if ((still && tookMs >= leastMs) || tookMs >= leastMs + restMsMax) return { resident: now, tookMs };
    await Bun.sleep(lookMs);
  }
}

function summarize(found: { restedBefore: Rested; restedAfter: Rested; before: readonly number[]; alone: Wakes; inCrowd: Wakes; apps: number; seed: number }): Report {
  const { restedBefore, restedAfter, before, alone, inCrowd, apps, seed } = found;
  const [residentBefore, residentAfter] = [restedBefore.resident, restedAfter.resident];
  const seconds = ({ tookMs }: Rested): string => `${Math.round(tookMs / 1000)} s`;
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
    notes: [`Memory was looked at ${seconds(restedBefore)} after the first ${firstApps} apps and ${seconds(restedAfter)} after the last.`, `SEED=${seed} drew the ${inCrowd.rest.length} apps that were woken.`],
  };
}
