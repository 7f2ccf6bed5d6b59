import type { Clock } from '../../kit/clock.ts';
import type { PlanNote } from '../resources/plan-notes.ts';
import type { ResourceManager } from '../resources/run.ts';
import type { EdgepointView } from '../resources/plan/view.ts';
import { templateAt, viewEdgepoint } from '../resources/views.ts';
import { describeApp, loadOf } from '../resources/describe.ts';
import type { AppState } from '../../kit/wire/edgepoint-state.ts';

/** What `edgepoint explain` gets and what `--dump` writes: the planner's whole input, and what it said lately. */
export interface Dump {
  readonly form: 'edgepoint-dump-1';
  readonly view: EdgepointView;
  readonly plans: Readonly<Record<string, readonly PlanNote[]>>;
  /** Where the templates of apps lie; missing in earlier dumps. */
  readonly templates?: Readonly<Record<string, AppState['templateAt']>>;
}

export interface Status {
  readonly apps: readonly AppState[];
  readonly load: number;
}

/** What people may ask the head over its socket. */
export function answersOf(manager: ResourceManager, clock: Clock): { dump(): Dump; status(): Status } {
  return {
    dump: (): Dump => {
      return { form: 'edgepoint-dump-1', view: viewEdgepoint(manager.state, clock.bootNs()), plans: manager.lastPlans(), templates: Object.fromEntries([...manager.state.apps.values()].map((app) => [app.key, templateAt(app, manager.state.stored)])) };
    },
    status: (): Status => {
      return { apps: [...manager.state.apps.values()].map((app) => describeApp(app, manager.state.stored, clock.bootNs())), load: loadOf(manager.state) };
    },
  };
}
