import type { Owner } from '../../kit/ids.ts';
import type { WrappedSecrets } from '../../kit/wire/secrets.ts';
import type { SessionTerminal } from '../../kit/wire/session.ts';
import type { PagersHold } from './frozen.ts';
import type { Offering } from './offering.ts';
import type { ProxyVersion } from './proxy-protocol.ts';

/**
 * What the processes of one edgepoint say to each other over unix sockets (`host/calls.ts` carries it as lines of JSON).
 * The processes of one edgepoint are upgraded together, so these carry no version; what leaves the machine does (`kit/wire`).
 */

/** A directory that outlives instances: an ext4 image of a fixed size, mounted while an instance uses it. */
export interface VolumeOrder {
  readonly name: string;
  /** The image file on the edgepoint's disk; made when it is not there. */
  readonly imagePath: string;
  readonly sizeBytes: number;
  /** Where the instance sees it. */
  readonly mountPath: string;
}

/** A file on the private disk; in its text stand `{instance}`, `{address}` and `{peers}` for what only restored knows (`files.ts`). */
export interface FileOrder {
  readonly path: string;
  readonly text: string;
}

/** Everything that makes the box of an instance: the same for a boot and for a restore. */
export interface BoxOrder {
  readonly instance: string;
  readonly owner: Owner;
  readonly release: number;
  /** Instances see uid 0 to 65535 as `uidSlot * 65536` onwards. */
  readonly uidSlot: number;
  readonly offering: Offering;
  /** A folder whose `app` is the unpacked artefact; read-only below the private disk. Its owner is seen as root inside. */
  readonly artefactPath: string;
  /** That folder's `image/root` is the whole root of the instance; missing: the base root is below the artefact. */
  readonly image?: true;
  /** Whom programs run as (`user.c`); root when missing. */
  readonly user?: string;
  readonly volumes: readonly VolumeOrder[];
  readonly hostname: string;
  /** Files of its own, written afresh at each boot and restore; none when missing. */
  readonly files?: readonly FileOrder[];
  /** Variables of a boot, and files in `/run/secrets` at each boot and restore; only restored opens them. None when missing. */
  readonly secrets?: WrappedSecrets;
  /**
   * True for `state = "keep"`: the network namespace belongs to the instance's user namespace, the only place where CRIU can restore
   * connections; it costs a wake a few milliseconds. Must be the same for an instance's boot and all its restores.
   */
  readonly ownNetwork: boolean;
  /** The address to use again, for an instance whose connections sleep with it; otherwise null: any free one. */
  readonly address: string | null;
}

export interface BootOrder extends BoxOrder {
  readonly command: readonly string[];
  /** /app when missing. */
  readonly workingDirectory?: string;
  readonly env: Readonly<Record<string, string>>;
  /** Processes beside the first; none when missing. Each has the instance's variables but PORT, and its own. */
  readonly processes?: readonly ProcessOrder[];
}

export interface ProcessOrder {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Its end ends the instance. */
  readonly mustLive: boolean;
}

export interface RestoreOrder extends BoxOrder {
  /** What `SnapshotTaken.snapshotPath` said: only the very snapshot that its last part names is restored. */
  readonly snapshotPath: string;
  /**
   * True when the same instance wakes (`state = "keep"`): its connections are restored (the address must be the one it slept
   * with) and its private disk is its own. False for a clone of a template: connections are closed, the template's disk is shared below it.
   */
  readonly continues: boolean;
}

/** A command in an instance that runs, for its provider (`edgepoint-box enter`). */
export interface EnterOrder {
  readonly instance: string;
  /** Empty: a shell. */
  readonly command: readonly string[];
  readonly terminal: SessionTerminal | null;
  /** /app when missing. */
  readonly workingDirectory?: string;
  readonly env: Readonly<Record<string, string>>;
}

/** What the kernel counted for an instance so far. */
export interface KernelCounters {
  readonly cpuNs: number;
  readonly memoryBytes: number;
}

export interface StartedInstance {
  readonly instance: string;
  /** Process id of its first process, on the machine. */
  readonly pid: number;
  readonly address: string;
  readonly tookMs: number;
  /** Where the milliseconds went, by step. */
  readonly stepsMs: Readonly<Record<string, number>>;
}

