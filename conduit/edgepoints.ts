import type { Bus } from '../host/bus.ts';
import type { Log } from '../host/log.ts';
import type { Clock } from '../kit/clock.ts';
import { nsPerMs } from '../kit/units.ts';
import { edgepointStateMessage, heartbeatMessage } from '../kit/wire/edgepoint-state.ts';
import { buckets } from '../kit/wire/subjects.ts';
import { parseMessage } from '../kit/wire/version.ts';
import type { SeenEdgepoint } from './describe-app.ts';
import type { EdgepointState } from '../kit/wire/edgepoint-state.ts';

/** What the edgepoints last said of themselves, kept in memory and pushed on by the bus. */
export interface Edgepoints {
  /** By site key. */
  seen(): ReadonlyMap<string, SeenEdgepoint>;
  /** Calls back after each change; returns what stops it. */
  onChange(callback: () => void): () => void;
  stop(): void;
}

/** Heartbeats come every 2 s; three missed and the edgepoint is told as unreachable. */
const heartbeatsMs = 7000;

export async function watchEdgepoints(bus: Bus, clock: Clock, log: Log): Promise<Edgepoints> {
  const states = new Map<string, EdgepointState>();
  const heardMs = new Map<string, number>();
  const callbacks = new Set<() => void>();
  const nowMs = (): number => clock.bootNs() / nsPerMs;
  const tell = (): void => {
    for (const callback of callbacks) callback();
  };
  const watch = await bus.watchKv(buckets.state, '>', (key, text) => {
    if (text === null) states.delete(key);
    else {
      const parsed = parseMessage(edgepointStateMessage, text);
      if (parsed.ok) states.set(key, parsed.value);
      else log.warn('an edgepoint said what is not understood', { key, reason: parsed.reason });
    }
    tell();
  });
  const heartbeats = bus.subscribe('heartbeat.>', (subject, text) => {
    const parsed = parseMessage(heartbeatMessage, text);
    if (!parsed.ok || subject !== `heartbeat.${parsed.value.zone}.${parsed.value.edgepoint}`) return;
    const key = `${parsed.value.zone}.${parsed.value.edgepoint}`;
    const isBack = !isHeard(key);
    heardMs.set(key, nowMs());
    if (isBack) tell();
  });
  const isHeard = (key: string): boolean => nowMs() - (heardMs.get(key) ?? Number.NEGATIVE_INFINITY) < heartbeatsMs;
  return {
    seen: () => new Map([...states].map(([key, state]) => [key, { state, reachable: isHeard(key) }])),
    onChange(callback) {
      callbacks.add(callback);
      return () => callbacks.delete(callback);
    },
    stop() {
      watch.stop();
      heartbeats.stop();
    },
  };
}
