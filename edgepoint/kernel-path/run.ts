import { assertInvariant } from '../../kit/errors.ts';
import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import type { Demand, DispatcherCalls, DispatcherNews, Route } from '../model/calls.ts';
import { addressNumber } from '../model/instance-address.ts';
import { parseCounters, trafficOf } from './counters.ts';
import { changeText, elementsOf } from './elements.ts';
import type { Elements, OwnApp } from './elements.ts';
import type { FlowCount, Gate } from './gate.ts';
import type { Nftables } from './nftables.ts';
import { appNumberMax, emptyTable, tableName } from './table.ts';

/** What the kernel path acts through. */
export interface KernelPathPorts {
  readonly nftables: Nftables;
  readonly gate: Gate;
  /** Of instances: the marks of their flows lie in it. */
  readonly subnet: { readonly mark: number; readonly mask: number };
  readonly nowBootNs: () => number;
  /** Names this start: totals of traffic begin at zero with it. */
  readonly epoch: string;
  readonly tell: DispatcherNews['demand'];
  /** Calls back again and again until the returned function is called. */
  every(ms: number, callback: () => void): () => void;
  sleepMs(ms: number): Promise<void>;
  warn(text: string, fields: Record<string, unknown>): void;
}

interface Totals {
  readonly bytesIn: number;
  readonly bytesOut: number;
}

interface OwnInstance {
  /** Before it came (back) into the route. */
  readonly before: Totals;
  readonly address: string;
  lastActiveBootNs: number;
  flows: FlowCount;
  packetsIn: number;
  bytesIn: number;
  bytesOut: number;
}

interface App extends OwnApp {
  route: Route;
  readonly draining: Set<string>;
  readonly instances: Map<string, OwnInstance>;
  /** What those had counted that left the route: a frozen one comes back. Bounded; the oldest are forgotten. */
  readonly departed: Map<string, Totals>;
  /** As they stand in the kernel. */
  elements: Elements;
  held: boolean;
  told: string;
}

const noTotals: Totals = { bytesIn: 0, bytesOut: 0 };
const totalsOf = ({ before, bytesIn, bytesOut }: OwnInstance): Totals => ({ bytesIn: before.bytesIn + bytesIn, bytesOut: before.bytesOut + bytesOut });
const departedMax = 32;
const noFlows: FlowCount = { open: 0, young: 0 };
/** Between two readings of the kernel's counters, while an instance is awake: a quarter of the shortest idle time of those. */
const sampleMsMin = 50;
const sampleMsMax = 1000;
const drainLookMs = 100;

/**
 * The apps with addresses of their own, as the kernel knows them: what the head orders becomes elements of nftables maps, and what the
 * kernel counts becomes demand (decision 145). As long as nothing is awake it does no work.
 */
export class KernelPath implements DispatcherCalls {
  private readonly apps = new Map<string, App>();
  private readonly byNumber = new Map<number, App>();
  private readonly byInstance = new Map<string, App>();
  /** Those with instances. */
  private readonly awake = new Set<App>();
  private begun = false;
  private nextNumber = 1;
  private sampling: { readonly ms: number; readonly stop: () => void } | null = null;
  private reading = false;
  private readonly ports: KernelPathPorts;

  constructor(ports: KernelPathPorts) {
    this.ports = ports;
  }

  // ---- the head's orders ----

  /** The whole table. The first one after a start replaces what an earlier process has left in the kernel. */
  routes(routes: readonly Route[]): Promise<void> {
    const named = new Set(routes.map(({ owner }) => ownerKey(owner)));
    const changed = [...this.apps.values()].filter(({ route }) => !named.has(ownerKey(route.owner)));
    for (const app of changed) this.forget(app);
    for (const route of routes) changed.push(...this.take(route));
    this.apply(changed, this.begun ? '' : emptyTable);
    this.begun = true;
    for (const app of changed) this.settle(app);
    return Promise.resolve();
  }

  route(route: Route): Promise<void> {
    const changed = this.take(route);
    this.apply(changed);
    for (const app of changed) this.settle(app);
    return Promise.resolve();
  }

  removeRoute(owner: Owner): Promise<void> {
    const app = this.apps.get(ownerKey(owner));
    if (app === undefined) return Promise.resolve();
    this.forget(app);
    this.apply([app]);
    this.settle(app);
    return Promise.resolve();
  }

