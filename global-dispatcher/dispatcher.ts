import type { Bus } from '../host/bus.ts';
import type { Log } from '../host/log.ts';
import type { Metrics } from '../host/metrics.ts';
import type { Clock } from '../kit/clock.ts';
import { Failure, messageOf } from '../kit/errors.ts';
import { nsPerMs, nsPerSecond } from '../kit/units.ts';
import { makeAnswering } from './answering.ts';
import { readDump, writeDump } from './cache.ts';
import { Challenges } from './challenges.ts';
import type { Liveness } from './choose.ts';
import { openFeed } from './feed.ts';
import type { Feed } from './feed.ts';
import { openLocationFile } from './geo.ts';
import { defaultRules } from './health.ts';
import { identityOf, userLocationsOf } from './knowledge.ts';
import type { Knowledge } from './respond.ts';
import type { DispatcherSettings } from './settings.ts';
import { inheritedPlace, parsePlace } from './sockets/listen.ts';
import type { Place } from './sockets/listen.ts';
import { openTcp } from './sockets/tcp.ts';
import { openUdp } from './sockets/udp.ts';
import { DispatcherState } from './state.ts';
import { NameTable } from './zone.ts';
import type { ZoneIdentity } from './zone.ts';

export interface Dispatcher {
  readonly addresses: readonly string[];
  check(): { ok: boolean; detail: Record<string, unknown> };
  stop(): Promise<void>;
}

export interface DispatcherPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly bus: Promise<Bus>;
}

/** How long a start with nothing known waits for the bus before it answers; short of the second in which it must answer again. */
const firstToldMs = 300;
const cacheWriteMs = 1000;
/** The file holds everything, so with many apps it is written less often: at most this part of the time goes into it. */
const cacheWriteShare = 0.02;

/** Composes the parts of one dispatcher, and serves until stopped. */
export async function openDispatcher(settings: DispatcherSettings, ports: DispatcherPorts): Promise<Dispatcher> {
  const { clock, log, metrics } = ports;
  const places = placesOf(settings);
  const identity = identityOf(settings, [...new Set(places.map((place) => place.host))]);
  const rules = { ...defaultRules, intervalNs: settings.heartbeatMs * nsPerMs };
  const state = new DispatcherState(new NameTable(identity), Math.floor(clock.wallMs() / 1000), rules);
  if (settings.cacheFile !== '') loadCache(settings.cacheFile, state, clock, log);
  const challenges = new Challenges(identity.apex);
  const knowledge = knowledgeOf(settings, state, identity, challenges);
  const feed = followBus(ports, state, challenges);
  // With a cache file there is something to answer at once; the bus corrects it a moment later.
  if (!state.complete) await Promise.race([feed.told, new Promise((resolve) => setTimeout(resolve, firstToldMs))]);

  const { answer, onError } = makeAnswering(knowledge, metrics, log);
  const sockets = await openSockets(settings, places, answer, onError);
  const keeping = settings.cacheFile === '' ? null : setInterval(keepCache(settings.cacheFile, state, clock, log), cacheWriteMs);
  const watch = livenessWatch(state, metrics, log);
  const connections = metrics.gauge('edgepoint_dispatcher_tcp_connections', 'Open TCP connections.');
  const ticking = setInterval(() => {
    state.tick(clock.bootNs(), feed.busUpSinceNs());
    watch();
    connections.set({}, sockets.connections());
  }, settings.heartbeatMs / 4);

  return {
    addresses: sockets.addresses,
    check: () => {
      const upSinceNs = feed.busUpSinceNs();
      return {
        ok: state.complete,
        detail: {
          names: state.names.entries.size,
          edgepoints: Object.fromEntries(state.sites.map((site) => [site, state.livenessOf(site)])),
          busUpForSeconds: upSinceNs === null ? null : Math.round((clock.bootNs() - upSinceNs) / nsPerSecond),
          listening: sockets.addresses,
        },
      };
    },
    stop: async () => {
      if (keeping !== null) clearInterval(keeping);
      clearInterval(ticking);
      sockets.stop();
      feed.stop();
      await (await ports.bus).close();
    },
  };
}

function placesOf(settings: DispatcherSettings): Place[] {
  const places = [...settings.listenFds.map(inheritedPlace), ...settings.listen.map(parsePlace)];
  if (places.length === 0) throw new Failure('bad-setting', 'neither listen nor listenFds is given', { remedy: 'Say where to answer: listen ["192.0.2.1:53"].' });
  return places;
}

