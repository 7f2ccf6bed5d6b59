import type { Clock } from '../../kit/clock.ts';
import type { Owner } from '../../kit/ids.ts';
import type { ReleaseFacts, ReleaseOrder, ServingRelease } from '../model/app.ts';
import type { CgroupPaths, ImageCalls, SnapdCalls } from '../model/calls.ts';
import type { Tell } from '../model/happening.ts';
import type { DataPaths } from '../model/paths.ts';
import type { Probe, ProbeOutcome } from '../model/probe.ts';
import type { OpenArtefact } from './artefact.ts';
import type { Failure } from '../../kit/errors.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';

/** An instance that runs for a preparation, not for end users. */
export interface PreparedInstance {
  readonly instance: string;
  readonly address: string;
  readonly logPath: string;
  /** Aborted when it ends by itself. */
  readonly gone: AbortSignal;
  /** Where the milliseconds of its start went. */
  readonly stepsMs: Readonly<Record<string, number>>;
  readonly cgroup: CgroupPaths;
  /** Ends it; repeatable, never rejects. */
  end(): Promise<void>;
}

/** What a deploy acts through; handed in by the composition. */
export interface DeployPorts {
  readonly clock: Clock;
  readonly paths: DataPaths;
  readonly openArtefact: OpenArtefact;
  /** Missing: no image can be brought. */
  readonly images?: ImagePorts;
  readonly snapd: SnapdCalls;
  readonly probe: Probe;
  readonly tell: Tell;
  readonly records: ReleaseRecords;
  readonly serving: ServingPort;
  /** What an unsuccessful probe means; null when it succeeded. */
  judgeProbe(outcome: ProbeOutcome, manifest: Manifest): Failure | null;
  /** Waits for memory (Failure `edgepoint-full` when none comes free), then boots. */
  boot(order: ReleaseOrder): Promise<PreparedInstance>;
  /** A trial clone of a template. */
  restore(order: ReleaseOrder, snapshotPath: string): Promise<PreparedInstance>;
  /** The end of an instance's log; empty when there is none. */
  readLogTail(logPath: string): Promise<string>;
  /** The memory the kernel counts for it now; null when it has gone. Without this it is not measured. */
  readMemory?(instance: PreparedInstance): number | null;
  /** Gives the app an address of its own when its release wants one; Failure `no-own-address` when there is none to give. Missing: nobody gets one. */
  giveOwnAddress?(order: ReleaseOrder): Promise<void>;
  /** Takes it back. */
  takeOwnAddress?(owner: Owner): Promise<void>;
  /** Templates in the object store; missing: every release is prepared here. */
  readonly shared?: SharedTemplates;
  /** Volumes are made for the occasion, not the app's own. */
  readonly emptyVolumes?: boolean;
  sleepMs(ms: number): Promise<void>;
  warn(text: string, fields: Record<string, unknown>): void;
}

export interface ImagePorts extends ImageCalls {
  /** A layer of the provider's images, packed; null when it is not there. */
  openLayer(provider: string, digest: string): Promise<ReadableStream<Uint8Array> | null>;
}

/** The object store, as a deploy sees it. */
export interface SharedTemplates {
  /** A template that can be used here, fetched, verified and complete at the path, in place of what lay there; null when there is none. Never rejects. */
  bring(order: ReleaseOrder, about: { snapshotPath: string; cancelled?: AbortSignal; tell: (text: string) => void }): Promise<SharedTemplate | null>;
  /** Templates have been made or removed here, or others host what is hosted here. Returns at once. */
  changed(): void;
}

export interface SharedTemplate {
  readonly snapshotPath: string;
  readonly bytes: number;
  readonly imageBytes: number;
  readonly coldBootMs: number;
  /** `<zone>.<edgepoint>` in whose store it was. */
  readonly by: string;
  readonly tookMs: number;
}

/** The resource manager, as a deploy sees it. */
export interface ServingPort {
  want(order: ReleaseOrder): void;
  servingRelease(owner: Owner): number | null;
  /** No instance starts from now on and those there are end; resolves when none is left. */
  pause(owner: Owner, reason: string): Promise<void>;
  promote(serving: ServingRelease): void;
  reject(owner: Owner, reason: string): void;
  remove(owner: Owner): Promise<void>;
}

export interface ReleaseRecord {
  readonly order: ReleaseOrder;
  /** Null while it has not been prepared. */
  readonly facts: ReleaseFacts | null;
  /** Why it cannot serve; empty when it can, or is not known yet. */
  readonly rejected: string;
}

/** What preparing has shown, kept so that a restarted head does not prepare again. Durable when a call returns. */
export interface ReleaseRecords {
  find(owner: Owner, release: number): Promise<ReleaseRecord | null>;
  list(owner: Owner): Promise<readonly ReleaseRecord[]>;
  save(order: ReleaseOrder, facts: ReleaseFacts | null, rejected: string): Promise<void>;
  forget(owner: Owner, release: number): Promise<void>;
  setServing(owner: Owner, release: number | null): Promise<void>;
  /** Digests that some app's release still needs. */
  digestsInUse(): Promise<ReadonlySet<string>>;
}
