import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../kit/clock.ts';
import { Failure, messageOf } from '../../kit/errors.ts';
import { type Owner, ownerKey } from '../../kit/ids.ts';
import { nsPerMs } from '../../kit/units.ts';
import type { PlainSecrets } from '../../kit/wire/secrets.ts';
import { instanceIpv6, instancePrefixLength } from '../model/instance-address.ts';
import { gatewayOf, type Subnet } from '../box/address.ts';
import { bootArguments, type BoxFacts, enterArguments, restoreArguments } from '../box/arguments.ts';
import { fillSettled, readFill } from '../box/memory/fill.ts';
import { boxPlaces, fillPath, heldPath, hotPath, instanceFolder, logIn, logPath, pagerPath, snapshotParts, snapshottedMark } from '../box/folders.ts';
import { isFrozen, readCounters, setFrozen } from '../box/cgroup.ts';
import { memoryBytes } from '../box/memory/memory-bytes.ts';
import { reap, unmount } from '../box/kernel.ts';
import type { OrphanReaper } from '../box/orphans.ts';
import { mountsBelow, readMountinfo } from '../box/mount-table.ts';
import { allRecords, type InstanceRecord, processStartTicks, removeRecord, writeRecord } from '../box/record.ts';
import { removeSlot, type Slot, slotCgroup, type SlotPlace, type SlotPool } from '../box/slot.ts';
import { explainCriuLog } from '../box/dump-failure.ts';
import type { BootOrder, BoxOrder, FreezeTaken, KernelCounters, RestoredCalls, RestoredNews, RestoreOrder, RunningInstance, SessionCalls } from '../model/calls.ts';
import { openAddresses } from './addresses.ts';
import { chooseRestore, type RestoreFacts } from './choose-restore.ts';
import type { Courtesy } from './courtesy.ts';
import type { ExitWatch } from './exit-watch.ts';
import { followFill } from './fills.ts';
import { giveLogTo } from './give-log.ts';
import type { Freezable, Freezing } from './freezing.ts';
import { askToEnd, heedsTerm } from './grace.ts';
import type { Pagers } from './pagers.ts';
import { sweepInstances } from './sweep.ts';
import type { Sessions } from './sessions.ts';
import { prepareVolume } from './volume.ts';

/** Snapshots, unpacked and verified, for restores (edgepoint/templates). */
export interface TemplateSource {
  /**
   * Where the snapshot of this order lies, until `done`; rejects when it cannot be used, with the reason. Its disk stays as long as an
   * instance stands on it as a layer.
   */
  use(order: { snapshotPath: string; owner: Owner; release: number; continues: boolean }): Promise<{
    readonly path: string;
    readonly name: string;
    done(about: { spent: boolean }): void;
  }>;
  /** An instance has ended. */
  settle(): void;
}

/** What restored needs of its surroundings; each a thing of the composition. */
export interface InstancesOptions {
  readonly templates: TemplateSource;
  /** Opens the secrets of an order; throws a Failure when they are not for this edgepoint. */
  readonly openSecrets: (order: BoxOrder) => PlainSecrets;
  /** Names what the base root is now. */
  readonly baseRootName: () => string;
  readonly place: SlotPlace;
  readonly runFolder: string;
  readonly subnet: Subnet;
  /** Instances have IPv6 addresses too. */
  readonly ipv6?: boolean;
  readonly baseRoot: string;
  /** What lies below the root of an image in its place: the guard, the resolver, and nothing else. */
  readonly imageBase: string;
  /** Folder in the base root: edgepoint/guard. */
  readonly guard: string;
  readonly clock: Clock;
  readonly slots: SlotPool;
  readonly lazy: Pick<RestoreFacts, 'machineAllows' | 'lazyFromBytes'>;
  readonly orphans: Pick<OrphanReaper, 'expect'>;
  readonly freezing: Freezing;
  readonly pagers: Pick<Pagers, 'follow' | 'forget'>;
  readonly courtesy: Courtesy;
  readonly sessions: Sessions;
  readonly tell: RestoredNews['exited'];
  readonly note: (text: string, fields: Record<string, unknown>) => void;
  readonly warn: (text: string, fields: Record<string, unknown>) => void;
}

