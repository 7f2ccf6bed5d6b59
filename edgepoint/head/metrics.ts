import { openMetrics } from '../../host/metrics.ts';
import type { Metrics } from '../../host/metrics.ts';
import { instanceModes } from '../../kit/wire/edgepoint-state.ts';
import type { Tell } from '../model/happening.ts';

export interface HeadFigures {
  readonly apps: number;
  /** The mode of each instance. */
  readonly instances: readonly string[];
  readonly eventsDropped: number;
}

/** Figures that are looked up only when somebody asks for them. */
export function openHeadMetrics(figures: () => HeadFigures): Metrics {
  const metrics = openMetrics('head');
  const apps = metrics.gauge('edgepoint_apps', 'Apps hosted');
  const instances = metrics.gauge('edgepoint_instances', 'Instances by mode', ['mode']);
  const dropped = metrics.gauge('edgepoint_events_dropped', 'Events that found no place while the bus was away');
  return {
    ...metrics,
    text: () => {
      const now = figures();
      apps.set({}, now.apps);
      dropped.set({}, now.eventsDropped);
      for (const mode of instanceModes) instances.set({ mode }, now.instances.filter((one) => one === mode).length);
      return metrics.text();
    },
  };
}

/** The same teller, which also counts. */
export function countedTell(tell: Tell, metrics: Metrics): Tell {
  const wakeMs = metrics.histogram('edgepoint_wake_ms', 'From the decision to wake an instance to its first place in the route table', ['kind'], [10, 20, 30, 40, 50, 75, 100, 200, 500, 1000, 5000, 30_000]);
  const happened = metrics.counter('edgepoint_happenings_total', 'What happened to apps', ['kind', 'code']);
  return (happening) => {
    happened.inc({ kind: happening.kind, code: happening.code ?? '' });
    if ((happening.kind === 'wake' || happening.kind === 'scale') && happening.tookMs !== undefined) wakeMs.observe({ kind: happening.kind }, happening.tookMs);
    tell(happening);
  };
}
