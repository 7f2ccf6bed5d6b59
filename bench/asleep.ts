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
 * How long daemons are left alone before their memory counts, before and after the apps alike: until what is only passing has gone. An idle Go
 * program collects every two minutes (runtime: forcegcperiod), and buffers that have been used live through the first; Bun gives back code
 * that runs no more when its heap has not grown for two minutes. What came before both would count them to the apps, or against them.
 */
const restMs = 280_000;
const lookMs = 10_000;
/** All looks of so long before the end count: their median is the figure, lowest and highest are told. */
const countedMs = 30_000;
/** So long after the last app the passing part is told too. */
const passingSeconds = [10, 30, 60, 120, 180];

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

  const all = Array.from({ length: firstApps + appsMax }, (_, number) => copyOf(place, `sleeper-${String(number).padStart(4, '0')}`));
  const further = all.slice(firstApps);
  const drawn = draw(further, wakesOfAll, seed);
  await addApps(place, all.slice(0, firstApps), news);
  await untilPublished(place, all.slice(0, firstApps));
  const snapshotPaths = await sealTemplates(place, drawn);
  const looksBefore = await rest(description);
  await addApps(place, further, news, snapshotPaths);
  await untilPublished(place, all);
  const looksAfter = await rest(description);

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
  return summarize({ looksBefore, looksAfter, before, alone, inCrowd, apps: further.length, seed });
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

interface Look {
  readonly afterMs: number;
  readonly resident: Resident;
}

async function rest(description: WorldDescription): Promise<readonly Look[]> {
  const begunMs = performance.now();
  const looks: Look[] = [];
  for (let afterMs = 0; afterMs < restMs; afterMs = performance.now() - begunMs) {
    await Bun.sleep(Math.min(lookMs, restMs - afterMs));
    looks.push({ afterMs: performance.now() - begunMs, resident: resident(description) });
  }
  return looks;
}

const counted = (looks: readonly Look[]): readonly Resident[] => looks.flatMap((look) => (look.afterMs >= restMs - countedMs ? [look.resident] : []));

/** Of each daemon the median of what counts. */
function settled(looks: readonly Look[]): Resident {
  const all = counted(looks);
  return Object.fromEntries(Object.keys(all[0] ?? {}).map((daemon) => [daemon, median(all.map((resident) => resident[daemon] ?? 0))]));
}

const sumOf = (resident: Resident): number => Object.values(resident).reduce((total, value) => total + value, 0);

function summarize(found: { looksBefore: readonly Look[]; looksAfter: readonly Look[]; before: readonly number[]; alone: Wakes; inCrowd: Wakes; apps: number; seed: number }): Report {
  const { looksBefore, looksAfter, before, alone, inCrowd, apps, seed } = found;
  const [residentBefore, residentAfter] = [settled(looksBefore), settled(looksAfter)];
  const megabytes = (kilobytes: number): number => rounded(kilobytes / 1000, 1);
  const beforeKb = median(counted(looksBefore).map(sumOf));
  const perApp = (resident: Resident): number => rounded((sumOf(resident) - beforeKb) / apps);
  const each = counted(looksAfter).map(perApp);
  const passing = passingSeconds.flatMap((seconds) => {
    const look = looksAfter.find(({ afterMs }) => afterMs >= seconds * 1000);
    return look === undefined ? [] : [`${perApp(look.resident)} after ${seconds} s`];
  });
  return {
    bench: 'asleep',
    ratios: {
      wakeOverAlone: rounded(medianRatio(inCrowd.rest, alone.rest)),
      hotWakeOverAlone: rounded(medianRatio(inCrowd.hot, alone.hot)),
    },
    figures: {
      n: inCrowd.rest.length,
      apps,
      residentKbPerApp: median(each),
      residentKbPerAppMin: Math.min(...each),
      residentKbPerAppMax: Math.max(...each),
      residentMbBefore: megabytes(beforeKb),
      residentMbAfter: megabytes(median(counted(looksAfter).map(sumOf))),
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
    notes: [
      `Memory is the median of ${each.length} looks up to ${restMs / 1000} s after the first ${firstApps} apps, and as long after the last. Passing, kB for each app: ${passing.join(', ')}.`,
      `SEED=${seed} drew the ${inCrowd.rest.length} apps that were woken.`,
    ],
  };
}
