import { nsPerSecond } from '../kit/units.ts';
import { ownerKey } from '../kit/ids.ts';
import type { BootOrder, BoxOrder, FreezeTaken, KernelCounters, RestoredCalls, RunningInstance, SnapdCalls } from '../edgepoint/model/calls.ts';
import { type FrozenRoom, heldShare, type Holder, pagerFromBytes } from '../edgepoint/model/frozen.ts';
import type { SimulatedApp } from './demand.ts';
import type { VirtualTime } from './virtual-time.ts';

/** What an app's instances held and were started for, up to now. */
export interface AppMachineUsage {
  memoryByteSeconds: number;
  instanceSeconds: number;
  frozenSeconds: number;
  wakes: number;
}

interface Box {
  readonly app: SimulatedApp;
  readonly running: RunningInstance;
  frozen: boolean;
  /** Up to when its usage is counted. */
  countedNs: number;
}

/** Milliseconds that the real one takes (docs/MEASURED.md). */
/** A program without a handler for SIGTERM (decision 138). */
const stopMs = 110;
const thawMs = 2;
const freezeMsPerGibibyte: Readonly<Record<Holder, number>> = { zram: 1700, pager: 3800 };
/** Of a frozen instance's memory: what stays its own, and what is held for it. */
const frozenOwnShare = 0.02;
const frozenHeldShare: Readonly<Record<Holder, number>> = { zram: 0.47, pager: 0.18 };

/** restored and snapd of the simulated edgepoint: everything succeeds, and takes the time that was measured. */
export class Machine {
  readonly restored: RestoredCalls;
  readonly snapd: SnapdCalls;
  readonly usage = new Map<string, AppMachineUsage>();
  private readonly boxes = new Map<string, Box>();
  private readonly time: VirtualTime;
  private readonly appOf: (key: string) => SimulatedApp;
  private readonly frozenBytes: number;

  constructor(time: VirtualTime, appOf: (key: string) => SimulatedApp, frozenBytes: number) {
    this.time = time;
    this.appOf = appOf;
    this.frozenBytes = frozenBytes;
    this.restored = {
      boot: (order) => this.start(order, this.appOf(ownerKey(order.owner)).coldBootMs, false),
      restore: (order) => this.start(order, this.appOf(ownerKey(order.owner)).restoreMs, true),
      freeze: ({ instance }) => this.freeze(instance),
      thaw: ({ instance }) => this.thaw(instance),
      stop: ({ instance }) => this.stop(instance),
      list: async () => [...this.boxes.values()].map(({ running }) => running),
    };
    this.snapd = {
      snapshot: () => Promise.reject(new Error('broken invariant: no app of the simulation keeps its state')),
      discard: () => Promise.resolve(),
    };
  }

  get instances(): number {
    return this.boxes.size;
  }

  get frozen(): number {
    return [...this.boxes.values()].filter((box) => box.frozen).length;
  }

  /** Memory of all instances, and what is held for those that are frozen. */
  get heldBytes(): number {
    let bytes = 0;
    for (const box of this.boxes.values()) bytes += ownBytes(box) + heldBytesOf(box);
    return bytes;
  }

  frozenRoom(): FrozenRoom {
    let held = 0;
    for (const box of this.boxes.values()) held += heldBytesOf(box);
    const leftBytes = Math.max(0, this.frozenBytes - held);
    return { zramBytes: leftBytes / heldShare.zram, pagerBytes: leftBytes / heldShare.pager };
  }

  /** Usage up to now, of instances that run as well. */
  count(): void {
    for (const box of this.boxes.values()) this.countBox(box);
  }

  usageOf(key: string): AppMachineUsage {
    const known = this.usage.get(key);
    if (known !== undefined) return known;
    const usage = { memoryByteSeconds: 0, instanceSeconds: 0, frozenSeconds: 0, wakes: 0 };
    this.usage.set(key, usage);
    return usage;
  }

  private async start(order: BoxOrder | BootOrder, tookMs: number, restored: boolean): Promise<RunningInstance> {
    const app = this.appOf(ownerKey(order.owner));
    const none = '';
    const running: RunningInstance = {
      instance: order.instance,
      owner: order.owner,
      release: order.release,
      pid: 1,
      address: `10.0.${this.boxes.size >> 8}.${this.boxes.size & 255}`,
      tookMs,
      stepsMs: {},
      cgroup: { version: 2, cpu: none, memory: none, pids: none, freezer: none },
      logPath: none,
      logStartBytes: 0,
      restored,
    };
    this.boxes.set(order.instance, { app, running, frozen: false, countedNs: this.time.nowNs });
    this.usageOf(ownerKey(order.owner)).wakes += 1;
    await this.time.pass(tookMs);
    return running;
  }

  private async stop(instance: string): Promise<KernelCounters | null> {
    await this.time.pass(stopMs);
    const box = this.boxes.get(instance);
    if (box === undefined) return null;
    this.countBox(box);
    this.boxes.delete(instance);
    return { cpuNs: 0, memoryBytes: box.app.residentBytes };
  }

  private async freeze(instance: string): Promise<FreezeTaken> {
    const box = this.found(instance);
    this.countBox(box);
    box.frozen = true;
    const tookMs = (box.app.residentBytes / 2 ** 30) * freezeMsPerGibibyte[holderOf(box.app)];
    await this.time.pass(tookMs);
    return { memoryBytes: box.app.residentBytes, givenBackBytes: box.app.residentBytes - ownBytes(box), stoppedMs: 0, tookMs };
  }

  private async thaw(instance: string): Promise<{ tookMs: number }> {
    const box = this.found(instance);
    this.countBox(box);
    box.frozen = false;
    await this.time.pass(thawMs);
    return { tookMs: thawMs };
  }

  private found(instance: string): Box {
    const box = this.boxes.get(instance);
    if (box === undefined) throw new Error(`no such instance: ${instance}`);
    return box;
  }

  private countBox(box: Box): void {
    const seconds = (this.time.nowNs - box.countedNs) / nsPerSecond;
    const usage = this.usageOf(ownerKey(box.running.owner));
    usage.memoryByteSeconds += ownBytes(box) * seconds;
    if (box.frozen) usage.frozenSeconds += seconds;
    else usage.instanceSeconds += seconds;
    box.countedNs = this.time.nowNs;
  }
}

/** What the kernel counts for it, and its provider is charged for. */
function ownBytes(box: Box): number {
  return box.frozen ? box.app.residentBytes * frozenOwnShare : box.app.residentBytes;
}

function heldBytesOf(box: Box): number {
  return box.frozen ? box.app.residentBytes * frozenHeldShare[holderOf(box.app)] : 0;
}

function holderOf(app: SimulatedApp): Holder {
  return app.residentBytes >= pagerFromBytes ? 'pager' : 'zram';
}