  /**
   * Gives the instance no new flow; those it has go on. The answer comes when none is under way any more, and whatever of them comes
   * later is a new flow; or after `timeoutMs`, and it is then given new ones again. Nothing is parked: a connection keeps its instance awake.
   */
  async drain({ instance, timeoutMs }: { instance: string; park: boolean; timeoutMs: number }): Promise<{ drained: boolean }> {
    const app = this.byInstance.get(instance);
    const address = app?.instances.get(instance)?.address;
    if (app === undefined || address === undefined) return { drained: true };
    app.draining.add(instance);
    this.apply([app]);
    const endNs = this.ports.nowBootNs() + timeoutMs * 1e6;
    for (;;) {
      const flows = (await this.ports.gate.flows(this.ports.subnet)).get(addressNumber(address)) ?? noFlows;
      if (!app.draining.has(instance) || !app.instances.has(instance)) return { drained: !app.instances.has(instance) };
      if (flows.open + flows.young === 0) {
        await this.ports.gate.forget(addressNumber(address));
        return { drained: true };
      }
      if (this.ports.nowBootNs() >= endNs) {
        await this.unpark({ instance });
        return { drained: false };
      }
      await this.ports.sleepMs(drainLookMs);
    }
  }

  unpark({ instance }: { instance: string }): Promise<void> {
    const app = this.byInstance.get(instance);
    if (app !== undefined && app.draining.delete(instance)) {
      this.apply([app]);
      this.settle(app);
    }
    return Promise.resolve();
  }

  /** Packets are held for an app (`held`), or not any more. */
  noteHeld(number: number, held: boolean): void {
    const app = this.byNumber.get(number);
    if (app === undefined) return this.ports.gate.drop(number);
    app.held = held;
    this.settle(app);
  }

  stop(): void {
    this.sampling?.stop();
    this.sampling = null;
    this.ports.gate.stop();
  }

  // ---- inside ----

  /** The app of the route, when it has an address of its own or had one until now. */
  private take(route: Route): readonly App[] {
    const key = ownerKey(route.owner);
    const known = this.apps.get(key);
    if (route.own === undefined) {
      if (known !== undefined) this.forget(known);
      return known === undefined ? [] : [known];
    }
    const app: App = known ?? { route, number: this.freeNumber(), draining: new Set(), instances: new Map(), departed: new Map(), elements: new Map(), held: false, told: '' };
    app.route = route;
    this.apps.set(key, app);
    this.byNumber.set(app.number, app);
    const listed = new Map(route.instances.map(({ instance, address }) => [instance, address]));
    for (const [instance, { address }] of app.instances) if (listed.get(instance) !== address) this.depart(app, instance);
    for (const [instance, address] of listed) {
      if (app.instances.has(instance)) continue;
      app.instances.set(instance, { before: app.departed.get(instance) ?? noTotals, address, lastActiveBootNs: this.ports.nowBootNs(), flows: noFlows, packetsIn: 0, bytesIn: 0, bytesOut: 0 });
      this.byInstance.set(instance, app);
    }
    if (app.instances.size === 0) this.awake.delete(app);
    else this.awake.add(app);
    return [app];
  }

  private freeNumber(): number {
    assertInvariant(this.byNumber.size < appNumberMax, 'there is a number for each app');
    while (this.byNumber.has(this.nextNumber)) this.nextNumber = (this.nextNumber % appNumberMax) + 1;
    const number = this.nextNumber;
    this.nextNumber = (this.nextNumber % appNumberMax) + 1;
    return number;
  }

  private depart(app: App, instance: string): void {
    const gone = app.instances.get(instance);
    if (gone === undefined) return;
    // Its last bytes: the counters go with its elements.
    this.readCounters();
    this.tellDemand(app);
    app.instances.delete(instance);
    app.departed.delete(instance);
    app.departed.set(instance, totalsOf(gone));
    for (const oldest of app.departed.keys()) {
      if (app.departed.size <= departedMax) break;
      app.departed.delete(oldest);
    }
    app.draining.delete(instance);
    this.byInstance.delete(instance);
    void this.ports.gate.forget(addressNumber(gone.address));
  }

