import { defaultScope, ownerKey } from '../kit/ids.ts';
import type { Owner } from '../kit/ids.ts';
import { nsPerMs, nsPerSecond } from '../kit/units.ts';
import { manifestSchema } from '../kit/wire/manifest.ts';
import type { ServingRelease } from '../edgepoint/model/app.ts';
import { dataPaths } from '../edgepoint/model/paths.ts';
import { ResourceManager } from '../edgepoint/resources/run.ts';
import { openState } from '../edgepoint/resources/state.ts';
import { charges } from '../metering/charges.ts';
import { rate } from '../metering/rating.ts';
import type { AppUsage } from '../metering/rating.ts';
import { exactTotals } from '../metering/totals.ts';
import type { Arrival, SimulatedApp } from './demand.ts';
import { Front } from './front.ts';
import { Machine } from './machine.ts';
import { VirtualTime } from './virtual-time.ts';

export interface DayOptions {
  readonly apps: readonly SimulatedApp[];
  /** The requests of each app, in their order. */
  readonly arrivals: (app: SimulatedApp, index: number) => Iterable<Arrival>;
  readonly seconds: number;
  /** The day is looked at in stretches of so many seconds. */
  readonly stretchSeconds: number;
  /** Memory that may be promised to instances, by their offerings. */
  readonly capacityBytes: number;
  /** What zram and pagers may hold for frozen instances. */
  readonly frozenBytes: number;
  /** So many instances of each app all day, as one who plans ahead would have; null: as demand wants them. */
  readonly fixed: ((app: SimulatedApp) => number) | null;
  readonly onProgress?: (share: number) => void;
}

/** What is seen of each stretch of the day. */
export interface Stretch {
  readonly fromSecond: number;
  readonly seconds: number;
  /** Requests by provider, in the order in which providers first appear. */
  readonly requests: number[];
  refused: number;
  /** Means over the stretch. */
  instances: number;
  frozen: number;
  heldBytes: number;
  /** Waits for an instance, ms. */
  readonly waitsMs: number[];
  /** Of all providers since the day began, micros. */
  costMicros: number;
}

export interface DayResult {
  readonly providers: readonly string[];
  readonly stretches: readonly Stretch[];
  readonly requests: number;
  readonly refused: number;
  readonly waitsMs: Float64Array;
  readonly wakes: number;
  readonly instanceHours: number;
  readonly frozenHours: number;
  readonly peakInstances: number;
  readonly costMicros: number;
}

const looksPerStretch = 60;

/**
 * One day of one edgepoint in virtual time. The resource manager is the edgepoint's own (`edgepoint/resources`), with its planner, and so
 * is the dispatcher's choice of an instance; the machine under them takes the times that were measured of the real one.
 * Processors are not modelled: a request takes its service time wherever it runs.
 */
