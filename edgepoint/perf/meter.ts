import type { Clock } from '../../kit/clock.ts';
import type { Owner, Site } from '../../kit/ids.ts';
import { ownerKey } from '../../kit/ids.ts';
import { unpacked } from '../../kit/text-packer.ts';
import type { TextPacker } from '../../kit/text-packer.ts';
import { nsPerMs } from '../../kit/units.ts';
import type { CgroupPaths, Demand, KernelCounters, RunningInstance } from '../model/calls.ts';
import { addSample, addStorage, addTraffic, beginUsage, makeRecord } from './usage.ts';
import type { UsageState } from './usage.ts';
import { openRecordWriter } from './record-writer.ts';
import type { UsageOutbox } from './record-writer.ts';

/** Something an app keeps on the disk while it may be asleep: a template, a kept snapshot, a volume. */
export interface StoredItem {
  readonly owner: Owner;
  readonly release: number;
  /** Unique within the app: `template-3`, `volume-data`. At most 80 characters. */
  readonly item: string;
  /** Bytes on the disk; 0 when it has been removed. */
  readonly bytes: number;
}

export interface MeterOptions {
  readonly clock: Clock;
  readonly site: Site;
  /** `counters.ts`; null when the instance's cgroup is gone. */
  readonly readCounters: (cgroup: CgroupPaths) => KernelCounters | null;
  readonly outbox: UsageOutbox;
  /** What the outbox remembered of the head's last life. */
  readonly seeds: readonly UsageState[];
  /** Something could not be read or stored; counting goes on, and the next record carries what this one would have. */
  readonly onFault: (failure: unknown) => void;
  /** Keeps the states of what lies at rest. */
  readonly texts?: TextPacker;
  /** Between two samples of a running instance. */
  readonly sampleMs?: number;
  /** Between two records of a running instance. */
  readonly recordMs?: number;
  /** Between two records of what lies at rest. */
  readonly storageRecordMs?: number;
}

/**
 * The perf monitor: samples running instances, turns samples and traffic into usage records, and stores each durably before it
 * is sent. With nothing running it has no timer. Every method may be called again with the same arguments.
 */
export interface Meter {
  /** Once after the head's start: goes on with the instances and items that are still there and closes the books of the others. */
  adopt(running: readonly RunningInstance[], stored: readonly StoredItem[]): void;
  instanceStarted(running: RunningInstance): void;
  /** `finalCounters` are the kernel's last ones, read before the cgroup was removed; null when nobody could read them. */
  instanceEnded(instance: string, finalCounters: KernelCounters | null): void;
  /** A dispatcher's totals since it started. */
  traffic(traffic: Demand['traffic'], epoch: string): void;
  stored(item: StoredItem): void;
  /** Records what is running up to now (it may go on running) and resolves when everything is stored. */
  stop(): Promise<void>;
}

/** An instance that is counted. */
interface Account {
  state: UsageState;
  /** Null until the running instance has been seen. */
  cgroup: CgroupPaths | null;
  recordedBootNs: number;
}

/** Ended instances that late traffic may still be counted for. */
const endedMax = 256;
const itemCharactersMax = 80;

const itemKey = (owner: Owner, item: string): string => `${ownerKey(owner)}/${item}`;