/** Of edgepoint-box's output. */
function startedPid(out: string): number {
  return Number(/^pid (\d+)$/m.exec(out)?.[1]);
}

function fileBytes(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

const bootTimeoutMs = 30_000;
const restoreTimeoutMs = 30_000;

/** The instances of this edgepoint: started, watched and ended here and nowhere else. */
export interface Instances extends RestoredCalls, SessionCalls {
  /** Adopts what an earlier restored left running and removes what it left half made. Call once, before anything else. */
  recover(watch: ExitWatch): Promise<void>;
  /** To be called when a watched process ended. */
  exited(pid: number): Promise<void>;
  /** Names of the snapshots whose disk an instance stands on. */
  layers(): ReadonlySet<string>;
}

export function openInstances(options: InstancesOptions): Instances {
  const { runFolder, clock } = options;
  const records = new Map<string, InstanceRecord>();
  const starting = new Map<string, Promise<RunningInstance>>();
  const ending = new Map<string, Promise<KernelCounters | null>>();
  /** Instances whose stop is under way, with their last counters once they have ended by themselves: that is no news then. */
  const stopping = new Map<string, KernelCounters | null>();
  const addresses = openAddresses(options.subnet);
  let watch: ExitWatch | null = null;

  async function start(order: BoxOrder, from: { path: string; layer: string | null; unpackMs: number } | null, launch: (slot: Slot, facts: BoxFacts) => Promise<{ pid: number; out: string }>): Promise<RunningInstance> {
    const begunNs = clock.bootNs();
    const secrets = options.openSecrets(order);
    for (const volume of order.volumes) await prepareVolume(volume);
    const address = addresses.take(order.address);
    const slot = await options.slots.take().catch((error: unknown) => {
      addresses.give(address);
      throw error;
    });
    const baseRoot = options.baseRootName();
    const making: InstanceRecord = { state: 'making', order, slot: slot.name, address, baseRoot, ...(from?.layer ? { layer: from.layer } : {}), running: null, startTicks: 0 };
    records.set(order.instance, making);
    try {
      writeRecord(runFolder, making);
      const owner = statSync(order.artefactPath);
      if (from !== null) giveLogTo(owner.gid, logIn(snapshotParts(from.path).disk));
      const boxNs = clock.bootNs();
      const { pid, out } = await launch(slot, {
        folder: instanceFolder(runFolder, order.instance),
        base: order.image === true ? options.imageBase : options.baseRoot,
        guard: options.guard,
        artefactUid: owner.uid,
        readerGid: owner.gid,
        dev: boxPlaces(runFolder).dev,
        address,
        prefixLength: options.subnet.prefixLength,
        gateway: gatewayOf(options.subnet),
        ...(options.ipv6 === true ? { ipv6: { address: instanceIpv6(address), prefixLength: instancePrefixLength, gateway: instanceIpv6(gatewayOf(options.subnet)) } } : {}),
        peers: peersOf(order),
        secrets,
      });
      const endNs = clock.bootNs();
      const stepsMs: Record<string, number> = { ...(from === null ? {} : { unpack: from.unpackMs }), prepare: (boxNs - begunNs) / nsPerMs, start: (endNs - boxNs) / nsPerMs };
      for (const [, step, ns] of out.matchAll(/^(disk|files|network) (\d+)$/gm)) stepsMs[step as string] = Number(ns) / nsPerMs;
      const running: RunningInstance = {
        instance: order.instance,
        pid,
        address,
        tookMs: (endNs - begunNs) / nsPerMs + (from?.unpackMs ?? 0),
        stepsMs,
        owner: order.owner,
        release: order.release,
        cgroup: slot.cgroup,
        logPath: logPath(runFolder, order.instance),
        logStartBytes: from === null ? 0 : fileBytes(logIn(snapshotParts(from.path).disk)),
        restored: from !== null,
      };
      const record: InstanceRecord = { ...making, state: 'running', running, startTicks: processStartTicks(pid) };
      records.set(order.instance, record);
      writeRecord(runFolder, record);
      watch?.watch(pid);
      follow(record);
      return running;
    } catch (error) {
      await removeBox(records.get(order.instance) ?? making);
      throw error;
    }
  }

  /** Where the app's other instances are. */
  function peersOf(order: BoxOrder): string[] {
    return [...records.values()].flatMap(({ running }) => (running !== null && running.instance !== order.instance && ownerKey(running.owner) === ownerKey(order.owner) ? [running.address] : []));
  }

  async function run(slot: Slot, order: BoxOrder, words: readonly string[], timeoutMs: number): ReturnType<Slot['run']> {
    const done = await slot.run(order.offering, words, timeoutMs);
    for (const [, pid] of done.out.matchAll(/^(?:criu|pages) (\d+)$/gm)) options.orphans.expect(Number(pid));
    return done;
  }

  /** Kills what is left of the instance and takes its box away, whatever state it was left in. Repeatable. */
  async function removeBox(record: InstanceRecord): Promise<KernelCounters> {
    const { instance } = record.order;
    const folder = instanceFolder(runFolder, instance);
    const counters = await removeSlot(options.place, record.slot, () => record.running && reap(record.running.pid));
    for (const point of mountsBelow(readMountinfo(), folder)) unmount(point);
    rmSync(folder, { recursive: true, force: true });
    rmSync(snapshottedMark(runFolder, instance), { force: true });
    for (const path of [fillPath(runFolder, instance), heldPath(runFolder, instance), pagerPath(runFolder, instance)]) rmSync(path, { force: true });
    options.pagers.forget(instance);
    options.courtesy.forget(instance);
    removeRecord(runFolder, instance);
    records.delete(instance);
    addresses.give(record.address);
    if (record.running) options.orphans.expect(record.running.pid);
    if (record.layer !== undefined) options.templates.settle();
    return counters;
  }

  function end(instance: string): Promise<KernelCounters | null> {
    const under = ending.get(instance);
    if (under) return under;
    const record = records.get(instance);
    if (!record) return Promise.resolve(null);
    const work = removeBox(record).finally(() => ending.delete(instance));
    ending.set(instance, work);
    return work;
  }

  function freezable(slot: string, { instance, pid }: RunningInstance): Freezable {
    return { instance, cgroup: slotCgroup(options.place, slot), pid, hotPath: hotPath(runFolder, instance) };
  }

  function beCourteous({ order: { instance, offering }, slot }: InstanceRecord): void {
    options.courtesy.follow(instance, slotCgroup(options.place, slot), offering);
  }

  /** An instance whose memory will never be whole is ended; its end is then noticed as any other. */
  function follow(record: InstanceRecord): void {
    const { order: { instance }, slot, running, startTicks } = record;
    const endIt = (reason: string): void => {
      if (running === null || processStartTicks(running.pid) !== startTicks) return;
      options.warn('an instance is ended because its memory could not be filled', { instance, reason });
      process.kill(running.pid, 'SIGKILL');
      /* Killed first, so that nothing of it runs again: in the freezer of version 1 it dies only when it is thawed. */
      const cgroup = slotCgroup(options.place, slot);
      if (isFrozen(cgroup, true)) setFrozen(cgroup, false);
    };
    options.pagers.follow(instance, endIt);
    if (!options.freezing.frozen(slotCgroup(options.place, slot))) beCourteous(record);
    followFill(runFolder, instance).then(
      (fill) => fill.kind === 'failed' && endIt(fill.reason),
      (error: unknown) => endIt(messageOf(error)),
    );
  }

  /** What runs under this name, after taking away what has ended but was not noticed yet: a wake may follow a sleep at once. */
  async function stillRunning(instance: string): Promise<RunningInstance | null> {
    await ending.get(instance);
    const record = records.get(instance);
    if (!record?.running) return null;
    if (processStartTicks(record.running.pid) === record.startTicks) return record.running;
    await exited(record.running.pid);
    return null;
  }

  /** A start from a snapshot, which stays unpacked meanwhile. One that continues is the only one there will be of its snapshot. */
  async function startFrom(order: RestoreOrder, launch: (slot: Slot, facts: BoxFacts, unpacked: string) => Promise<{ pid: number; out: string }>): Promise<RunningInstance> {
    const begunNs = clock.bootNs();
    const { owner, release, continues, snapshotPath } = order;
    const hot = await options.templates.use({ snapshotPath, owner, release, continues });
    const unpackMs = (clock.bootNs() - begunNs) / nsPerMs;
    let spent = false;
    try {
      const running = await start(order, { path: hot.path, layer: continues ? null : hot.name, unpackMs }, (slot, facts) => launch(slot, facts, hot.path));
      spent = continues;
      return running;
    } finally {
      /* What is restored lazily still reads from it. */
      if (spent) void fillSettled(runFolder, order.instance, sleep).finally(() => hot.done({ spent }));
      else hot.done({ spent });
    }
  }

  /** One start at a time for an instance; a repeated order gets the first one's result. */
  function startOnce(order: BoxOrder, work: () => Promise<RunningInstance>): Promise<RunningInstance> {
    const under = starting.get(order.instance);
    if (under) return under;
    const begun = stillRunning(order.instance)
      .then((running) => running ?? work())
      .finally(() => starting.delete(order.instance));
    starting.set(order.instance, begun);
    return begun;
  }

  function listed(record: InstanceRecord): RunningInstance[] {
    if (!record.running) return [];
    return [options.freezing.frozen(slotCgroup(options.place, record.slot)) ? { ...record.running, frozen: true } : record.running];
  }

  async function exited(pid: number): Promise<void> {
    reap(pid);
    const record = [...records.values()].find((candidate) => candidate.running?.pid === pid);
    if (!record) return;
    const { instance } = record.order;
    const under = ending.get(instance);
    if (under) return void (await under); // whoever ends it gets its counters
    const status = existsSync(snapshottedMark(runFolder, instance)) ? 'snapshotted' : 'ended';
    const counters = await end(instance);
    if (stopping.has(instance)) stopping.set(instance, counters);
    else if (counters) options.tell({ instance, counters, status });
  }

  return {
    boot: (order: BootOrder) =>
      startOnce(order, () =>
        start(order, null, async (slot, facts) => {
          const done = await run(slot, order, bootArguments(order, facts), bootTimeoutMs);
          if (!done.ok) throw new Failure('cannot-start', done.err);
          return { pid: startedPid(done.out), out: done.out };
        }),
      ),

    restore: (order: RestoreOrder) =>
      startOnce(order, () =>
        startFrom(order, async (slot, facts, unpacked) => {
          const choice = chooseRestore({ ...options.lazy, memoryBytes: memoryBytes(unpacked) });
          options.note(`a restore that is ${choice.lazy ? 'lazy' : 'eager'}`, { instance: order.instance, reason: choice.reason });
          const fill = choice.lazy ? fillPath(runFolder, order.instance) : null;
          const work = `${facts.folder}.work`;
          mkdirSync(work, { recursive: true, mode: 0o700 });
          try {
            const done = await run(slot, order, restoreArguments({ ...order, snapshotPath: unpacked }, facts, work, fill), restoreTimeoutMs);
            if (!done.ok) {
              const log = existsSync(`${work}/restore.log`) ? readFileSync(`${work}/restore.log`, 'utf8') : '';
              const memory = readFill(runFolder, order.instance);
              const told = explainCriuLog(log);
              const why = [memory.kind === 'failed' ? memory.reason : '', log ? told.evidence : ''].filter(Boolean);
              throw new Failure('cannot-restore', `${done.err}${why.length > 0 ? ` (${why.join('; ')})` : ''}`, { remedy: told.remedy });
            }
            return { pid: startedPid(done.out), out: done.out };
          } finally {
            rmSync(work, { recursive: true, force: true });
          }
        }),
      ),

    async freeze({ instance }): Promise<FreezeTaken> {
      await starting.get(instance)?.catch(() => undefined); // its failure was told to who ordered it
      const record = records.get(instance);
      if (!record?.running || ending.has(instance) || stopping.has(instance)) throw new Failure('no-such-instance', `${instance} does not run`);
      options.courtesy.forget(instance); // who stands still uses nothing
      try {
        return await options.freezing.freeze(freezable(record.slot, record.running));
      } catch (error) {
        if (records.get(instance) === record) beCourteous(record);
        throw error;
      }
    },

    async thaw({ instance }): Promise<{ tookMs: number }> {
      await starting.get(instance)?.catch(() => undefined); // as a freeze waits, so that none overtakes another
      const record = records.get(instance);
      if (!record?.running) throw new Failure('no-such-instance', `${instance} does not run`);
      beCourteous(record);
      return options.freezing.thaw(freezable(record.slot, record.running));
    },

    async enter(order) {
      const record = records.get(order.instance);
      const { instance } = order;
      if (!record?.running || ending.has(instance) || stopping.has(instance)) throw new Failure('no-such-instance', `${instance} does not run`);
      const { running, startTicks } = record;
      const words = enterArguments(order, record.order, { address: record.address, peers: peersOf(record.order), secrets: options.openSecrets(record.order), guard: options.guard });
      return options.sessions.begin({ cgroup: slotCgroup(options.place, record.slot), pid: running.pid, words, isSame: () => processStartTicks(running.pid) === startTicks });
    },

    async stop({ instance, graceMs }): Promise<KernelCounters | null> {
      await starting.get(instance)?.catch(() => undefined); // its failure was told to who ordered it
      const record = records.get(instance);
      const running = record?.running;
      if (!running || graceMs <= 0 || !heedsTerm(running.pid) || ending.has(instance) || stopping.has(instance)) return end(instance);
      stopping.set(instance, null);
      try {
        await options.freezing.thaw(freezable(record.slot, running)); // only what runs can end by itself
        const cgroup = slotCgroup(options.place, record.slot);
        await askToEnd({ pid: running.pid, graceMs, hasVolume: record.order.volumes.length > 0, ended: () => !records.has(instance), cpuNs: () => readCounters(cgroup).cpuNs, clock });
      } catch (error) {
        options.note('the instance had already ended', { instance, reason: messageOf(error) });
      }
      const counters = await end(instance);
      const byItself = stopping.get(instance) ?? null;
      stopping.delete(instance);
      return counters ?? byItself;
    },

    list: () => Promise.resolve([...records.values()].flatMap(listed)),

    async recover(exitWatch: ExitWatch): Promise<void> {
      watch = exitWatch;
      for (const record of allRecords(runFolder)) {
        records.set(record.order.instance, record);
        addresses.take(record.address);
        const alive = record.running !== null && record.startTicks !== 0 && processStartTicks(record.running.pid) === record.startTicks;
        if (alive && record.running) {
          watch.watch(record.running.pid);
          follow(record);
          await options.sessions.clear(slotCgroup(options.place, record.slot)); // nobody knows when they end
        } else await removeBox(record);
      }
      sweepInstances(runFolder, [...records.keys()]);
    },

    exited,

    layers: () => new Set([...records.values()].flatMap(({ layer }) => (layer === undefined ? [] : [layer]))),
  };
}