export interface RunningInstance extends StartedInstance {
  readonly owner: Owner;
  readonly release: number;
  /** Folders of the instance's cgroup counters: read by the perf monitor. */
  readonly cgroup: CgroupPaths;
  /** The file its stdout and stderr go to, as the machine sees it. */
  readonly logPath: string;
  /** How long that file was when the instance began: a clone's log begins with its template's. */
  readonly logStartBytes: number;
  /** Restored rather than booted. */
  readonly restored: boolean;
  /** True while it is stopped by the freezer, or about to be; absent otherwise. */
  readonly frozen?: true;
}

/** What freezing an instance gave. */
export interface FreezeTaken {
  /** Memory it held before, and what of that is not held by itself any more; what zram holds for it is not taken off. */
  readonly memoryBytes: number;
  readonly givenBackBytes: number;
  /** Until everything of it stood still, and until its memory was given back. */
  readonly stoppedMs: number;
  readonly tookMs: number;
}

export interface CgroupPaths {
  readonly version: 1 | 2;
  /** Version 2: the one folder in all fields. */
  /** Holds the usage counter (version 1: the cpuacct hierarchy). */
  readonly cpu: string;
  readonly memory: string;
  readonly pids: string;
  readonly freezer: string;
}

export interface SnapshotOrder {
  readonly instance: string;
  /** A folder that does not exist yet; complete when the call returns, absent when it fails. */
  readonly snapshotPath: string;
  /** Let it run on afterwards (a template is taken from a live instance), or end it (it sleeps). */
  readonly keepRunning: boolean;
}

export interface SnapshotTaken {
  /** The sealed snapshot: in the ordered folder, called by the digest of its index. */
  readonly snapshotPath: string;
  /** At rest: compressed and encrypted. */
  readonly bytes: number;
  /** Memory that a restore fills: about what the instance held of its own. */
  readonly imageBytes: number;
  readonly frozenMs: number;
  readonly tookMs: number;
  /** Programs, with the reason, that the clone guard (edgepoint/guard) cannot renew: what random generators they hold in memory are copied whole. */
  readonly unguarded: readonly string[];
}

/** restored: starts and ends instances. Every call may be repeated: a second one for the same instance returns the first's result. */
export interface RestoredCalls {
  boot(order: BootOrder): Promise<RunningInstance>;
  restore(order: RestoreOrder): Promise<RunningInstance>;
  /**
   * Stops every process of it and gives its anonymous memory to swap, where there is any on compressed memory. A thaw in the middle
   * cuts it short. A repeated one gives more back, if there is more; for one that is not there it fails with `no-such-instance`.
   */
  freeze(order: { instance: string }): Promise<FreezeTaken>;
  /** It runs again when this returns, and takes its memory back as it touches it. Nothing happens to one that runs. */
  thaw(order: { instance: string }): Promise<{ tookMs: number }>;
  /** Ends it, frozen or not, and removes its box; returns its last counters, or null when there was no such instance. */
  stop(order: { instance: string; graceMs: number }): Promise<KernelCounters | null>;
  list(): Promise<readonly RunningInstance[]>;
}
/** restored, too: what is wrapped for the key that it tells (X25519, SubjectPublicKeyInfo in base64) it opens. */
export interface SecretsCalls {
  opens(): Promise<string>;
}

/** restored, too: runs a command in an instance as if that had started it. */
export interface SessionCalls {
  /**
   * Waits for one connection to `socketPath`, a few seconds, and then begins it; it speaks records (kit/wire/session.ts), and ends, with all
   * that it has started, with its connection. Fails with `no-such-instance`, `too-many-sessions` or `session-failed`. Not to be repeated.
   */
  enter(order: EnterOrder): Promise<{ socketPath: string }>;
}

/** restored tells the head, unasked. */
export interface RestoredNews {
  /** An instance ended without a stop: `status` is `ended`, or `snapshotted` when a snapshot with keepRunning false ended it. */
  exited(news: { instance: string; counters: KernelCounters; status: string }): void;
  /** What pagers hold, to each head that comes and when it changes; never told where there can be none. */
  pagersHold(news: PagersHold): void;
}

