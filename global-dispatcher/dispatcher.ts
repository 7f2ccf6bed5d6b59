import type { Bus } from '../host/bus.ts';
import type { Log } from '../host/log.ts';
import type { Metrics } from '../host/metrics.ts';
import type { Clock } from '../kit/clock.ts';
import { Failure, messageOf } from '../kit/errors.ts';
import { nsPerMs, nsPerSecond } from '../kit/units.ts';
import { parseAddress, unmapped } from './address.ts';
import { readDump, writeDump } from './cache.ts';
import type { Liveness } from './choose.ts';
import { openFeed } from './feed.ts';
import type { Feed } from './feed.ts';
import { openLocationFile } from './geo.ts';
import { defaultRules } from './health.ts';
import { identityOf, userLocationsOf } from './knowledge.ts';
import { respond } from './respond.ts';
import type { Knowledge, Reply } from './respond.ts';
import type { DispatcherSettings } from './settings.ts';
import { inheritedPlace, parsePlace } from './sockets/listen.ts';
import type { Place } from './sockets/listen.ts';
import { openTcp } from './sockets/tcp.ts';
import { openUdp } from './sockets/udp.ts';
import { DispatcherState } from './state.ts';
import { rcodeLabel, typeLabel } from './wire/codes.ts';
import { NameTable } from './zone.ts';

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
const latencyBuckets = [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1];

