import { z } from 'zod';
import { ownerKey, siteKey } from '../kit/ids.ts';
import { PublishedStates } from '../kit/published-states.ts';
import { nameEntryMessage, nameEntrySchema } from '../kit/wire/desired.ts';
import type { NameEntry } from '../kit/wire/desired.ts';
import { appStateSchema, edgepointStateSchema } from '../kit/wire/edgepoint-state.ts';
import type { AppStateEntry } from '../kit/wire/edgepoint-state.ts';
import { defineMessage, parseMessage } from '../kit/wire/version.ts';
import type { Hosting, Liveness } from './choose.ts';
import { defaultRules, firstPulse, onBeat, onTick } from './health.ts';
import type { HealthRules, Pulse } from './health.ts';
import type { NameTable } from './zone.ts';

/** What answers depend on. */
const dumpedEdgepointSchema = edgepointStateSchema.pick({ zone: true, edgepoint: true, ipv4: true, ipv6: true, latitude: true, longitude: true, load: true, capacityBytes: true, accepting: true }).extend({
  /** By `ownerKey`. */
  apps: z.record(z.string(), appStateSchema.pick({ status: true, reason: true, own: true })),
});
type DumpedEdgepoint = z.output<typeof dumpedEdgepointSchema>;

/** The last-known-good state, as the cache file holds it and `explain` replays it. */
export const dumpMessage = defineMessage('dispatcher-state', { major: 2, minor: 0 }, z.object({
  zoneName: z.string(),
  names: z.array(nameEntrySchema),
  edgepoints: z.array(dumpedEdgepointSchema),
  /** Sites whose heartbeats were missing. */
  silent: z.array(z.string()),
  serial: z.int(),
  wallMs: z.number(),
}));
export type Dump = z.output<typeof dumpMessage.schema>;

/** What is kept of an app: thousands of them are ready, and nothing else is to be said of them. */
interface HostedApp {
  readonly epoch: string;
  readonly status: AppStateEntry['status'];
  readonly reason: string;
  readonly own?: AppStateEntry['own'];
}
/** One text for each status, rather than one for each app. */
const statuses = new Map(appStateSchema.shape.status.options.map((status) => [status, status]));

/** Most are as one of the last few: those share what is kept. One with an address of its own is like no other. */
function keepHosted(): (entry: AppStateEntry) => HostedApp {
  const recent: HostedApp[] = [];
  return ({ epoch, status, reason, own }) => {
    if (own !== undefined) return { epoch, status: statuses.get(status) ?? status, reason, own };
    const known = recent.find((one) => one.epoch === epoch && one.status === status && one.reason === reason);
    if (known !== undefined) return known;
    const kept = { epoch, status: statuses.get(status) ?? status, reason };
    recent.unshift(kept);
    recent.length = Math.min(recent.length, recentMax);
    return kept;
  };
}
const recentMax = 16;

/** What the buses and the clock told, in memory. Answers are computed from this alone. */
export class DispatcherState {
  readonly names: NameTable;
  readonly #rules: HealthRules;
  readonly #published = new PublishedStates<HostedApp>(keepHosted());
  readonly #pulses = new Map<string, Pulse>();
  /** Keys that came from the cache file and that the bus has not told yet. */
  #cachedNames = new Set<string>();
  /** Edgepoints out of the cache file, by site: they stand in for what the bus has not told, until it has told all. */
  #cachedEdgepoints = new Map<string, DumpedEdgepoint>();
  #lastTickNs: number | null = null;
  #awakeSinceNs = 0;
  #complete = { names: false, edgepoints: false };
  /** Counts changes that a cache file should hold. */
  revision = 0;
  serial: number;

  constructor(names: NameTable, serial: number, rules: HealthRules = defaultRules) {
    this.names = names;
    this.serial = serial;
    this.#rules = rules;
  }

  /** Whether what is not known is known to be absent: all names and edgepoints were told once, now or by the cache file. */
  get complete(): boolean {
    return this.#complete.names && this.#complete.edgepoints;
  }

  /** Takes an entry of the bucket `names`; the reason when it cannot be used, else empty. An unusable entry leaves the last good one. */
  applyName(key: string, text: string | null, serial: number): string {
    this.#cachedNames.delete(key);
    if (text === null) {
      this.names.delete(key);
      this.#changed(serial);
      return '';
    }
    const parsed = parseMessage(nameEntryMessage, text);
    if (!parsed.ok) return parsed.reason;
    if (ownerKey(parsed.value) !== key) return `the entry speaks of ${ownerKey(parsed.value)}`;
    const refused = this.names.set(parsed.value, key);
    this.#changed(serial);
    return refused.length === 0 ? '' : `not names below this zone's apex: ${refused.join(', ')}`;
  }