/** snapd: snapshots running instances. */
export interface SnapdCalls {
  snapshot(order: SnapshotOrder): Promise<SnapshotTaken>;
  /** Removes a snapshot, named as it was ordered or as it was told; absent is success. */
  discard(order: { snapshotPath: string }): Promise<void>;
}

/** snapd, too, which is root: files of images belong to ids of their own. */
export interface ImageCalls {
  /**
   * Unpacks the image of an OCI layout, which everybody may read, to `root` of a folder that does not exist yet: complete when the call
   * returns, absent when it fails (Failure `image-unpack-failed`). Its files belong to `imageFirstUid` and the ids after it.
   */
  unpackImage(order: { layoutPath: string; folder: string }): Promise<{ tookMs: number }>;
  /** Removes such a folder, and what an unpacking that broke off left of it; absent is success. */
  removeImage(order: { folder: string }): Promise<void>;
}

/** On the disk, uid 0 to 65535 of every image are these and those after it: of the slot behind all that apps and checks have (kit/wire/check.ts). */
export const imageFirstUid = 65_001 * 65_536;
/** An image's files, inside the folder of its artefact. */
export const imageFolder = (artefactPath: string): string => `${artefactPath}/image`;
export const imageRoot = (artefactPath: string): string => `${imageFolder(artefactPath)}/root`;

/** What the head tells the local dispatcher about one app. */
export interface Route {
  readonly owner: Owner;
  readonly hosts: readonly string[];
  /** `ready`: hold requests while no instance is warm. `preparing`: hold too (its first release is on its way). `failed`: answer 503 with the reason. */
  readonly status: 'ready' | 'preparing' | 'failed';
  readonly reason: string;
  readonly concurrency: number;
  /** How long a request may be held, then 503 with Retry-After. */
  readonly holdMs: number;
  /** `draining`: it is about to go, or to stand still, and what is under way in it goes on: a dispatcher that has just come gives it nothing new either. */
  readonly instances: readonly { readonly instance: string; readonly address: string; readonly port: number; readonly draining?: true }[];
  /** Its own address; missing for an app that has none. Only the kernel path needs it. */
  readonly own?: OwnRoute;
  /** Whether requests of plain HTTP are sent to https, where there is a certificate for the host; missing: as the dispatcher's setting says. */
  readonly httpsOnly?: boolean;
  /** Not served because of a spending cap; its status is `failed` then. */
  readonly stop?: RouteStop;
  /** Clients return to the instance that answered them before, as long as it is there and has room. */
  readonly sticky?: true;
  /** An instance that comes while others serve has its whole share only after so long (`dispatcher/slow-start.ts`); missing: at once. */
  readonly slowStartMs?: number;
  /** GET and HEAD of it are answered in the app's place while it sleeps, and do not keep it awake; missing: nothing is. */
  readonly healthPath?: string;
  /** Another release, with a route of its own, that gets this part of its requests as long as it can take them. */
  readonly canary?: { readonly owner: Owner; readonly percent: number };
  /** Connections to its instances begin with a header that says whose requests they carry; each carries one client's alone. */
  readonly proxyProtocol?: ProxyVersion;
}

/** Why requests of an app that has a spending cap are answered 503. */
export interface RouteStop {
  /** Stable: end users' programs may read it. */
  readonly code: 'spending-cap-reached' | 'spending-unknown';
  /** Milliseconds of the wall clock; null: nobody knows. */
  readonly untilWallMs: number | null;
}

/** An address that leads to one app alone: packets to its ports reach an instance without passing through user space. */
export interface OwnAddress {
  /** Empty where the edgepoint has none of that family to give. */
  readonly ipv4: string;
  readonly ipv6: string;
  /** In place of an IPv4 address: ports of the edgepoint's own one, by `<protocol>/<port>`. Missing when it has none of these. */
  readonly shared?: { readonly ipv4: string; readonly ports: Readonly<Record<string, number>> };
}

export interface OwnRoute extends OwnAddress {
  readonly ports: readonly OwnPort[];
  /** How long the app may be unused: how soon its end of use must be seen. */
  readonly idleMs: number;
}

