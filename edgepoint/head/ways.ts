import type { PeerConnection } from '../../host/calls.ts';
import { codeOf } from '../../kit/errors.ts';
import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import type { Demand, Route } from '../model/calls.ts';
import type { DispatcherPort } from '../resources/ports.ts';

/** The kernel path, which restored keeps: told of the apps with addresses of their own, and of no others. */
export class KernelPathLink implements DispatcherPort {
  /** What it was told last, or is to be told when it is there. */
  private readonly routes = new Map<string, Route>();
  private begun = false;
  private readonly connection: Pick<PeerConnection, 'call' | 'up'>;
  private readonly onFault: (method: string, failure: unknown) => void;

  constructor(connection: Pick<PeerConnection, 'call' | 'up'>, onFault: (method: string, failure: unknown) => void) {
    this.connection = connection;
    this.onFault = onFault;
  }

  /** Every app is known: from now on it is told. Again whenever restored has come back. */
  begin(): void {
    this.begun = true;
    this.order('ownRoutes', [...this.routes.values()]);
  }

  /** restored has gone, or come: what stood there before is to be told anew. */
  pause(): void {
    this.begun = false;
  }

  route(route: Route): void {
    const key = ownerKey(route.owner);
    const known = this.routes.has(key);
    if (route.own === undefined && !known) return;
    if (route.own === undefined) this.routes.delete(key);
    else this.routes.set(key, route);
    this.order('ownRoute', route);
  }

  removeRoute(owner: Owner): void {
    if (this.routes.delete(ownerKey(owner))) this.order('removeOwnRoute', owner);
  }

  async drain(order: { instance: string; park: boolean; timeoutMs: number }): Promise<boolean> {
    if (!this.leads(order.instance)) return true;
    try {
      const marginMs = 5000;
      return ((await this.connection.call('ownDrain', order, { timeoutMs: order.timeoutMs + marginMs })) as { drained: boolean }).drained;
    } catch (failure) {
      this.fault('ownDrain', failure);
      return false;
    }
  }

  async unpark(instance: string): Promise<void> {
    if (!this.leads(instance)) return;
    await this.connection.call('ownUnpark', { instance }).catch((failure: unknown) => this.fault('ownUnpark', failure));
  }

  private leads(instance: string): boolean {
    for (const { instances } of this.routes.values()) if (instances.some((one) => one.instance === instance)) return true;
    return false;
  }

  private order(method: string, params: unknown): void {
    if (!this.begun || !this.connection.up) return;
    this.connection.call(method, params).catch((failure: unknown) => this.fault(method, failure));
  }

  private fault(method: string, failure: unknown): void {
    // An edgepoint without a range of own addresses has no kernel path.
    if (!['peer-gone', 'no-such-call'].includes(codeOf(failure))) this.onFault(method, failure);
  }
}

/** All ways to an instance at once: the shared address, by the local dispatcher, own addresses, and accesses of its provider. */
export class Ways implements DispatcherPort {
  private readonly ways: readonly DispatcherPort[];

  constructor(...ways: readonly DispatcherPort[]) {
    this.ways = ways;
  }

  route(route: Route): void {
    for (const way of this.ways) way.route(route);
  }

  removeRoute(owner: Owner): void {
    for (const way of this.ways) way.removeRoute(owner);
  }

  /** When one of them still has something under way, the others take again what is new. */
  async drain(order: { instance: string; park: boolean; timeoutMs: number }): Promise<boolean> {
    const drained = await Promise.all(this.ways.map((way) => way.drain(order)));
    if (drained.every(Boolean)) return true;
    if (drained.some(Boolean)) await this.unpark(order.instance);
    return false;
  }

  async unpark(instance: string): Promise<void> {
    await Promise.all(this.ways.map((way) => way.unpark(instance)));
  }
}

export type DemandSource = 'shared' | 'own';

/** What both ways tell of an app, put together. Remembers only apps of which both have told. */
export class Demands {
  private readonly told: Record<DemandSource, Map<string, Demand>> = { shared: new Map(), own: new Map() };

  /** The whole demand of the app of which one way tells; of one that has no own address (any more) nothing is remembered. */
  note(source: DemandSource, demand: Demand, hasOwn: boolean): Demand {
    const key = ownerKey(demand.owner);
    const other = this.told[source === 'shared' ? 'own' : 'shared'].get(key);
    if (hasOwn) this.told[source].set(key, demand);
    else for (const told of Object.values(this.told)) told.delete(key);
    return other === undefined ? demand : addDemand(demand, other);
  }

  /** One way has gone: nothing waits there any more. */
  forget(source: DemandSource): void {
    this.told[source].clear();
  }
}

/** Traffic is that of the first alone: each way's is told by itself. */
function addDemand(one: Demand, other: Demand): Demand {
  const instances = new Map(other.instances.map((instance) => [instance.instance, instance]));
  for (const instance of one.instances) {
    const more = instances.get(instance.instance);
    instances.set(instance.instance, {
      instance: instance.instance,
      outstanding: instance.outstanding + (more?.outstanding ?? 0),
      tunnels: instance.tunnels + (more?.tunnels ?? 0),
      lastActiveBootNs: Math.max(instance.lastActiveBootNs, more?.lastActiveBootNs ?? 0),
    });
  }
  return { ...one, waiting: one.waiting + other.waiting, peak: (one.peak ?? 0) + (other.peak ?? 0), instances: [...instances.values()] };
}