  private forget(app: App): void {
    for (const instance of app.instances.keys()) this.depart(app, instance);
    this.apps.delete(ownerKey(app.route.owner));
    this.byNumber.delete(app.number);
    this.awake.delete(app);
  }

  /** Brings the kernel's table to what it must be for these apps; `first` goes before, in the same transaction. */
  private apply(apps: readonly App[], first = ''): void {
    const wanted = apps.map((app) => (this.byNumber.get(app.number) === app ? elementsOf(app) : new Map()));
    const text = [first, ...apps.map((app, at) => changeText(app.elements, wanted[at] ?? new Map()))].filter(Boolean).join('\n');
    for (const [at, app] of apps.entries()) app.elements = wanted[at] ?? new Map();
    if (text !== '') this.change(text);
    this.setSampling();
  }

  private change(text: string): void {
    try {
      this.ports.nftables.run(text);
    } catch (failure) {
      // Somebody else changed the table: it is made anew.
      this.ports.warn('the table of own addresses was not as it was left', { failure });
      this.ports.nftables.run([emptyTable, ...[...this.apps.values()].map((app) => changeText(new Map(), app.elements))].filter(Boolean).join('\n'));
    }
  }

  /** After a change of an app: what is held for it goes where it can, and its demand is told. */
  private settle(app: App): void {
    const gone = this.byNumber.get(app.number) !== app;
    if (gone || app.route.status === 'failed') this.ports.gate.drop(app.number);
    else if (app.held && app.route.instances.some(({ instance }) => !app.draining.has(instance))) this.ports.gate.open(app.number);
    else return this.tellDemand(app);
    app.held = false;
    this.tellDemand(app);
  }

  private tellDemand(app: App): void {
    const demand: Demand = {
      owner: app.route.owner,
      /* Packets, not requests: one wake is all that they ask for, however many. */
      waiting: app.held ? 1 : 0,
      instances: [...app.instances].map(([instance, { flows, lastActiveBootNs }]) => ({ instance, outstanding: flows.open, tunnels: 0, lastActiveBootNs })),
      epoch: this.ports.epoch,
      traffic: [...app.instances].map(([instance, counted]) => ({ instance, requests: 0, ...totalsOf(counted) })),
    };
    const text = JSON.stringify(demand);
    if (text === app.told) return;
    app.told = text;
    this.ports.tell(demand);
  }

  /** Says all demand again, to a head that has just come. */
  tellAll(): void {
    for (const app of this.apps.values()) {
      app.told = '';
      this.tellDemand(app);
    }
  }

  private setSampling(): void {
    const idle = [...this.awake].flatMap(({ route: { own } }) => (own === undefined ? [] : [own.idleMs]));
    const ms = idle.length === 0 ? 0 : Math.round(Math.min(sampleMsMax, Math.max(sampleMsMin, Math.min(...idle) / 4)));
    if (ms === (this.sampling?.ms ?? 0)) return;
    this.sampling?.stop();
    this.sampling = ms === 0 ? null : { ms, stop: this.ports.every(ms, () => void this.sample()) };
  }

  /** Reads what the kernel has counted since, and tells what has changed. Never twice at once. */
  private async sample(): Promise<void> {
    if (this.reading) return;
    this.reading = true;
    try {
      const flows = await this.ports.gate.flows(this.ports.subnet);
      this.readCounters();
      for (const app of this.awake) {
        for (const instance of app.instances.values()) {
          const now = flows.get(addressNumber(instance.address)) ?? noFlows;
          // The end of a connection is use of it too.
          if (now.open !== instance.flows.open) instance.lastActiveBootNs = this.ports.nowBootNs();
          instance.flows = now;
        }
        this.tellDemand(app);
      }
    } catch (failure) {
      this.ports.warn('what the kernel counted for own addresses cannot be read', { failure });
    } finally {
      this.reading = false;
    }
  }

  private readCounters(): void {
    const counters = parseCounters(this.ports.nftables.run(`list sets table inet ${tableName}`));
    const nowBootNs = this.ports.nowBootNs();
    for (const { instances } of this.awake) {
      for (const instance of instances.values()) {
        const traffic = trafficOf(counters, instance.address);
        if (traffic.packetsIn !== instance.packetsIn) instance.lastActiveBootNs = nowBootNs;
        Object.assign(instance, traffic);
      }
    }
  }
}
