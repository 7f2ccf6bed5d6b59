import { z } from 'zod';
import { ownerKey } from '../kit/ids.ts';
import { nameEntryMessage, nameEntrySchema } from '../kit/wire/desired.ts';
import type { NameEntry } from '../kit/wire/desired.ts';
import { edgepointStateMessage, edgepointStateSchema } from '../kit/wire/edgepoint-state.ts';
import type { EdgepointState } from '../kit/wire/edgepoint-state.ts';
import { defineMessage, parseMessage } from '../kit/wire/version.ts';
import type { Hosting, Liveness } from './choose.ts';
import { defaultRules, firstPulse, onBeat, onTick } from './health.ts';
import type { HealthRules, Pulse } from './health.ts';
import type { NameTable } from './zone.ts';

/** The last-known-good state, as the cache file holds it and `explain` replays it. */
export const dumpMessage = defineMessage('dispatcher-state', { major: 1, minor: 0 }, z.object({
  zoneName: z.string(),
  names: z.array(nameEntrySchema),
  edgepoints: z.array(edgepointStateSchema),
  /** Sites whose heartbeats were missing. */
  silent: z.array(z.string()),
  serial: z.int(),
  wallMs: z.number(),
}));
export type Dump = z.output<typeof dumpMessage.schema>;

/** What the buses and the clock told, in memory. Answers are computed from this alone. */
export class DispatcherState {
  readonly names: NameTable;
  readonly #rules: HealthRules;
  readonly #edgepoints = new Map<string, EdgepointState>();
  readonly #pulses = new Map<string, Pulse>();
  /** Keys that came from the cache file and that the bus has not told yet. */
  #cachedNames = new Set<string>();
  #cachedEdgepoints = new Set<string>();
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
    const refused = this.names.set(parsed.value);
    this.#changed(serial);
    return refused.length === 0 ? '' : `not names below this zone's apex: ${refused.join(', ')}`;
  }

  /** Takes an entry of the bucket `state`, as applyName. */
  applyEdgepoint(key: string, text: string | null, nowNs: number): string {
    this.#cachedEdgepoints.delete(key);
    if (text === null) {
      this.#edgepoints.delete(key);
      this.#pulses.delete(key);
      this.revision += 1;
      return '';
    }
    const parsed = parseMessage(edgepointStateMessage, text);
    if (!parsed.ok) return parsed.reason;
    if (`${parsed.value.zone}.${parsed.value.edgepoint}` !== key) return `the entry speaks of ${parsed.value.zone}.${parsed.value.edgepoint}`;
    this.#edgepoints.set(key, parsed.value);
    if (!this.#pulses.has(key)) this.#pulses.set(key, firstPulse(nowNs));
    this.revision += 1;
    return '';
  }

  /** All that the bus holds was told: whatever only the cache file knew is gone. */
  allTold(what: 'names' | 'edgepoints'): void {
    if (what === 'names') for (const key of this.#cachedNames) this.names.delete(key);
    else for (const key of this.#cachedEdgepoints) this.#edgepoints.delete(key);
    if (what === 'names') this.#cachedNames = new Set();
    else this.#cachedEdgepoints = new Set();
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
    return [...this.#edgepoints.keys()];
  }

  hostingOf(entry: NameEntry): Hosting[] {
    return entry.sites.map((site) => ({ site, state: this.#edgepoints.get(site) ?? null, liveness: this.livenessOf(site) }));
  }

  dump(wallMs: number): Dump {
    return {
      zoneName: this.names.apex,
      names: [...this.names.entries.values()],
      edgepoints: [...this.#edgepoints.values()],
      silent: this.sites.filter((site) => this.livenessOf(site) === 'silent'),
      serial: this.serial,
      wallMs,
    };
  }

  /** Begins from a dump. With `replay` the silent stay silent; at a start everybody has three intervals to be heard. */
  load(dump: Dump, nowNs: number, replay: boolean): void {
    for (const entry of dump.names) {
      this.names.set(entry);
      this.#cachedNames.add(ownerKey(entry));
    }
    for (const state of dump.edgepoints) {
      const site = `${state.zone}.${state.edgepoint}`;
      this.#edgepoints.set(site, state);
      this.#cachedEdgepoints.add(site);
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
