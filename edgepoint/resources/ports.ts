import type { Clock } from '../../kit/clock.ts';
import type { Owner } from '../../kit/ids.ts';
import type { InstanceWatch, KeptInstance, Purpose, ReleaseFacts, ReleaseOrder, ServingRelease } from '../model/app.ts';
import type { RestoredCalls, Route, SnapdCalls } from '../model/calls.ts';
import type { Tell } from '../model/happening.ts';
import type { DataPaths } from '../model/paths.ts';
import type { Probe } from '../model/probe.ts';

/** What the resource manager acts through. The composition hands it in; the tests hand in others. */
export interface ResourcePorts {
  readonly clock: Clock;
  readonly restored: RestoredCalls;
  readonly snapd: SnapdCalls;
  readonly dispatcher: DispatcherPort;
  readonly probe: Probe;
  readonly records: KeptRecords;
  readonly watch: InstanceWatch;
  readonly tell: Tell;
  readonly paths: DataPaths;
  newInstanceId(purpose: Purpose): string;
  /** Calls back once at or after that boot time; the returned function forgets it. */
  wakeAt(bootNs: number, callback: () => void): () => void;
  /** What the published state shows of an app may have changed; null when only what it shows of the edgepoint itself. */
  stateChanged(app: string | null): void;
  /** The template of a release that serves cannot be used: another is to be made. */
  remake(order: ReleaseOrder): void;
  /**
   * Fetches a template that lies in the object store only; what is known of the release then. Rejects with `template-away` when it does
   * not come in time, and with `template-lost` when it is of no use any more.
   */
  recall(serving: ServingRelease): Promise<ReleaseFacts>;
  /** A sentence for whoever runs the edgepoint. */
  warn(text: string, fields: Record<string, unknown>): void;
}

/** The local dispatcher, which may be away: `route` is then lost, for a new dispatcher is told the whole table. */
export interface DispatcherPort {
  route(route: Route): void;
  removeRoute(owner: Owner): void;
  /** False when something is still under way, or there is no dispatcher to say that nothing is. */
  drain(order: { instance: string; park: boolean; timeoutMs: number }): Promise<boolean>;
  /** Never rejects: a dispatcher that has gone has no parked connections either. */
  unpark(instance: string): Promise<void>;
}

/** What must outlive the head about kept instances. Each call is durable when it returns. */
export interface KeptRecords {
  /** Before a snapshot begins: should the head die after it, the snapshot that is complete counts. */
  intendKept(owner: Owner, next: KeptInstance): Promise<void>;
  /** The snapshot failed, and the instance runs on. */
  dropIntent(owner: Owner): Promise<void>;
  saveKept(owner: Owner, kept: KeptInstance): Promise<void>;
  forgetKept(owner: Owner): Promise<void>;
  /** The name under which this run of an instance is metered. */
  saveMeterId(instance: string, meterId: string): Promise<void>;
  forgetMeterId(instance: string): Promise<void>;
}
