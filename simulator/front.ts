import { ownerKey } from '../kit/ids.ts';
import type { Owner } from '../kit/ids.ts';
import { nsPerMs } from '../kit/units.ts';
import { chooseInstance } from '../edgepoint/dispatcher/choose-instance.ts';
import type { Candidate, Choice } from '../edgepoint/dispatcher/choose-instance.ts';
import { limits } from '../edgepoint/dispatcher/limits.ts';
import type { Demand, Route } from '../edgepoint/model/calls.ts';
import type { DispatcherPort } from '../edgepoint/resources/ports.ts';
import type { VirtualTime } from './virtual-time.ts';

/** What becomes of a request. Times in ns. */
export interface RequestOutcomes {
  /** It is under way in an instance, after so long a wait. */
  begun(owner: Owner, waitNs: number): void;
  refused(owner: Owner, reason: string): void;
}

interface Upstream extends Candidate {
  outstanding: number;
  unavailable: '' | 'draining';
  lastActiveNs: number;
  readonly sinceBootNs: number;
  readonly outlierUntilBootNs: 0;
  drained: ((drained: boolean) => void) | null;
}

interface Held {
  readonly sinceNs: number;
  readonly serviceNs: number;
}

interface FrontApp {
  readonly owner: Owner;
  route: Route;
  readonly upstreams: Map<string, Upstream>;
  readonly waiting: Held[];
  /** Requests that waited or were under way at once, at most, since demand was told. */
  peak: number;
}

/**
 * The local dispatcher of the simulated edgepoint: its choice of an instance and its bounds are the real ones; a connection costs
 * nothing, and a request takes its service time wherever it runs.
 */
export class Front implements DispatcherPort {
  private readonly apps = new Map<string, FrontApp>();
  private readonly changed = new Set<FrontApp>();
  private telling = false;
  private readonly time: VirtualTime;
  private readonly outcomes: RequestOutcomes;
  private readonly tell: (demand: Demand) => void;

  constructor(time: VirtualTime, outcomes: RequestOutcomes, tell: (demand: Demand) => void) {
    this.time = time;
    this.outcomes = outcomes;
    this.tell = tell;
  }

  /** A request of an end user. */
  ask(owner: Owner, serviceNs: number): void {
    const app = this.apps.get(ownerKey(owner));
    if (app === undefined) throw new Error(`broken invariant: ${ownerKey(owner)} has no route`);
    if (app.route.status === 'failed') return this.outcomes.refused(owner, app.route.reason);
    const { chosen } = app.waiting.length > 0 ? { chosen: null } : this.choose(app);
    if (chosen !== null) return this.begin(app, chosen, { sinceNs: this.time.nowNs, serviceNs });
    if (app.waiting.length >= limits.waitingPerApp) return this.outcomes.refused(owner, 'the waiting room is full');
    app.waiting.push({ sinceNs: this.time.nowNs, serviceNs });
    this.demandChanged(app, app.waiting.length === 1);
  }

  route(route: Route): void {
    const key = ownerKey(route.owner);
    const app = this.apps.get(key) ?? { owner: route.owner, route, upstreams: new Map<string, Upstream>(), waiting: [], peak: 0 };
    this.apps.set(key, app);
    app.route = route;
    const told = new Set(route.instances.map(({ instance }) => instance));
    for (const [id, upstream] of app.upstreams) if (!told.has(id) && upstream.outstanding === 0) app.upstreams.delete(id);
    for (const id of told) if (!app.upstreams.has(id)) app.upstreams.set(id, { instance: id, outstanding: 0, unavailable: '', lastActiveNs: this.time.nowNs, sinceBootNs: this.time.nowNs, outlierUntilBootNs: 0, drained: null });
    if (route.status === 'failed') {
      for (const _ of app.waiting.splice(0)) this.outcomes.refused(app.owner, route.reason);
      this.demandChanged(app, false);
    } else this.serveWaiting(app);
  }