function knowledgeOf(settings: DispatcherSettings, state: DispatcherState, identity: ZoneIdentity, challenges: Challenges): Knowledge {
  return {
    identity,
    names: state.names,
    challenges,
    get serial() {
      return state.serial;
    },
    get complete() {
      return state.complete;
    },
    hostingOf: (entry) => state.hostingOf(entry),
    rows: userLocationsOf(settings.userLocations),
    file: openLocationFile(settings.locationFile),
    answersMax: settings.answersMax,
  };
}

/** Follows the bus as soon as there is one; `told` resolves when all was told, or never will be. */
function followBus(ports: DispatcherPorts, state: DispatcherState, challenges: Challenges): { told: Promise<void>; busUpSinceNs(): number | null; stop(): void } {
  const { bus, clock, log } = ports;
  let feed: Feed | null = null;
  const told = bus
    .then((opened) => openFeed(opened, { state, challenges }, clock, log))
    .then((opened) => {
      feed = opened;
      return opened.ready;
    })
    .then(
      () => log.info('all names and edgepoints are known', { names: state.names.entries.size, edgepoints: state.sites.length }),
      (thrown: unknown) => log.error('the bus cannot be followed', { error: thrown }),
    );
  return { told, busUpSinceNs: () => feed?.busUpSinceNs ?? null, stop: () => feed?.stop() };
}

type AnswerOver = (transport: 'udp' | 'tcp') => (message: Uint8Array, from: string) => Uint8Array | null;

async function openSockets(
  settings: DispatcherSettings,
  places: readonly Place[],
  answer: AnswerOver,
  onError: (thrown: unknown) => void,
): Promise<{ addresses: readonly string[]; connections(): number; stop(): void }> {
  const limits = {
    connectionsMax: settings.tcpConnectionsMax,
    connectionsPerClientMax: settings.tcpConnectionsPerClientMax,
    idleMs: settings.tcpIdleMs,
    unsentBytesMax: 128 * 1024,
  };
  const serves = (place: Place, protocol: 'udp' | 'tcp'): boolean => place.kind === 'address' || place.protocol === protocol;
  const udp = await Promise.all(places.filter((place) => serves(place, 'udp')).map((place) => openUdp(place, answer('udp'), onError)));
  const tcp = await Promise.all(places.filter((place) => serves(place, 'tcp')).map((place) => openTcp(place, limits, answer('tcp'), onError)));
  return {
    addresses: [...udp.map((each) => `udp ${each.address}`), ...tcp.map((each) => `tcp ${each.address}`)],
    connections: () => tcp.reduce((sum, each) => sum + each.connections, 0),
    stop: () => {
      for (const socket of [...udp, ...tcp]) socket.stop();
    },
  };
}

/** Says each change of an edgepoint's liveness once, and keeps its gauge. */
function livenessWatch(state: DispatcherState, metrics: Metrics, log: Log): () => void {
  const gauge = metrics.gauge('edgepoint_dispatcher_alive', 'Whether an edgepoint\'s heartbeats arrive (1) or are missing (0).', ['site']);
  let said = new Map<string, Liveness>();
  return () => {
    const now = new Map(state.sites.map((site) => [site, state.livenessOf(site)]));
    for (const [site, liveness] of now) {
      gauge.set({ site }, liveness === 'alive' ? 1 : 0);
      if ((said.get(site) ?? 'alive') === liveness) continue;
      log.warn(liveness === 'silent' ? 'an edgepoint misses its heartbeats and gets no more users' : 'an edgepoint is heard again and gets users', { site });
    }
    said = now;
  };
}

function loadCache(path: string, state: DispatcherState, clock: Clock, log: Log): void {
  const read = readDump(path);
  if ('dump' in read && read.dump.zoneName !== state.names.apex) {
    log.warn('the cache file is not used', { path, reason: `it is of the zone ${read.dump.zoneName}` });
  } else if ('dump' in read) {
    state.load(read.dump, clock.bootNs(), false);
    log.info('began from the cache file', { path, names: read.dump.names.length, ageSeconds: Math.round((clock.wallMs() - read.dump.wallMs) / 1000) });
  } else if (!read.absent) log.warn('the cache file is not used', { path, reason: read.reason });
}

/** Writes the state when it changed since the last time. */
function keepCache(path: string, state: DispatcherState, clock: Clock, log: Log): () => void {
  let written = state.revision;
  let notBeforeNs = 0;
  return () => {
    const fromNs = clock.bootNs();
    if (!state.complete || written === state.revision || fromNs < notBeforeNs) return;
    try {
      writeDump(path, state.dump(clock.wallMs()));
      written = state.revision;
      notBeforeNs = fromNs + (clock.bootNs() - fromNs) / cacheWriteShare;
    } catch (thrown) {
      log.warn('the cache file could not be written', { path, error: messageOf(thrown) });
    }
  };
}