/** Composes the parts of one dispatcher, and serves until stopped. */
export async function openDispatcher(settings: DispatcherSettings, ports: DispatcherPorts): Promise<Dispatcher> {
  const { clock, log, metrics } = ports;
  if (settings.listen.length + settings.listenFds.length === 0) throw new Failure('bad-setting', 'neither listen nor listenFds is given', { remedy: 'Say where to answer: listen ["192.0.2.1:53"].' });
  const places: Place[] = [...settings.listenFds.map(inheritedPlace), ...settings.listen.map(parsePlace)];
  const identity = identityOf(settings, [...new Set(places.map((place) => place.host))]);
  const rules = { ...defaultRules, intervalNs: settings.heartbeatMs * nsPerMs };
  const state = new DispatcherState(new NameTable(identity), Math.floor(clock.wallMs() / 1000), rules);
  if (settings.cacheFile !== '') loadCache(settings.cacheFile, state, clock, log);
  const knowledge: Knowledge = {
    identity,
    names: state.names,
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

  let feed: Feed | null = null;
  const told = ports.bus.then((bus) => openFeed(bus, state, clock, log)).then((opened) => {
    feed = opened;
    return opened.ready;
  });
  told.then(() => log.info('all names and edgepoints are known', { names: state.names.entries.size, edgepoints: state.sites.length }), (thrown: unknown) => log.error('the bus cannot be followed', { error: thrown }));
  // With a cache file there is something to answer at once; the bus corrects it a moment later.
  if (!state.complete) await Promise.race([told.catch(() => undefined), new Promise((resolve) => setTimeout(resolve, firstToldMs))]);

  const count = counters(metrics);
  let defects = 0;
  const answer = (transport: 'udp' | 'tcp') => (message: Uint8Array, from: string): Uint8Array | null => {
    const beganMs = performance.now();
    const address = parseAddress(from);
    if (address === null) return null;
    try {
      const reply = respond(message, { address: unmapped(address), transport }, knowledge);
      count.reply(reply, transport, (performance.now() - beganMs) / 1000);
      return reply.bytes;
    } catch (thrown) {
      // A defect of ours must cost one query, not the service; nor the disk, so of many only the 1st, 2nd, 4th, 8th ... is told whole.
      count.defect();
      defects += 1;
      if ((defects & (defects - 1)) === 0) log.error('a query could not be answered', { defects, error: thrown, message: Buffer.from(message.subarray(0, 512)).toString('hex') });
      return null;
    }
  };
  const onError = (thrown: unknown): void => {
    count.socketError();
    log.debug('a socket error', { error: messageOf(thrown) });
  };
  const limits = {
    connectionsMax: settings.tcpConnectionsMax,
    connectionsPerClientMax: settings.tcpConnectionsPerClientMax,
    idleMs: settings.tcpIdleMs,
    unsentBytesMax: 128 * 1024,
  };
  const udp = await Promise.all(places.filter((place) => place.kind === 'address' || place.protocol === 'udp').map((place) => openUdp(place, answer('udp'), onError)));
  const tcp = await Promise.all(places.filter((place) => place.kind === 'address' || place.protocol === 'tcp').map((place) => openTcp(place, limits, answer('tcp'), onError)));

  let written = state.revision;
  const writing = setInterval(() => {
    if (settings.cacheFile === '' || !state.complete || written === state.revision) return;
    try {
      writeDump(settings.cacheFile, state.dump(clock.wallMs()));
      written = state.revision;
    } catch (thrown) {
      log.warn('the cache file could not be written', { path: settings.cacheFile, error: messageOf(thrown) });
    }
  }, cacheWriteMs);
  const aliveGauge = metrics.gauge('edgepoint_dispatcher_alive', 'Whether an edgepoint\'s heartbeats arrive (1) or are missing (0).', ['site']);
  const connectionsGauge = metrics.gauge('edgepoint_dispatcher_tcp_connections', 'Open TCP connections.');
  let livenessSaid = new Map<string, Liveness>();
  const ticking = setInterval(() => {
    state.tick(clock.bootNs(), feed?.busUpSinceNs ?? null);
    const now = new Map(state.sites.map((site) => [site, state.livenessOf(site)]));
    for (const [site, liveness] of now) {
      aliveGauge.set({ site }, liveness === 'alive' ? 1 : 0);
      const before = livenessSaid.get(site) ?? 'alive';
      if (before !== liveness) log.warn(liveness === 'silent' ? 'an edgepoint misses its heartbeats and gets no more users' : 'an edgepoint is heard again and gets users', { site });
    }
    livenessSaid = now;
    connectionsGauge.set({}, tcp.reduce((sum, each) => sum + each.connections, 0));
  }, settings.heartbeatMs / 4);

  return {
    addresses: [...udp.map((each) => `udp ${each.address}`), ...tcp.map((each) => `tcp ${each.address}`)],
    check: () => ({
      ok: state.complete,
      detail: {
        names: state.names.entries.size,
        edgepoints: Object.fromEntries(state.sites.map((site) => [site, state.livenessOf(site)])),
        busUpForSeconds: feed === null || feed.busUpSinceNs === null ? null : Math.round((clock.bootNs() - feed.busUpSinceNs) / nsPerSecond),
        listening: [...udp, ...tcp].map((each) => each.address),
      },
    }),
    stop: async () => {
      clearInterval(writing);
      clearInterval(ticking);
      for (const socket of [...udp, ...tcp]) socket.stop();
      feed?.stop();
      await (await ports.bus).close();
    },
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

function counters(metrics: Metrics): { reply(reply: Reply, transport: string, seconds: number): void; defect(): void; socketError(): void } {
  const queries = metrics.counter('edgepoint_dispatcher_queries_total', 'Answered queries by type, rcode and transport.', ['type', 'rcode', 'transport']);
  const ignored = metrics.counter('edgepoint_dispatcher_ignored_total', 'Messages that are no query and got no answer.', ['transport']);
  const chosen = metrics.counter('edgepoint_dispatcher_chosen_total', 'Answers by the edgepoint first in them.', ['site']);
  const latency = metrics.histogram('edgepoint_dispatcher_answer_seconds', 'From a query read to its answer made.', ['transport'], latencyBuckets);
  const defects = metrics.counter('edgepoint_dispatcher_defects_total', 'Queries that a defect kept from an answer; should be 0.');
  const socketErrors = metrics.counter('edgepoint_dispatcher_socket_errors_total', 'Errors of single datagrams and connections.');
  return {
    reply: (reply, transport, seconds) => {
      if (reply.bytes === null) return ignored.inc({ transport });
      queries.inc({ type: typeLabel(reply.type), rcode: rcodeLabel(reply.rcode), transport });
      if (reply.site !== '') chosen.inc({ site: reply.site });
      latency.observe({ transport }, seconds);
    },
    defect: () => defects.inc(),
    socketError: () => socketErrors.inc(),
  };
}