export interface OwnPort {
  readonly protocol: 'tcp' | 'udp';
  /** Where end users send to, and where the program listens. */
  readonly port: number;
  readonly targetPort: number;
}

/** `failed` of `answered`: 5xx of the application, and what it could not answer, also when another release answered in its place. */
export interface AnswerCounts {
  readonly answered: number;
  readonly failed: number;
}

/** What the local dispatcher tells the head, when it changes (at most every 50 ms for one app, at once when requests begin to wait). */
export interface Demand {
  readonly owner: Owner;
  /** Requests held because no instance can take them. */
  readonly waiting: number;
  readonly instances: readonly {
    readonly instance: string;
    /** Exchanges under way. */
    readonly outstanding: number;
    /** Open upgraded connections (WebSocket). */
    readonly tunnels: number;
    /** Boot clock of the last byte in or out. */
    readonly lastActiveBootNs: number;
  }[];
  /** Requests that were held or under way at once, at most, since demand was told before; missing: as many as now. */
  readonly peak?: number;
  /** Totals since the dispatcher started, by instance: the head bills their growth. `epoch` names that start. */
  readonly epoch: string;
  /** Totals of the app since then; missing where nobody sees answers (the kernel path). */
  readonly answers?: AnswerCounts;
  readonly traffic: readonly { readonly instance: string; readonly requests: number; readonly bytesIn: number; readonly bytesOut: number }[];
}

/** A request that the edgepoint makes by itself: one `cron` of a manifest. */
export interface TaskOrder {
  /** A host of the app. */
  readonly host: string;
  readonly method: 'GET' | 'POST';
  /** Origin-form. */
  readonly path: string;
  /** As the manifest has it, and the minute of it that this is; the application is told both. */
  readonly schedule: string;
  readonly dueWallMs: number;
}

/** A request that the edgepoint makes by itself: a message of one `queue` of a manifest, by POST. */
export interface MessageOrder {
  readonly host: string;
  readonly path: string;
  readonly queue: string;
  readonly id: string;
  /** From 1 on. */
  readonly attempt: number;
  /** A value of Content-Type, of printable ASCII. */
  readonly contentType: string;
  readonly bodyBase64: string;
}

export interface TaskAnswer {
  /** The application's, or the dispatcher's own; 0 when there was none. */
  readonly status: number;
  /** Why the application gave no (whole) answer; empty otherwise. */
  readonly reason: string;
  readonly tookMs: number;
}

/** The head calls these on the dispatcher. */
export interface DispatcherCalls {
  /** The whole table; what is not in it is gone. */
  routes(routes: readonly Route[]): Promise<void>;
  route(route: Route): Promise<void>;
  /** Removes an app; held requests get 404. */
  removeRoute(owner: Owner): Promise<void>;
  /**
   * No new exchange for this instance from now on. `drained` false when some are still under way after `timeoutMs` (it is then
   * given requests again). With `park`, open tunnels stay and their bytes are held until `unpark`; without, tunnels count as under way.
   * Idle upstream connections are closed.
   */
  drain(order: { instance: string; park: boolean; timeoutMs: number }): Promise<{ drained: boolean }>;
  /** Ends a drain: the instance (the same address) takes exchanges and its parked tunnels flow again. */
  unpark(order: { instance: string }): Promise<void>;
}

/** While the edgepoint is drained: a client's connection ends after its next answer, so that the client asks anew where to go. */
export interface ConnectionCalls {
  keepConnections(order: { keeps: boolean }): void;
}

/** The head calls this on the dispatcher too. */
export interface TaskCalls {
  /** Asks the app as an end user would; ends with the answer. */
  ask(order: TaskOrder | MessageOrder): Promise<TaskAnswer>;
}
/** The dispatcher tells the head, unasked; on connecting it tells the demand of every app it knows. */
export interface DispatcherNews {
  demand(demand: Demand): void;
  /** An instance refused or reset a connection before it answered. */
  suspect(news: { instance: string; reason: string }): void;
  /** On connecting, when it speaks TLS: the key that certificates for it are sealed with (`edgepoint-state`). */
  sealTo(news: { publicKey: string }): void;
}
