import type { Purpose, WakeBy } from '../../model/app.ts';
import type { FrozenRoom } from '../../model/frozen.ts';
import type { InstanceMode } from '../../model/instance.ts';

/**
 * What the planner sees: plain values that survive a trip through JSON, so that `edgepoint explain` can replay a dumped state
 * and come to the same plan. Times are of the boot clock.
 */
export interface InstanceView {
  readonly id: string;
  readonly release: number;
  readonly mode: InstanceMode;
  readonly purpose: Purpose;
  readonly sinceBootNs: number;
  readonly outstanding: number;
  readonly tunnels: number;
  readonly lastActiveBootNs: number;
  readonly memoryBytes: number;
  /** It drains in order to be frozen. */
  readonly freezing: boolean;
  /** It could not be frozen. */
  readonly cannotFreeze: boolean;
}

/** What the planner needs to know of the release that serves. */
export interface ServingView {
  readonly release: number;
  readonly wakeBy: WakeBy;
  readonly state: 'template' | 'keep';
  /** One instance at a time: it keeps its state, or writes a volume that is not shareable. */
  readonly alone: boolean;
  readonly min: number;
  readonly max: number;
  readonly concurrency: number;
  readonly idleNs: number;
  readonly memoryBytes: number;
  /** Measured, by its restore or its cold boot; null when nobody has. */
  readonly wakeMs: number | null;
  /** Of the image that it is woken from; 0 when there is none. */
  readonly imageBytes: number;
  /** Why it is never put to sleep; empty when it may be. */
  readonly staysAwake: string;
  /** The edgepoint is drained: what is unused goes to sleep, whatever the manifest would have; missing in earlier dumps. */
  readonly leaves?: boolean;
}

export interface AppView {
  /** provider.scope.app */
  readonly app: string;
  readonly serving: ServingView | null;
  /** Requests the dispatcher holds. */
  readonly waiting: number;
  /** Since when some have been held without a break; null when there are none. */
  readonly waitingSinceBootNs: number | null;
  /** Why nothing of it may run just now (a new release prepares on its volume); empty when it may. */
  readonly paused: string;
  /** While it is paused: from then on what is under way is not waited for; missing: it always is. */
  readonly leaveByBootNs?: number;
  /** Since when there are more instances than the load wants; null when there are not. */
  readonly surplusSinceBootNs: number | null;
  /** After failures: no start before then, and why. */
  readonly notBeforeBootNs: number;
  readonly notBeforeReason: string;
  /** After a sleep that failed: no other try before then. */
  readonly noSleepBeforeBootNs: number;
  /** How long it was unused before it was wanted again, when that was longer than its idle time; the newest last. */
  readonly gapsNs: readonly number[];
  readonly instances: readonly InstanceView[];
}

/** Memory of the edgepoint, as the planner counts it: an instance that runs or is about to holds what its offering promises. */
export interface RoomView {
  readonly capacityBytes: number;
  readonly usedBytes: number;
  /** Part of usedBytes that is on its way out: instances being put to sleep. */
  readonly leavingBytes: number;
  readonly frozenRoom: FrozenRoom;
  /** Instances that could be put to sleep in favour of others. */
  readonly idle: readonly IdleView[];
}

export interface IdleView {
  readonly app: string;
  readonly id: string;
  readonly memoryBytes: number;
  readonly lastActiveBootNs: number;
  readonly frozen: boolean;
}

export interface EdgepointView {
  readonly nowBootNs: number;
  readonly capacityBytes: number;
  readonly frozenRoom: FrozenRoom;
  readonly apps: readonly AppView[];
}

/** One thing to do, with its reason. A plan leaves no choice open to whoever executes it. */
export type Step =
  | { readonly kind: 'wake'; readonly app: string; readonly module: string; readonly by: WakeBy; readonly reason: string }
  | { readonly kind: 'freeze'; readonly app: string; readonly instance: string; readonly reason: string }
  | { readonly kind: 'thaw'; readonly app: string; readonly instance: string; readonly reason: string }
  /** `regardless`: what is under way is waited for no longer. */
  | { readonly kind: 'sleep'; readonly app: string; readonly instance: string; readonly reason: string; readonly regardless?: true }
  | { readonly kind: 'end'; readonly app: string; readonly instance: string; readonly reason: string }
  | { readonly kind: 'refuse'; readonly app: string; readonly untilBootNs: number; readonly reason: string };

export interface Plan {
  readonly steps: readonly Step[];
  /** Why nothing (more) is done, for `explain`. */
  readonly notes: readonly string[];
  /** When to look again although nothing changes; null: only when something changes. */
  readonly lookAgainBootNs: number | null;
  /** It wanted memory that was not there: to be looked at again when some comes free, or somebody becomes unused. */
  readonly wantsRoom?: boolean;
}

/** Modes in which an instance holds memory. */
const holdingModes: ReadonlySet<InstanceMode> = new Set(['booting', 'restoring', 'warm', 'frozen', 'draining']);
/** Modes on the way to warm. */
const comingModes: ReadonlySet<InstanceMode> = new Set(['cold', 'booting', 'restoring']);

export function holdsMemory(mode: InstanceMode): boolean {
  return holdingModes.has(mode);
}

export function isComing(mode: InstanceMode): boolean {
  return comingModes.has(mode);
}

export function earliest(one: number | null, other: number | null): number | null {
  if (one === null) return other;
  return other === null ? one : Math.min(one, other);
}
