import type { Bus } from '../../host/bus.ts';
import type { Clock } from '../../kit/clock.ts';
import type { Site } from '../../kit/ids.ts';
import { appStateMessage, edgepointStateMessage } from '../../kit/wire/edgepoint-state.ts';
import { appStateKey, buckets, stateKey } from '../../kit/wire/subjects.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import type { Cron } from '../cron/run.ts';
import { describeApp, describeEdgepoint } from '../resources/describe.ts';
import type { EdgepointFacts } from '../resources/describe.ts';
import type { EdgepointEntry } from '../resources/state.ts';
import { openStatePublisher } from './state-publisher.ts';
import type { StatePublisher } from './state-publisher.ts';

/** What the edgepoint and its apps are, on the bus: as they are at the moment when an entry is put. */
export function publishState(of: {
  readonly bus: Pick<Bus, 'putKv' | 'deleteKv' | 'placeOfKv'>;
  readonly site: Site;
  readonly clock: Clock;
  readonly state: () => EdgepointEntry;
  readonly facts: () => Omit<EdgepointFacts, 'bootId'>;
  readonly cron: () => Cron;
  readonly newEpoch: () => string;
  readonly wakeIn: (ms: number, callback: () => void) => () => void;
  readonly onFault: (failure: unknown) => void;
}): StatePublisher {
  const { bus, site, clock, newEpoch, wakeIn, onFault } = of;
  const keyOf = (app: string | null): string => (app === null ? stateKey(site) : appStateKey(site, app));
  return openStatePublisher({
    apps: () => of.state().apps.keys(),
    describeApp: (key, epoch) => {
      const state = of.state();
      const app = state.apps.get(key);
      if (app === undefined) return null;
      const tasks = of.cron().describe(key);
      return encodeMessage(appStateMessage, { ...describeApp(app, state.stored, clock.bootNs()), ...(tasks === null ? {} : { cron: tasks }), epoch });
    },
    describeSelf: (epoch, complete) => encodeMessage(edgepointStateMessage, { ...describeEdgepoint(of.state(), { ...of.facts(), bootId: clock.bootId }), epoch, complete }),
    put: (app, text) => (text === null ? bus.deleteKv(buckets.state, keyOf(app)) : bus.putKv(buckets.state, keyOf(app), text)),
    placeOf: (app) => bus.placeOfKv(buckets.state, keyOf(app)),
    newEpoch,
    wakeIn,
    onFault,
  });
}
