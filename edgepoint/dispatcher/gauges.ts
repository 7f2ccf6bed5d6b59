import type { AppState } from './fleet.ts';

/** The part of a metrics registry that is used here. */
export interface MetricsPort {
  counter(name: string, help: string, labels?: string[]): { inc(labels?: Record<string, string>, by?: number): void };
  gauge(name: string, help: string, labels?: string[]): { set(labels: Record<string, string>, value: number): void };
  histogram(name: string, help: string, labels: string[], buckets: number[]): { observe(labels: Record<string, string>, value: number): void };
  text(): Promise<string>;
}

export interface Gauges {
  /** `app` is '' when the request did not say whose it was. */
  answered(app: string, status: number): void;
  held(ms: number, served: boolean): void;
  handshake(outcome: string): void;
  /** The registry's text, with what is counted now. */
  text(now: { clients: number; upstreams: number; tunnels: number; handshakes: number; waiting: number }, apps: Iterable<AppState>): Promise<string>;
}

/** Counts on plain numbers while requests run, and hands them to the registry when somebody looks. */
export function openGauges(metrics: MetricsPort): Gauges {
  const requests = metrics.counter('edgepoint_dispatcher_requests_total', 'Final answers, by application and class of status', ['app', 'class']);
  const heldMs = metrics.histogram('edgepoint_dispatcher_held_ms', 'How long requests were held', ['outcome'], [1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000]);
  const bytes = metrics.gauge('edgepoint_dispatcher_bytes', 'Bytes passed since the start, of the instances in the table', ['app', 'direction']);
  const open = metrics.gauge('edgepoint_dispatcher_connections', 'Open connections', ['kind']);
  const waiting = metrics.gauge('edgepoint_dispatcher_waiting', 'Requests held now');
  const handshakes = metrics.counter('edgepoint_dispatcher_handshakes_total', 'TLS handshakes that are over', ['outcome']);
  const counted = new Map<string, { app: string; class: string; count: number }>();
  return {
    answered: (app, status) => {
      const key = `${app} ${Math.floor(status / 100)}`;
      const entry = counted.get(key) ?? { app, class: `${Math.floor(status / 100)}xx`, count: 0 };
      entry.count += 1;
      counted.set(key, entry);
    },
    held: (ms, served) => heldMs.observe({ outcome: served ? 'served' : 'timeout' }, ms),
    handshake: (outcome) => handshakes.inc({ outcome }),
    text: (now, apps) => {
      for (const entry of counted.values()) requests.inc({ app: entry.app, class: entry.class }, entry.count);
      counted.clear();
      open.set({ kind: 'client' }, now.clients);
      open.set({ kind: 'upstream' }, now.upstreams);
      open.set({ kind: 'tunnel' }, now.tunnels);
      open.set({ kind: 'handshake' }, now.handshakes);
      waiting.set({}, now.waiting);
      for (const app of apps) {
        const all = [...app.instances.values(), ...app.departed.values()];
        bytes.set({ app: app.key, direction: 'in' }, all.reduce((sum, state) => sum + state.bytesIn, 0));
        bytes.set({ app: app.key, direction: 'out' }, all.reduce((sum, state) => sum + state.bytesOut, 0));
      }
      return metrics.text();
    },
  };
}