export function startMeter(options: MeterOptions): Meter {
  const { clock, site, readCounters, onFault, texts = unpacked, sampleMs = 1000, recordMs = 5000, storageRecordMs = 3_600_000 } = options;
  const writer = openRecordWriter(options.outbox, onFault);
  const running = new Map<string, Account>();
  /** States of what lies at rest, as text: each is looked at once an hour, and many small objects would keep memory from being given back. */
  const stored = new Map<string, string>();
  const ended = new Map<string, Account>();
  let sampleTimer: ReturnType<typeof setInterval> | undefined;
  let storageTimer: ReturnType<typeof setInterval> | undefined;
  let lastStorageBootNs = 0;
  let stopped = false;

  for (const state of options.seeds) {
    if (state.item === '') running.set(state.instance, { state, cgroup: null, recordedBootNs: clock.bootNs() });
    else keepStored(itemKey(state.owner, state.item), state);
  }

  function keepStored(key: string, state: UsageState): void {
    stored.set(key, texts.pack(JSON.stringify(state)));
  }

  function storedAt(key: string): UsageState | null {
    const packed = stored.get(key);
    return packed === undefined ? null : (JSON.parse(texts.unpack(packed)) as UsageState);
  }

  /** The state that goes on. */
  function recordState(state: UsageState, bootNs: number, final: boolean): UsageState {
    const made = makeRecord(state, { site, bootNs: recordEndNs(state, bootNs), wallMs: clock.wallMs(), final });
    writer.put({ record: made.record, state: final ? null : made.state });
    return made.state;
  }

  function record(account: Account, final: boolean): void {
    const bootNs = clock.bootNs();
    account.state = recordState(account.state, bootNs, final);
    account.recordedBootNs = bootNs;
  }

  /** A boot time of another boot means nothing here: such a record ends where its state was last known. */
  function recordEndNs(state: UsageState, bootNs: number): number {
    return state.bootId === clock.bootId ? bootNs : Math.max(state.lastSample?.bootNs ?? 0, state.storedSinceBootNs);
  }

  function sample(account: Account): void {
    if (!account.cgroup) return;
    const counters = readCounters(account.cgroup);
    if (counters) account.state = addSample(account.state, { bootNs: clock.bootNs(), ...counters });
  }

  function sampleSafely(account: Account): void {
    try {
      sample(account);
    } catch (failure) {
      onFault(failure);
    }
  }

  function tick(): void {
    // Half a sample early, so that a timer that fires a little soon does not put the record off by a whole sample.
    const dueNs = (recordMs - sampleMs / 2) * nsPerMs;
    for (const account of running.values()) {
      sampleSafely(account);
      if (account.cgroup && clock.bootNs() - account.recordedBootNs >= dueNs) record(account, false);
    }
  }

  function storageTick(): void {
    for (const key of stored.keys()) {
      const state = storedAt(key);
      if (state?.bootId !== clock.bootId) continue;
      keepStored(key, recordState(addStorage(state, state.storedBytes, clock.bootNs()), clock.bootNs(), false));
    }
  }

  /** Timers exist only while there is something to look at. */
  function setTimers(): void {
    const sampling = !stopped && [...running.values()].some(({ cgroup }) => cgroup !== null);
    if (sampling && !sampleTimer) sampleTimer = setInterval(tick, sampleMs);
    if (!sampling && sampleTimer) sampleTimer = void clearInterval(sampleTimer);
    const storing = !stopped && stored.size > 0;
    if (storing && !storageTimer) storageTimer = setInterval(storageTick, storageRecordMs);
    if (!storing && storageTimer) storageTimer = void clearInterval(storageTimer);
  }

  function begin(instance: RunningInstance): void {
    const known = running.get(instance.instance);
    if (known?.cgroup || ended.has(instance.instance)) return;
    const account: Account = known ?? {
      state: beginUsage({
        instance: instance.instance,
        owner: instance.owner,
        release: instance.release,
        item: '',
        bootId: clock.bootId,
        bootNs: clock.bootNs(),
        restored: instance.restored,
      }),
      cgroup: null,
      recordedBootNs: 0,
    };
    account.cgroup = instance.cgroup;
    running.set(instance.instance, account);
    sampleSafely(account);
    record(account, false);
  }

  function end(instance: string, finalCounters: KernelCounters | null): void {
    const account = running.get(instance);
    if (!account) return;
    running.delete(instance);
    if (finalCounters) account.state = addSample(account.state, { bootNs: clock.bootNs(), ...finalCounters });
    else sampleSafely(account);
    account.cgroup = null;
    record(account, true);
    ended.set(instance, account);
    for (const oldest of ended.keys()) {
      if (ended.size <= endedMax) break;
      ended.delete(oldest);
    }
  }

  function beginStorage(item: StoredItem): UsageState {
    if (item.item.length > itemCharactersMax) throw new Error(`broken invariant: ${item.item} is longer than ${itemCharactersMax} characters`);
    // Unique for ever, for the same item can be removed and made again within one boot.
    lastStorageBootNs = Math.max(clock.bootNs(), lastStorageBootNs + 1);
    const begun = `${clock.bootId.slice(0, 8)}-${lastStorageBootNs.toString(36)}`;
    const instance = `storage:${item.owner.app}:${item.item}:${begun}`;
    const { owner, release } = item;
    return beginUsage({ instance, owner, release, item: item.item, bootId: clock.bootId, bootNs: lastStorageBootNs, restored: false });
  }

  /** Time at rest across a reboot was measured by nobody: the old account ends as it was, and a new one begins. */
  function closeOtherBoot(key: string): void {
    const state = storedAt(key);
    if (state === null || state.bootId === clock.bootId) return;
    stored.delete(key);
    recordState(state, clock.bootNs(), true);
  }

  function store(item: StoredItem): void {
    const key = itemKey(item.owner, item.item);
    closeOtherBoot(key);
    const known = storedAt(key);
    if (known?.storedBytes === item.bytes || (known === null && item.bytes === 0)) return;
    const state = addStorage(known ?? beginStorage(item), item.bytes, clock.bootNs());
    const next = recordState(state, clock.bootNs(), item.bytes === 0);
    if (item.bytes === 0) stored.delete(key);
    else keepStored(key, next);
  }

  return {
    adopt(instances, items) {
      for (const key of stored.keys()) closeOtherBoot(key);
      const keys = new Set(items.map(({ owner, item }) => itemKey(owner, item)));
      for (const key of stored.keys()) {
        const state = storedAt(key);
        if (state !== null && !keys.has(key)) store({ owner: state.owner, release: state.release, item: state.item, bytes: 0 });
      }
      for (const item of items) store(item);
      const alive = new Set(instances.map(({ instance }) => instance));
      for (const instance of running.keys()) if (!alive.has(instance)) end(instance, null);
      for (const instance of instances) begin(instance);
      setTimers();
    },
    instanceStarted(instance) {
      begin(instance);
      setTimers();
    },
    instanceEnded(instance, finalCounters) {
      end(instance, finalCounters);
      setTimers();
    },
    traffic(traffic, epoch) {
      for (const heard of traffic) {
        const account = running.get(heard.instance) ?? ended.get(heard.instance);
        if (!account) continue;
        const before = account.state.totals;
        account.state = addTraffic(account.state, epoch, heard);
        const { totals } = account.state;
        const grew = totals.requests > before.requests || totals.bytesIn > before.bytesIn || totals.bytesOut > before.bytesOut;
        if (grew && ended.has(heard.instance)) record(account, true);
      }
    },
    stored(item) {
      store(item);
      setTimers();
    },
    async stop() {
      stopped = true;
      setTimers();
      for (const account of running.values()) {
        if (!account.cgroup) continue;
        sampleSafely(account);
        record(account, false);
      }
      storageTick();
      await writer.close();
    },
  };
}
