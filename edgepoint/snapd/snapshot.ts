import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../kit/clock.ts';
import { codeOf, Failure } from '../../kit/errors.ts';
import type { Owner } from '../../kit/ids.ts';
import { nsPerMs } from '../../kit/units.ts';
import { dumpArguments } from '../box/arguments.ts';
import { cgroupProcesses } from '../box/cgroup.ts';
import { readFrozenMs } from '../box/criu-stats.ts';
import { explainCriuLog } from '../box/dump-failure.ts';
import { fillSettled } from '../box/memory/fill.ts';
import { giveBack } from '../box/memory/held.ts';
import { instanceFolder, snapshotParts, snapshottedMark, upperFolder } from '../box/folders.ts';
import { memoryBytes } from '../box/memory/memory-bytes.ts';
import { readMountinfo } from '../box/mount-table.ts';
import { setLink } from '../box/network.ts';
import { type InstanceRecord, processStartTicks, readRecord } from '../box/record.ts';
import { mendTimers } from '../box/timers.ts';
import { unguardedPrograms } from '../box/unguarded.ts';
import { wipeOnFork } from '../box/memory/wipe-on-fork.ts';
import type { RunningInstance, SnapdCalls, SnapshotOrder, SnapshotTaken } from '../model/calls.ts';
import { describeSnapshot, readDescription, type SnapshotDescription, writeDescription } from './description.ts';
import { copyLayerBelow, joinLayerBelow, layerBelow } from './layer-below.ts';
import { settlePrograms } from './settle.ts';
import { allUnfinished, processesWithArgumentEnded, removeStaleParts, removeUnfinished, type UnfinishedSnapshot, writeUnfinished } from './unfinished.ts';

/**
 * What a dump becomes: a sealed file. A dump writes to `staging`, which is memory; only what is sealed comes to the disk. The
 * composition hands it in (edgepoint/templates).
 */
export interface SnapshotStore {
  staging(instance: string): string;
  clearStaging(but: ReadonlySet<string>): void;
  /** `handOver` leaves the folder, as it is, to restores. */
  seal(order: {
    folder: string;
    target: string;
    owner: Owner;
    release: number;
    instance: string;
    baseRoot: string;
    effort: 'quick' | 'small';
  }): Promise<{ readonly name: string; readonly bytes: number; handOver(): void }>;
  /** It is discarded: nobody may be restored from it any more. */
  forget(name: string): void;
}

export interface SnapshotOptions {
  readonly store: SnapshotStore;
  readonly runFolder: string;
  /** The CRIU program. */
  readonly criu: string;
  readonly clock: Clock;
}

/** Snapshots running instances: whole or not at all, and an instance that could not be snapshotted runs on. */
export interface Snapshots extends SnapdCalls {
  /** Finishes or undoes what an earlier snapd left under way; orders for those instances wait. Call once, before anything else. */
  recover(dataFolder: string): Promise<void>;
}

const dumpTimeoutMs = 120_000;
/** With less free than this the memory for snapshots is full: CRIU and cp may have stopped before they could say so. */
const fullDiskBytes = 256 * 1024;
const copyScript = fileURLToPath(new URL('copy-disk.sh', import.meta.url));

