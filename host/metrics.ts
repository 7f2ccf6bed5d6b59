import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

/** What a daemon counts, in Prometheus' text format. A name asked for twice is the same metric. */
export interface Metrics {
  counter(name: string, help: string, labels?: string[]): { inc(labels?: Record<string, string>, by?: number): void };
  gauge(name: string, help: string, labels?: string[]): { set(labels: Record<string, string>, value: number): void };
  histogram(name: string, help: string, labels: string[], buckets: number[]): { observe(labels: Record<string, string>, value: number): void };
  text(): Promise<string>;
}

/** Every metric carries the label `daemon`. */
export function openMetrics(daemon: string): Metrics {
  const registry = new Registry();
  registry.setDefaultLabels({ daemon });
  collectProcess(registry);
  const once = <M>(name: string, make: () => M): M => (registry.getSingleMetric(name) as M | undefined) ?? make();
  return {
    counter: (name, help, labels = []) => {
      const metric = once(name, () => new Counter({ name, help, labelNames: labels, registers: [registry] }));
      return { inc: (values = {}, by = 1) => metric.inc(values, by) };
    },
    gauge: (name, help, labels = []) => {
      const metric = once(name, () => new Gauge({ name, help, labelNames: labels, registers: [registry] }));
      return { set: (values, value) => metric.set(values, value) };
    },
    histogram: (name, help, labels, buckets) => {
      const metric = once(name, () => new Histogram({ name, help, labelNames: labels, buckets, registers: [registry] }));
      return { observe: (values, value) => metric.observe(values, value) };
    },
    text: () => registry.metrics(),
  };
}

/** On Bun the library's own process metrics ask for what the runtime lacks, so there only what it has is told. */
function collectProcess(registry: Registry): void {
  if (!('Bun' in globalThis)) return collectDefaultMetrics({ register: registry });
  const gauge = (name: string, help: string, read: () => number): void => {
    const metric: Gauge = new Gauge({ name, help, registers: [registry], collect: (): void => metric.set(read()) });
  };
  gauge('process_resident_memory_bytes', 'Resident memory size in bytes.', () => process.memoryUsage.rss());
  gauge('process_cpu_seconds_total', 'User and system CPU time spent in seconds.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  gauge('process_start_time_seconds', 'Start time of the process since the epoch in seconds.', () => Math.round(Date.now() / 1000 - process.uptime()));
}
