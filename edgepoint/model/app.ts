import type { Owner } from '../../kit/ids.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import type { WrappedSecrets } from '../../kit/wire/secrets.ts';
import type { Capped } from '../../kit/wire/spending.ts';
import type { KernelCounters, RunningInstance } from './calls.ts';

/** How a sleeping app is woken: from its release's template, from its own last snapshot, or by a cold boot. */
export type WakeBy = 'template' | 'keep' | 'cold';

/** What is needed to host one release of an app: the wish of the conduit, without what only the deploy cares for. */
export interface ReleaseOrder {
  readonly owner: Owner;
  readonly release: number;
  /** `sha256:` and 64 hexadecimal digits. */
  readonly artefactDigest: string;
  readonly manifest: Manifest;
  readonly hosts: readonly string[];
  readonly uidSlot: number;
  readonly deployId: string;
  /** `<zone>.<edgepoint>` of each edgepoint that hosts it; missing in what was stored before it was told. */
  readonly sites?: readonly string[];
  /** `<zone>.<edgepoint>` of the one that makes the requests of the manifest's `cron`; missing, or empty, when there is none. */
  readonly cronSite?: string;
  /** Missing when it has none. */
  readonly secrets?: WrappedSecrets;
  /** Of a canary: the part of the app's requests that it gets, 1 to 99; missing for an app itself. */
  readonly canaryPercent?: number;
  /** Missing when no spending cap applies to it. */
  readonly capped?: Capped;
}

/** What preparing a release has shown about it. */
export interface ReleaseFacts {
  readonly wakeBy: WakeBy;
  /** Why it is woken by a cold boot, in words for the provider; empty otherwise. */
  readonly wakeReason: string;
  /** Why it is never put to sleep, in words for the provider; empty when it sleeps. */
  readonly staysAwake: string;
  /** Folder of the template; empty when there is none. */
  readonly snapshotPath: string;
  /** At rest. */
  readonly templateBytes: number;
  /** `SnapshotTaken.imageBytes`; absent in facts of earlier versions, whose templates were at rest as they were in memory. */
  readonly imageBytes?: number;
  /** The template has left the disk and lies in the object store only; missing when it has not. */
  readonly offDisk?: true;
  readonly coldBootMs: number | null;
  readonly restoreMs: number | null;
}

/** A release that can serve. */
export interface ServingRelease {
  readonly order: ReleaseOrder;
  readonly facts: ReleaseFacts;
}

/** The one instance of a `keep` app while it sleeps. */
export interface KeptInstance {
  readonly instance: string;
  readonly release: number;
  /** The address it sleeps with and wakes to, so that its connections live on. */
  readonly address: string;
  /** Counts up at each sleep; names the folder of the snapshot. */
  readonly sequence: number;
  readonly snapshotPath: string;
  readonly bytes: number;
  /** As in `ReleaseFacts`. */
  readonly imageBytes?: number;
}

/** What an instance was started for; only those that `serve` get requests and are scaled. */
export type Purpose = 'serve' | 'prepare' | 'trial' | 'run';

/** The first letter of an instance's id says its purpose, so that a restarted head knows it from restored's list alone. */
export const idPrefixes: Readonly<Record<Purpose, string>> = { serve: 'i', prepare: 'p', trial: 't', run: 'r' };

export function purposeOfId(instance: string): Purpose {
  if (instance.startsWith('p-')) return 'prepare';
  if (instance.startsWith('r-')) return 'run';
  return instance.startsWith('t-') ? 'trial' : 'serve';
}

/** What the perf monitor is told of instances: it samples only what runs. `running.instance` is its name, `meterId` its run's. */
export interface InstanceWatch {
  /** `logFrom`: where in its log to begin; what it wrote before has been told. */
  started(running: RunningInstance, meterId: string, logFrom: number | 'end'): void;
  /** `counters` null: restored knew no such instance any more. */
  ended(about: { instance: string; meterId: string }, counters: KernelCounters | null): void;
}