  /** Takes an entry of the bucket `state`, as applyName. */
  applyState(key: string, text: string | null, nowNs: number): string {
    const [zone = '', edgepoint = '', ...owner] = key.split('.');
    const site = siteKey({ zone, edgepoint });
    const app = owner.join('.');
    const before = this.#published.app(site, app);
    const refused = this.#published.take(key, text);
    if (refused !== '') return refused;
    if (app !== '') {
      const after = this.#published.app(site, app);
      if (before?.status !== after?.status || before?.reason !== after?.reason || before?.own?.ipv4 !== after?.own?.ipv4 || before?.own?.ipv6 !== after?.own?.ipv6) this.revision += 1;
      return '';
    }
    if (text === null) this.#pulses.delete(site);
    else if (!this.#pulses.has(site)) this.#pulses.set(site, firstPulse(nowNs));
    this.revision += 1;
    return '';
  }

  /** All that the bus holds was told: whatever only the cache file knew is gone. */
  allTold(what: 'names' | 'edgepoints'): void {
    if (what === 'names') {
      for (const key of this.#cachedNames) this.names.delete(key);
      this.#cachedNames = new Set();
    } else {
      for (const site of this.#cachedEdgepoints.keys()) if (this.#published.edgepoint(site) === null) this.#pulses.delete(site);
      this.#cachedEdgepoints = new Map();
    }
    this.#complete = { ...this.#complete, [what]: true };
    this.revision += 1;
  }

  /** A heartbeat of an edgepoint that has a state; others are nobody's business yet, and must not fill memory. */
  beat(site: string, nowNs: number): void {
    const pulse = this.#pulses.get(site);
    if (pulse !== undefined) this.#setPulse(site, pulse, onBeat(pulse, nowNs, this.#rules));
  }

  /** Call at least once an interval. A late call means that this process stood still, and beats wait unread: everybody gets three intervals anew. */
  tick(nowNs: number, busUpSinceNs: number | null): void {
    if (nowNs - (this.#lastTickNs ?? nowNs) > this.#rules.intervalNs * 1.5) this.#awakeSinceNs = nowNs;
    this.#lastTickNs = nowNs;
    const heardSinceNs = busUpSinceNs === null ? null : Math.max(busUpSinceNs, this.#awakeSinceNs);
    for (const [site, pulse] of this.#pulses) this.#setPulse(site, pulse, onTick(pulse, nowNs, heardSinceNs, this.#rules));
  }

  #setPulse(site: string, before: Pulse, after: Pulse): void {
    this.#pulses.set(site, after);
    if (after.liveness !== before.liveness) this.revision += 1;
  }

  livenessOf(site: string): Liveness {
    return this.#pulses.get(site)?.liveness ?? 'silent';
  }

  get sites(): string[] {
    return [...new Set([...this.#cachedEdgepoints.keys(), ...this.#published.sites()])];
  }

  hostingOf(entry: NameEntry): Hosting[] {
    const owner = ownerKey(entry);
    return entry.sites.map((site) => {
      const cached = this.#cachedEdgepoints.get(site);
      return {
        site,
        state: this.#published.edgepoint(site) ?? cached ?? null,
        app: this.#published.app(site, owner) ?? cached?.apps[owner] ?? null,
        liveness: this.livenessOf(site),
      };
    });
  }

  dump(wallMs: number): Dump {
    return {
      zoneName: this.names.apex,
      names: [...this.names.entries.values()],
      edgepoints: this.sites.map((site) => this.#dumpEdgepoint(site)),
      silent: this.sites.filter((site) => this.livenessOf(site) === 'silent'),
      serial: this.serial,
      wallMs,
    };
  }

  #dumpEdgepoint(site: string): DumpedEdgepoint {
    const cached = this.#cachedEdgepoints.get(site);
    const state = this.#published.edgepoint(site) ?? cached;
    if (state === undefined) throw new Error(`broken invariant: nothing is known of the edgepoint ${site}`);
    const { zone, edgepoint, ipv4, ipv6, latitude, longitude, load, capacityBytes, accepting } = state;
    const apps = { ...cached?.apps };
    for (const [owner, { status, reason, own }] of this.#published.apps(site)) apps[owner] = { status, reason, ...(own === undefined ? {} : { own }) };
    return { zone, edgepoint, ipv4, ipv6, latitude, longitude, load, capacityBytes, accepting, apps };
  }

  /** Begins from a dump. With `replay` the silent stay silent; at a start everybody has three intervals to be heard. */
  load(dump: Dump, nowNs: number, replay: boolean): void {
    for (const entry of dump.names) {
      this.names.set(entry);
      this.#cachedNames.add(ownerKey(entry));
    }
    for (const state of dump.edgepoints) {
      const site = siteKey(state);
      this.#cachedEdgepoints.set(site, state);
      const silent = replay && dump.silent.includes(site);
      this.#pulses.set(site, silent ? { ...firstPulse(nowNs), liveness: 'silent', silences: 1 } : firstPulse(nowNs));
    }
    this.#complete = { names: true, edgepoints: true };
    this.serial = dump.serial;
  }

  #changed(serial: number): void {
    // RFC 1982: a serial only grows.
    this.serial = Math.max(this.serial + 1, serial) >>> 0;
    this.revision += 1;
  }
}