export async function liveOneDay(options: DayOptions): Promise<DayResult> {
  const time = new VirtualTime();
  const { seconds: endSecond, stretchSeconds } = options;
  const providers = [...new Set(options.apps.map(({ provider }) => provider))];
  const byKey = new Map(options.apps.map((app) => [ownerKey(ownerOf(app)), app]));
  const appOf = (key: string): SimulatedApp => byKey.get(key) as SimulatedApp;
  const stretches = Array.from({ length: Math.ceil(endSecond / stretchSeconds) }, (_, index): Stretch => ({
    fromSecond: index * stretchSeconds,
    seconds: Math.min(stretchSeconds, endSecond - index * stretchSeconds),
    requests: providers.map(() => 0),
    refused: 0,
    instances: 0,
    frozen: 0,
    heldBytes: 0,
    waitsMs: [],
    costMicros: 0,
  }));
  const stretchNow = (): Stretch => stretches[Math.min(stretches.length - 1, Math.floor(time.nowNs / nsPerSecond / stretchSeconds))] as Stretch;
  const requestsOf = new Map<string, number>();

  const machine = new Machine(time, appOf, options.frozenBytes);
  const front = new Front(
    time,
    {
      begun: (_owner, waitNs) => stretchNow().waitsMs.push(waitNs / nsPerMs),
      refused: () => (stretchNow().refused += 1),
    },
    (demand) => manager.noteDemand(demand),
  );
  let lastId = 0;
  const manager = new ResourceManager(openState(options.capacityBytes, () => machine.frozenRoom()), {
    clock: { bootNs: () => time.nowNs, bootId: 'simulated', wallMs: () => time.nowNs / nsPerMs },
    restored: machine.restored,
    snapd: machine.snapd,
    dispatcher: front,
    probe: async () => ({ kind: 'answers', status: 200, tookMs: 1 }),
    records: nothingKept,
    watch: { started: () => undefined, ended: () => undefined },
    tell: () => undefined,
    paths: dataPaths('/simulated'),
    newInstanceId: () => `i-${(lastId += 1)}`,
    wakeAt: (bootNs, callback) => time.at(bootNs, callback),
    stateChanged: () => undefined,
    remake: () => undefined,
    // Its disk has room for every template.
    recall: async ({ facts }) => facts,
    warn: (text, fields) => {
      throw new Error(`the simulated edgepoint warns: ${text} ${JSON.stringify(fields)}`);
    },
  });
  manager.begin();
  for (const app of options.apps) manager.promote(releaseOf(app, options.fixed?.(app) ?? null));

  for (const [index, app] of options.apps.entries()) {
    const owner = ownerOf(app);
    const key = ownerKey(owner);
    const provider = providers.indexOf(app.provider);
    const arrivals = options.arrivals(app, index)[Symbol.iterator]();
    const expectNext = (): void => {
      const { done, value } = arrivals.next();
      if (done) return;
      time.at(value.second * nsPerSecond, () => {
        requestsOf.set(key, (requestsOf.get(key) ?? 0) + 1);
        const { requests } = stretchNow();
        requests[provider] = (requests[provider] ?? 0) + 1;
        front.ask(owner, value.serviceMs * nsPerMs);
        expectNext();
      });
    };
    expectNext();
  }

  let peakInstances = 0;
  for (const stretch of stretches) {
    for (let look = 0; look < looksPerStretch; look += 1) {
      await time.runUntil((stretch.fromSecond + (stretch.seconds * (look + 1)) / looksPerStretch) * nsPerSecond - 1);
      peakInstances = Math.max(peakInstances, machine.instances - machine.frozen);
      stretch.instances += (machine.instances - machine.frozen) / looksPerStretch;
      stretch.frozen += machine.frozen / looksPerStretch;
      stretch.heldBytes += machine.heldBytes / looksPerStretch;
    }
    machine.count();
    stretch.costMicros = costMicros(options, machine, requestsOf, stretch.fromSecond + stretch.seconds);
    options.onProgress?.((stretch.fromSecond + stretch.seconds) / endSecond);
  }
  manager.stop();
  return {
    providers,
    stretches,
    requests: stretches.reduce((sum, { requests }) => sum + requests.reduce((all, count) => all + count, 0), 0),
    refused: stretches.reduce((sum, { refused }) => sum + refused, 0),
    waitsMs: Float64Array.from(stretches.flatMap(({ waitsMs }) => waitsMs)).sort(),
    wakes: [...machine.usage.values()].reduce((sum, { wakes }) => sum + wakes, 0),
    instanceHours: [...machine.usage.values()].reduce((sum, { instanceSeconds }) => sum + instanceSeconds, 0) / 3600,
    frozenHours: [...machine.usage.values()].reduce((sum, { frozenSeconds }) => sum + frozenSeconds, 0) / 3600,
    peakInstances,
    costMicros: stretches.at(-1)?.costMicros ?? 0,
  };
}

const nothingKept = {
  intendKept: async () => undefined,
  dropIntent: async () => undefined,
  saveKept: async () => undefined,
  forgetKept: async () => undefined,
  saveMeterId: async () => undefined,
  forgetMeterId: async () => undefined,
};

function ownerOf(app: SimulatedApp): Owner {
  return { provider: app.provider, scope: defaultScope, app: app.name };
}

/** A release that can serve; with `fixed` so many of it from the first moment on, and none sleeps. */
function releaseOf(app: SimulatedApp, fixed: number | null): ServingRelease {
  const scale = { concurrency: app.concurrency, idleSeconds: app.idleSeconds, min: fixed ?? 0, max: fixed ?? app.max };
  const manifest = manifestSchema.parse({ app: app.name, command: ['serve'], port: 8080, offering: app.offering, scale });
  return {
    order: { owner: ownerOf(app), release: 1, artefactDigest: `sha256:${'0'.repeat(64)}`, manifest, hosts: [`${app.name}.edge.test`], uidSlot: 1, deployId: 'simulated' },
    facts: {
      wakeBy: 'template',
      wakeReason: '',
      staysAwake: fixed === null ? '' : 'its number is fixed',
      snapshotPath: '/simulated/template',
      templateBytes: app.restBytes,
      imageBytes: app.imageBytes,
      coldBootMs: app.coldBootMs,
      restoreMs: app.restoreMs,
    },
  };
}

/** What metering would ask for: usage as it counts it, rated by its table. */
function costMicros(options: DayOptions, machine: Machine, requestsOf: ReadonlyMap<string, number>, seconds: number): number {
  const usages: AppUsage[] = options.apps.map((app) => {
    const key = ownerKey(ownerOf(app));
    const used = machine.usageOf(key);
    const requests = requestsOf.get(key) ?? 0;
    const totals = exactTotals({
      cpuNs: requests * app.cpuMs * nsPerMs,
      memoryByteSeconds: used.memoryByteSeconds,
      bytesIn: 0,
      bytesOut: requests * app.answerBytes,
      requests,
      // One that is never put to sleep is not woken either: its start is its deploy's.
      wakes: options.fixed === null ? used.wakes : 0,
      storageByteSeconds: app.restBytes * seconds,
    });
    return { scope: defaultScope, app: app.name, instances: 0, totals };
  });
  return rate({ provider: 'all', currency: 'EUR', usages }, charges).totalMicros;
}
