import type { Log } from '../host/log.ts';
import type { Clock } from '../kit/clock.ts';
import { heartbeatMessage } from '../kit/wire/edgepoint-state.ts';
import { buckets } from '../kit/wire/subjects.ts';
import { parseMessage } from '../kit/wire/version.ts';
import type { Challenges } from './challenges.ts';
import type { DispatcherState } from './state.ts';

/** What the feed needs of the message cluster; host/bus.ts is one. */
export interface FeedBus {
  watchKv(bucket: string, filter: string, onEntry: (key: string, text: string | null) => void): Promise<{ ready: Promise<void>; stop(): void }>;
  subscribe(subject: string, onMessage: (subject: string, text: string) => void): { stop(): void };
  readonly up: boolean;
  onUp(callback: () => void): void;
}

export interface Feed {
  /** All names and states of edgepoints were told once. */
  readonly ready: Promise<void>;
  /** Since when the bus is up, on the boot clock; null while it is away. */
  readonly busUpSinceNs: number | null;
  stop(): void;
}

/** Carries what the message cluster tells into the state. */
export async function openFeed(bus: FeedBus, into: { state: DispatcherState; challenges: Challenges }, clock: Clock, log: Log): Promise<Feed> {
  const { state, challenges } = into;
  let upSinceNs: number | null = null;
  bus.onUp(() => {
    upSinceNs = clock.bootNs();
  });
  const refused = (bucket: string, key: string, reason: string): void => {
    if (reason !== '') log.warn('an entry of the bus is not used', { bucket, key, reason });
  };
  const heartbeats = bus.subscribe('heartbeat.*.*', (subject, text) => {
    const parsed = parseMessage(heartbeatMessage, text);
    const site = parsed.ok ? `${parsed.value.zone}.${parsed.value.edgepoint}` : '';
    // The server's allow-list binds an edgepoint to its own subject, so the subject says who speaks.
    if (subject === `heartbeat.${site}`) state.beat(site, clock.bootNs());
    else log.warn('a heartbeat is not used', { subject, reason: parsed.ok ? `it speaks of ${site}` : parsed.reason });
  });
  const names = await bus.watchKv(buckets.names, '>', (key, text) => {
    refused(buckets.names, key, state.applyName(key, text, Math.floor(clock.wallMs() / 1000)));
  });
  const states = await bus.watchKv(buckets.state, '>', (key, text) => {
    refused(buckets.state, key, state.applyState(key, text, clock.bootNs()));
  });
  const proofs = await bus.watchKv(buckets.challenges, 'dns.>', (key, text) => {
    refused(buckets.challenges, key, challenges.apply(key, text));
  });
  const ready = Promise.all([
    names.ready.then(() => state.allTold('names')),
    states.ready.then(() => state.allTold('edgepoints')),
  ]).then(() => undefined);
  return {
    ready,
    get busUpSinceNs() {
      if (!bus.up) upSinceNs = null;
      return upSinceNs;
    },
    stop: () => {
      heartbeats.stop();
      names.stop();
      states.stop();
      proofs.stop();
    },
  };
}
