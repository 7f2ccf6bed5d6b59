import type { Bus } from '../host/bus.ts';
import type { Log } from '../host/log.ts';
import { PackedTexts } from '../host/packed-texts.ts';
import type { Clock } from '../kit/clock.ts';
import { ownerKey } from '../kit/ids.ts';
import { PublishedStates } from '../kit/published-states.ts';
import type { KeptEntry } from '../kit/published-states.ts';
import { nsPerMs } from '../kit/units.ts';
import { heartbeatMessage } from '../kit/wire/edgepoint-state.ts';
import type { AppStateEntry } from '../kit/wire/edgepoint-state.ts';
import { buckets } from '../kit/wire/subjects.ts';
import { parseMessage } from '../kit/wire/version.ts';
import type { SeenEdgepoint } from './describe-app.ts';

/** What the edgepoints last said of themselves, kept in memory and pushed on by the bus. */
export interface Edgepoints {
  /** By site key. */
  seen(): ReadonlyMap<string, SeenEdgepoint>;
  /**
   * The first answer of `choose` that is not null. A conduit that has just begun has not heard its edgepoints yet, nor has one to which the bus has
   * just come back: it then waits for their first heartbeats before it gives up.
   */
  chooseOnceHeard<T>(choose: (seen: ReadonlyMap<string, SeenEdgepoint>) => T | null | Promise<T | null>): Promise<T | null>;
  /** Calls back when an edgepoint tells another key than before, for which secrets are wrapped. */
  onNewKey(callback: () => void): void;
  /** Calls back after each change; returns what stops it. */
  onChange(callback: () => void): () => void;
  stop(): void;
}

/** An app's entry: thousands are kept, and few are looked at. */
interface PackedEntry extends KeptEntry {
  readonly packed: string;
}

/** Heartbeats come every 2 s; three missed and the edgepoint is told as unreachable. */
const heartbeatsMs = 7000;
/** After so long whoever lives has been heard. */
const firstHeartbeatMs = 3000;

export async function watchEdgepoints(bus: Bus, clock: Clock, log: Log): Promise<Edgepoints> {
  const texts = new PackedTexts();
  const states = new PublishedStates<PackedEntry>((entry) => ({ epoch: entry.epoch, packed: texts.pack(JSON.stringify(entry)) }));
  const appOf = (site: string, owner: string): AppStateEntry | null => {
    const kept = states.app(site, owner);
    return kept === null ? null : (JSON.parse(texts.unpack(kept.packed)) as AppStateEntry);
  };
  const heardMs = new Map<string, number>();
  /** For each edgepoint, what tells when it has been silent for too long. */
  const silences = new Map<string, NodeJS.Timeout>();
  const callbacks = new Set<() => void>();
  const nowMs = (): number => clock.bootNs() / nsPerMs;
  const tell = (): void => {
    for (const callback of callbacks) callback();
  };
  const keyCallbacks: (() => void)[] = [];
  const watch = await bus.watchKv(buckets.state, '>', (key, text) => {
    const opened = states.edgepoint(key)?.opens ?? '';
    const refused = states.take(key, text);
    if (opened !== '' && opened !== (states.edgepoint(key)?.opens ?? opened)) for (const callback of keyCallbacks) callback();
    if (refused !== '') log.warn('an edgepoint said what is not understood', { key, reason: refused });
    tell();
  });
  const heartbeats = bus.subscribe('heartbeat.>', (subject, text) => {
    const parsed = parseMessage(heartbeatMessage, text);
    if (!parsed.ok || subject !== `heartbeat.${parsed.value.zone}.${parsed.value.edgepoint}`) return;
    const key = `${parsed.value.zone}.${parsed.value.edgepoint}`;
    const isBack = !isHeard(key);
    heardMs.set(key, nowMs());
    clearTimeout(silences.get(key));
    silences.set(key, setTimeout(tell, heartbeatsMs + 1));
    if (isBack) tell();
  });
  const isHeard = (key: string): boolean => nowMs() - (heardMs.get(key) ?? Number.NEGATIVE_INFINITY) < heartbeatsMs;
  let listensSinceMs = nowMs();
  bus.onUp(() => (listensSinceMs = nowMs()));
  const seenNow = (): ReadonlyMap<string, SeenEdgepoint> => {
    const seen = new Map<string, SeenEdgepoint>();
    for (const site of states.sites()) {
      const state = states.edgepoint(site);
      if (state !== null) seen.set(site, { state, reachable: isHeard(site), app: (owner) => appOf(site, ownerKey(owner)) });
    }
    return seen;
  };
  /** Resolves at the next change, or when `ms` have passed. */
  const nextChange = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        callbacks.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      callbacks.add(done);
    });
  return {
    seen: seenNow,
    async chooseOnceHeard(choose) {
      for (;;) {
        const chosen = await choose(seenNow());
        const leftMs = listensSinceMs + firstHeartbeatMs - nowMs();
        if (chosen !== null || leftMs <= 0) return chosen;
        await nextChange(leftMs);
      }
    },
    onNewKey: (callback) => void keyCallbacks.push(callback),
    onChange(callback) {
      callbacks.add(callback);
      return () => callbacks.delete(callback);
    },
    stop() {
      watch.stop();
      heartbeats.stop();
      for (const silence of silences.values()) clearTimeout(silence);
    },
  };
}

/** Site keys of those that can be reached. */
export const reachableOf = (seen: ReadonlyMap<string, SeenEdgepoint>): ReadonlySet<string> => new Set([...seen].flatMap(([site, { reachable }]) => (reachable ? [site] : [])));

/** Calls back when another set of edgepoints can be reached than before. */
export function whenReachableChanges(edgepoints: Pick<Edgepoints, 'seen' | 'onChange'>, callback: () => void): void {
  let before = '';
  edgepoints.onChange(() => {
    const now = [...reachableOf(edgepoints.seen())].toSorted().join(' ');
    if (now === before) return;
    before = now;
    callback();
  });
}