export function openSnapshots(options: SnapshotOptions): Snapshots {
  const { runFolder, clock, store } = options;
  /** By path: a repeated order gets the first one's result. */
  const under = new Map<string, Promise<SnapshotTaken>>();
  /** By instance: two dumps of one instance come one after the other. */
  const busy = new Map<string, Promise<unknown>>();

  function inTurn<T>(instance: string, work: () => Promise<T>): Promise<T> {
    const done = (busy.get(instance) ?? Promise.resolve()).then(work, work);
    const settled = done.finally(() => {
      if (busy.get(instance) === settled) busy.delete(instance);
    });
    settled.catch(() => undefined); // whoever ordered it is told by `done`
    busy.set(instance, settled);
    return done;
  }

  async function take(order: SnapshotOrder): Promise<SnapshotTaken> {
    const earlier = readDescription(order.snapshotPath);
    /* Repeated after the answer was lost: an instance that sleeps cannot have changed since. */
    if (earlier && !order.keepRunning && earlier.instance === order.instance) return earlier.taken;
    if (!existsSync(options.criu)) {
      throw new Failure('no-criu', `there is no CRIU at ${options.criu}, so nothing can be snapshotted here`, { remedy: 'run the set-up: sh images/host/bootstrap.sh images/host/main.ts' });
    }
    if (existsSync(order.snapshotPath)) throw new Failure('exists', `there is already a snapshot at ${order.snapshotPath}`);
    const record = readRecord(runFolder, order.instance);
    if (!record?.running || processStartTicks(record.running.pid) !== record.startTicks) {
      throw new Failure('no-such-instance', `no instance ${order.instance} is running here`);
    }
    await wholeMemory(order.instance);
    const begunNs = clock.bootNs();
    const pids = cgroupProcesses({ ...record.running.cgroup, cpuLimit: record.running.cgroup.cpu, io: '' });
    if (order.keepRunning) await settlePrograms(pids);
    const description = describeSnapshot(record, unguardedPrograms(pids));
    try {
      await dump(order, record, record.running, { order, description });
      return await finish(order, description, () => (clock.bootNs() - begunNs) / nsPerMs);
    } catch (error) {
      const staging = store.staging(order.instance);
      const noRoom = existsSync(`${staging}/disk-full`) || (codeOf(error) === 'ENOSPC' && !isFull(staging));
      /* All that a dump itself writes goes to memory. */
      const noMemory = codeOf(error) === 'disk-full' || isFull(staging);
      await undo(order);
      if (noRoom) throw new Failure('disk-full', 'the disk of the edgepoint is full', { cause: error });
      if (noMemory) throw new Failure('memory-full', 'the edgepoint has no memory free to take the snapshot in', { cause: error });
      throw error;
    }
  }

  /** One that was restored lazily or frozen is snapshotted once its memory is there: what is still missing would be snapshotted as zeros. */
  async function wholeMemory(instance: string): Promise<void> {
    const fills = [await fillSettled(runFolder, instance, sleep), await giveBack(runFolder, instance, sleep)];
    for (const fill of fills) if (fill.kind === 'failed') throw new Failure('no-such-instance', `the instance ${instance} is being ended: ${fill.reason}`);
  }

  async function dump(order: SnapshotOrder, record: InstanceRecord, running: RunningInstance, unfinished: UnfinishedSnapshot): Promise<void> {
    const part = `${order.snapshotPath}.part`;
    const staging = store.staging(order.instance);
    const parts = snapshotParts(staging);
    for (const folder of [part, staging]) rmSync(folder, { recursive: true, force: true });
    writeUnfinished(runFolder, unfinished);
    /* Root alone walks into the snapshot; the images below are open because CRIU reads some of them as the instance's own uid, through a descriptor. */
    for (const folder of [part, staging]) mkdirSync(folder, { recursive: true, mode: 0o700 });
    mkdirSync(parts.images, { mode: 0o755 });
    const layer = layerBelow(readMountinfo(), `${instanceFolder(runFolder, order.instance)}/root`);
    if (layer !== null) await copyLayerBelow(layer, upperFolder(runFolder, order.instance), staging);
    if (!order.keepRunning) {
      /* What came in after its socket was read would be acknowledged and lost, so nothing may come in. */
      writeFileSync(snapshottedMark(runFolder, order.instance), '');
      await setLink(record.slot, false);
    }
    const { pid } = running;
    const { ownNetwork, volumes } = record.order;
    const words = dumpArguments({
      pid,
      folder: instanceFolder(runFolder, order.instance),
      volumeMountPaths: volumes.map((volume) => volume.mountPath),
      imagesFolder: parts.images,
      keepRunning: order.keepRunning,
      ownNetwork,
      script: copyScript,
    });
    /* A shared network namespace is not dumped because CRIU stands in it itself. */
    const enter = ownNetwork ? [] : ['nsenter', `--net=/proc/${pid}/ns/net`];
    const child = Bun.spawn([...enter, options.criu, ...words], {
      stdin: 'ignore',
      stdout: 'ignore',
      stderr: 'pipe',
      timeout: dumpTimeoutMs,
      killSignal: 'SIGKILL',
      env: {
        ...process.env,
        EDGEPOINT_UPPER: upperFolder(runFolder, order.instance),
        EDGEPOINT_DISK: parts.disk,
        EDGEPOINT_STAGING: staging,
        EDGEPOINT_RESERVE: order.keepRunning ? '' : sealing(order),
      },
    });
    const [status, err] = await Promise.all([child.exited, new Response(child.stderr).text()]);
    if (status !== 0) throw dumpFailure(`${parts.images}/dump.log`, err);
  }

  /** A dump that has succeeded becomes a snapshot. */
  async function finish(order: SnapshotOrder, description: Omit<SnapshotDescription, 'taken'>, tookMs: () => number): Promise<SnapshotTaken> {
    const part = `${order.snapshotPath}.part`;
    const staging = store.staging(order.instance);
    const { images, disk } = snapshotParts(staging);
    rmSync(`${images}/dump.log`, { force: true });
    const frozenMs = readFrozenMs(readFileSync(`${images}/stats-dump`));
    wipeOnFork(images);
    mendTimers(images);
    joinLayerBelow(staging, disk);
    const imageBytes = memoryBytes(staging);
    const { owner, release, instance, baseRoot } = description;
    mkdirSync(part, { recursive: true, mode: 0o700 });
    /* What a snapd that was killed had sealed already. */
    for (const name of readdirSync(part)) if (name !== basename(sealing(order))) rmSync(join(part, name));
    /* Whoever is woken by it again and again gets the smaller file; a sleep should not take long. */
    const sealed = await store.seal({ folder: staging, target: sealing(order), owner, release, instance, baseRoot, effort: order.keepRunning ? 'small' : 'quick' });
    renameSync(sealing(order), join(part, sealed.name));
    const { unguarded } = description;
    const taken = { snapshotPath: join(order.snapshotPath, sealed.name), bytes: sealed.bytes, imageBytes, frozenMs, tookMs: tookMs(), unguarded };
    writeDescription(part, { ...description, taken });
    renameSync(part, order.snapshotPath);
    /* A template is proved by a restore of what was sealed; who fell asleep may be woken at once. */
    if (order.keepRunning) rmSync(staging, { recursive: true, force: true });
    else sealed.handOver();
    removeUnfinished(runFolder, order.instance);
    return taken;
  }

  /** A dump that has failed leaves nothing, and the instance, when it still runs, is reachable again. */
  async function undo(order: SnapshotOrder): Promise<void> {
    const mark = snapshottedMark(runFolder, order.instance);
    const record = readRecord(runFolder, order.instance);
    if (record && existsSync(mark)) await setLink(record.slot, true).catch(() => undefined); // the instance may have ended, and its link with it
    rmSync(mark, { force: true });
    for (const folder of [`${order.snapshotPath}.part`, store.staging(order.instance)]) rmSync(folder, { recursive: true, force: true });
    removeUnfinished(runFolder, order.instance);
  }

  /**
   * CRIU writes `stats-dump` last, and only when the dump succeeded. An instance that was to sleep is then gone, so its snapshot is
   * the only copy of its state and must be kept; one that runs on can be snapshotted again by whoever still wants it.
   */
  async function settle({ order, description }: UnfinishedSnapshot): Promise<void> {
    const { images } = snapshotParts(store.staging(order.instance));
    await processesWithArgumentEnded(images, dumpTimeoutMs);
    if (order.keepRunning || existsSync(order.snapshotPath) || !existsSync(`${images}/stats-dump`)) return undo(order);
    await finish(order, description, () => 0);
  }

  return {
    snapshot(order: SnapshotOrder): Promise<SnapshotTaken> {
      const begun = under.get(order.snapshotPath) ?? inTurn(order.instance, () => take(order)).finally(() => under.delete(order.snapshotPath));
      under.set(order.snapshotPath, begun);
      return begun;
    },
    discard({ snapshotPath }): Promise<void> {
      const folder = digestPattern.test(basename(snapshotPath)) ? dirname(snapshotPath) : snapshotPath;
      const names = existsSync(folder) ? readdirSync(folder, { recursive: true }).map((path) => basename(String(path))) : [];
      for (const path of [`${folder}.part`, folder]) rmSync(path, { recursive: true, force: true });
      for (const name of names) if (digestPattern.test(name)) store.forget(name);
      return Promise.resolve();
    },
    async recover(dataFolder: string): Promise<void> {
      const left = allUnfinished(runFolder);
      removeStaleParts(dataFolder, left);
      store.clearStaging(new Set(left.map(({ order }) => order.instance)));
      await Promise.all(left.map((unfinished) => inTurn(unfinished.order.instance, () => settle(unfinished))));
    },
  };
}

function dumpFailure(logFile: string, stderr: string): Failure {
  const log = existsSync(logFile) ? readFileSync(logFile, 'utf8') : '';
  const failure = explainCriuLog(log + stderr);
  return new Failure(failure.code, `it could not be snapshotted: ${failure.text}`, { remedy: [failure.remedy, failure.evidence === '' ? '' : `(${failure.evidence})`].filter((part) => part !== '').join(' ') });
}

/** The file that a snapshot is sealed to before its name is known. */
function sealing(order: SnapshotOrder): string {
  return join(`${order.snapshotPath}.part`, 'sealing');
}

const digestPattern = /^[0-9a-f]{64}$/;

function isFull(folder: string): boolean {
  if (!existsSync(folder)) return false;
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize < fullDiskBytes;
}