  removeRoute(owner: Owner): void {
    this.apps.delete(ownerKey(owner));
  }

  async drain(order: { instance: string; timeoutMs: number }): Promise<boolean> {
    this.time.settle();
    const upstream = this.find(order.instance);
    if (upstream === undefined) return true;
    upstream.unavailable = 'draining';
    if (upstream.outstanding === 0) return true;
    return new Promise((resolve) => {
      const forget = this.time.at(this.time.nowNs + order.timeoutMs * nsPerMs, () => upstream.drained?.(false));
      upstream.drained = (drained) => {
        forget();
        upstream.drained = null;
        if (!drained) upstream.unavailable = '';
        this.time.settle();
        resolve(drained);
      };
    });
  }

  async unpark(instance: string): Promise<void> {
    const upstream = this.find(instance);
    if (upstream !== undefined) upstream.unavailable = '';
    for (const app of this.apps.values()) if (app.upstreams.has(instance)) this.serveWaiting(app);
  }

  private find(instance: string): Upstream | undefined {
    for (const app of this.apps.values()) {
      const upstream = app.upstreams.get(instance);
      if (upstream !== undefined) return upstream;
    }
    return undefined;
  }

  private choose({ upstreams, route }: FrontApp): Choice<Upstream> {
    return chooseInstance(upstreams.values(), { concurrency: route.concurrency, slowStartNs: (route.slowStartMs ?? 0) * nsPerMs, nowBootNs: this.time.nowNs, wanted: null });
  }

  private serveWaiting(app: FrontApp): void {
    for (;;) {
      const [next] = app.waiting;
      if (next === undefined) return;
      // It left when its time was over.
      if (this.time.nowNs - next.sinceNs > app.route.holdMs * nsPerMs) {
        app.waiting.shift();
        this.outcomes.refused(app.owner, 'nothing could take it in time');
        continue;
      }
      const { chosen } = this.choose(app);
      if (chosen === null) return;
      app.waiting.shift();
      this.begin(app, chosen, next);
    }
  }

  private begin(app: FrontApp, upstream: Upstream, request: Held): void {
    upstream.outstanding += 1;
    upstream.lastActiveNs = this.time.nowNs;
    app.peak = Math.max(app.peak, loadOf(app));
    this.outcomes.begun(app.owner, this.time.nowNs - request.sinceNs);
    this.time.at(this.time.nowNs + request.serviceNs, () => this.end(app, upstream));
    this.demandChanged(app, false);
  }

  private end(app: FrontApp, upstream: Upstream): void {
    upstream.outstanding -= 1;
    upstream.lastActiveNs = this.time.nowNs;
    if (upstream.outstanding === 0) upstream.drained?.(true);
    this.serveWaiting(app);
    this.demandChanged(app, false);
  }

  /** As the real one tells: at once when requests begin to wait, otherwise all changes of 50 ms together. */
  private demandChanged(app: FrontApp, urgent: boolean): void {
    if (urgent) {
      this.changed.delete(app);
      this.tell(this.demandOf(app));
      return;
    }
    this.changed.add(app);
    if (this.telling) return;
    this.telling = true;
    this.time.at(this.time.nowNs + limits.demandMs * nsPerMs, () => {
      this.telling = false;
      const told = [...this.changed];
      this.changed.clear();
      for (const one of told) this.tell(this.demandOf(one));
    });
  }

  private demandOf(app: FrontApp): Demand {
    const instances = [...app.upstreams.values()].map(({ instance, outstanding, lastActiveNs }) => ({ instance, outstanding, tunnels: 0, lastActiveBootNs: lastActiveNs }));
    const peak = Math.max(app.peak, loadOf(app));
    app.peak = 0;
    return { owner: app.owner, waiting: app.waiting.length, instances, peak, epoch: 'simulated', traffic: [] };
  }
}

function loadOf({ upstreams, waiting }: FrontApp): number {
  let load = waiting.length;
  for (const { outstanding } of upstreams.values()) load += outstanding;
  return load;
}
