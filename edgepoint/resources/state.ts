import { assertInvariant } from '../../kit/errors.ts';
import { ownerKey, ownerOfKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { unpacked } from '../../kit/text-packer.ts';
import type { TextPacker } from '../../kit/text-packer.ts';
import type { KeptInstance, Purpose, ReleaseOrder, ServingRelease } from '../model/app.ts';
import type { OwnAddress, RouteStop, RunningInstance } from '../model/calls.ts';
import type { FrozenRoom } from '../model/frozen.ts';
import { enterMode } from '../model/instance.ts';
import type { Instance, InstanceMode } from '../model/instance.ts';
import { offeringOf } from '../model/orders.ts';

/**
 * What the resource manager knows, in memory. The apps' entries are changed in place, but only through the functions here and
 * in `changes.ts`; an instance's mode only through `moveInstance`, which goes through the one door of the model.
 */
export interface InstanceEntry {
  facts: Instance;
  readonly purpose: Purpose;
  readonly memoryBytes: number;
  /** Where it listens. */
  readonly port: number;
  /** What restored said of it; null until it runs. */
  running: RunningInstance | null;
  outstanding: number;
  tunnels: number;
  /** Accesses of its provider are open. */
  accessed: boolean;
  lastActiveBootNs: number;
  /** Since when requests have been under way without a break, as far as was told; null: none is. */
  busySinceBootNs: number | null;
  /** What it does that nobody asked for, as the end of "it ..."; and when it was last seen to. */
  work: string;
  workedBootNs: number;
  /** While it drains in order to be frozen. */
  freezing: boolean;
  /** It stands still, or is about to: what ends with a thaw. The promise is of the order to freeze it, and never rejects. */
  frozen: Promise<void> | null;
  cannotFreeze: boolean;
  /** Its name in usage records: one for each run, for the kernel's counters begin again with each. */
  meterId: string;
}

/** Failures to start, in a row. */
export interface Backoff {
  readonly failures: number;
  readonly untilBootNs: number;
  readonly reason: string;
}

/** Why an app is not served because of a spending cap, and since when here. */
export interface CapStop extends RouteStop {
  /** For people. */
  readonly reason: string;
  readonly sinceBootNs: number;
}

const noGaps: readonly number[] = [];
const noOrders: Orders = { desired: null, serving: null };

/** What is wanted of an app, and what serves. */
interface Orders {
  readonly desired: ReleaseOrder | null;
  readonly serving: ServingRelease | null;
}

/**
 * Both as text: thousands of apps sleep for days, and the many small objects of an order lie among what a burst of work has left behind, and
 * keep several times their own size from being given back. Most often both are of one release: what is wanted is told by how it differs.
 */
function textOf({ desired, serving }: Orders): string {
  const served = new Map<string, unknown>(Object.entries(serving?.order ?? {}));
  // A field that is missing cannot be told as a difference.
  if (desired === null || ![...served.keys()].every((field) => field in desired)) return JSON.stringify({ desired, serving });
  const differs = Object.entries(desired).filter(([field, value]) => JSON.stringify(served.get(field)) !== JSON.stringify(value));
  return JSON.stringify({ differs: Object.fromEntries(differs), serving });
}

function ordersOf(text: string): Orders {
  const { desired = null, differs, serving } = JSON.parse(text) as Orders & { readonly differs?: Partial<ReleaseOrder> };
  return { serving, desired: differs === undefined ? desired : ({ ...serving?.order, ...differs } as ReleaseOrder) };
}

/** Most apps sleep and have none: those share one empty map. */
const noInstances: ReadonlyMap<string, InstanceEntry> = new Map();

export class AppEntry {
  readonly key: string;
  status: 'preparing' | 'ready' | 'failed' = 'preparing';
  /** Why it failed, or does not sleep. */
  reason = '';
  paused = '';
  /** Why no instance may be there although it serves (hold.ts); empty otherwise. */
  held = '';
  /** Of a canary that serves: why it gets no request any more; empty otherwise. */
  stopped = '';
  /** Why it is not served because of a spending cap; null while it is. */
  capStop: CapStop | null = null;
  waiting = 0;
  /** Since when requests have been held without a break; null when none is. */
  waitingSinceBootNs: number | null = null;
  /** Accesses of its provider wait for an instance. */
  accessWaits = false;
  surplusSinceBootNs: number | null = null;
  /** Requests that waited or were under way at once, at most, of which no plan has heard yet. */
  peak = 0;
  backoff: Backoff | null = null;
  refusal: { readonly untilBootNs: number; readonly reason: string } | null = null;
  sleepFailures = 0;
  noSleepBeforeBootNs = 0;
  /** The last times it was unused for longer than its idle time, the newest last: how long, until it was wanted again. */
  gapsNs = noGaps;
  /** When it was last used; null until it has been. */
  usedBootNs: number | null = null;
  /** Restores of the template that failed in a row. */
  restoreFailures = 0;
  kept: KeptInstance | null = null;
  /** Its own address, from its first release that wanted one until it is removed. */
  own: OwnAddress | null = null;
  instances = noInstances;
  /** The text of one that rests, and what was made of it, as long as somebody looks at it. */
  #orders: Orders | string = noOrders;
  #looked: WeakRef<Orders> | null = null;

  readonly #texts: TextPacker;

  constructor(key: string, texts: TextPacker = unpacked) {
    this.key = key;
    this.#texts = texts;
  }

  get owner(): Owner {
    return ownerOfKey(this.key);
  }

  /** What the conduit wants; null only while the app is being removed. */
  get desired(): ReleaseOrder | null {
    return this.#look().desired;
  }

  set desired(desired: ReleaseOrder | null) {
    this.#set({ ...this.#look(), desired });
  }

  get serving(): ServingRelease | null {
    return this.#look().serving;
  }

  set serving(serving: ServingRelease | null) {
    this.#set({ ...this.#look(), serving });
  }

  #set(orders: Orders): void {
    this.#orders = orders;
    this.#looked = null;
  }

  #look(): Orders {
    if (typeof this.#orders !== 'string') return this.#orders;
    const held = this.#looked?.deref();
    if (held !== undefined) return held;
    const made = ordersOf(this.#texts.unpack(this.#orders));
    this.#looked = new WeakRef(made);
    return made;
  }

  /** From now on an app that sleeps holds its orders as text; until they are set again, whoever asks for them does not change that. */
  restIfAsleep(): void {
    if (this.instances.size > 0 || this.waiting > 0 || this.accessWaits || this.status === 'preparing') return;
    if (typeof this.#orders !== 'string') this.#orders = this.#texts.pack(textOf(this.#orders));
  }
}

export interface EdgepointEntry {
  /** Keeps the orders of apps that rest. */
  readonly texts: TextPacker;
  readonly capacityBytes: number;
  /** Memory of instances that can still be frozen. */
  readonly frozenRoom: () => FrozenRoom;
  /** Names of sealed templates that lie whole in the object store, each with the key of its app. */
  stored: ReadonlyMap<string, string>;
  /** Somebody judges what apps spend. */
  spendingKnown: boolean;
  /** The operator drains it: nobody new is sent here, and what is unused goes to sleep. */
  draining: boolean;
  readonly apps: Map<string, AppEntry>;
  /** The app of each instance; holds exactly the instances of all apps. */
  readonly appOf: Map<string, AppEntry>;
  /** Apps with at least one instance. */
  readonly active: Set<AppEntry>;
}

export function openState(capacityBytes: number, frozenRoom: () => FrozenRoom, texts: TextPacker = unpacked): EdgepointEntry {
  return { texts, capacityBytes, frozenRoom, stored: new Map(), spendingKnown: true, draining: false, apps: new Map(), appOf: new Map(), active: new Set() };
}

export function appEntry(state: EdgepointEntry, owner: Owner): AppEntry {
  const key = ownerKey(owner);
  const known = state.apps.get(key);
  if (known !== undefined) return known;
  const app = new AppEntry(key, state.texts);
  state.apps.set(key, app);
  return app;
}

/**
 * An app that is prepared and forgotten: its instances hold memory as any other's, but it is in no table of apps, so nothing is
 * planned, routed or published for it, and whoever serves under that name does not notice.
 */
export function guestEntry(owner: Owner, id: string): AppEntry {
  return new AppEntry(`${ownerKey(owner)}.${id}`);
}

/** A new instance, not yet running. */
export function addInstance(
  state: EdgepointEntry,
  app: AppEntry,
  about: { id: string; order: ReleaseOrder; purpose: Purpose; mode: InstanceMode; nowBootNs: number; reason: string; meterId?: string },
): InstanceEntry {
  assertInvariant(!state.appOf.has(about.id), `instance ${about.id} is started twice`);
  const entry: InstanceEntry = {
    facts: {
      id: about.id,
      owner: app.owner,
      release: about.order.release,
      mode: about.mode,
      sinceBootNs: about.nowBootNs,
      address: '',
      reason: about.reason,
    },
    purpose: about.purpose,
    memoryBytes: offeringOf(about.order).memoryBytes,
    port: about.order.manifest.port,
    running: null,
    outstanding: 0,
    tunnels: 0,
    accessed: false,
    lastActiveBootNs: about.nowBootNs,
    busySinceBootNs: null,
    work: '',
    workedBootNs: 0,
    freezing: false,
    frozen: null,
    cannotFreeze: false,
    meterId: about.meterId ?? about.id,
  };
  app.instances = new Map([...app.instances, [about.id, entry]]);
  state.appOf.set(about.id, app);
  state.active.add(app);
  return entry;
}

/** The only way an instance changes its mode. */
export function moveInstance(entry: InstanceEntry, mode: InstanceMode, nowBootNs: number, reason: string): void {
  entry.facts = enterMode(entry.facts, mode, nowBootNs, reason);
}

/** Forgets an instance that has ended or fallen asleep. */
export function dropInstance(state: EdgepointEntry, id: string): void {
  const app = state.appOf.get(id);
  if (app === undefined) return;
  const left = new Map([...app.instances].filter(([other]) => other !== id));
  app.instances = left.size === 0 ? noInstances : left;
  state.appOf.delete(id);
  if (app.instances.size === 0) state.active.delete(app);
}

export function findInstance(state: EdgepointEntry, id: string): { app: AppEntry; entry: InstanceEntry } | null {
  const app = state.appOf.get(id);
  const entry = app?.instances.get(id);
  return app === undefined || entry === undefined ? null : { app, entry };
}

/** Nothing waits, and nothing is known to be under way. */
export function forgetDemand(state: EdgepointEntry, nowBootNs: number): void {
  for (const app of state.apps.values()) {
    app.waiting = 0;
    app.waitingSinceBootNs = null;
  }
  for (const app of state.active) {
    for (const entry of app.instances.values()) {
      entry.outstanding = 0;
      entry.tunnels = 0;
      entry.busySinceBootNs = null;
      entry.lastActiveBootNs = nowBootNs;
    }
  }
}
