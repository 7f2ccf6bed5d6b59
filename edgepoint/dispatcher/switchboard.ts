import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { nsPerMs } from '../../kit/units.ts';
import type { DispatcherCalls, Route } from '../model/calls.ts';
import { appFailed, notInTime, roomFull, spendingStopped, unknownHost } from './answers.ts';
import type { OwnAnswer } from './answers.ts';
import { chooseInstance } from './choose-instance.ts';
import type { Choice } from './choose-instance.ts';
import { chooseRelease } from './choose-release.ts';
import { Drains } from './drains.ts';
import { AppState } from './fleet.ts';
import type { InstanceState, RouteTerms } from './fleet.ts';
import { wellAsleep } from './health-check.ts';
import { limits } from './limits.ts';
import { WaitingRoom } from './waiting-room.ts';

/** A request that wants an instance. */
export interface Waiter {
  readonly host: string;
  readonly hostName: string;
  /** It is no use of the app: an app that gets nothing else goes to sleep. */
  quiet: boolean;
  /** Its place in the waiting room; null while it does not wait and never has. */
  hold: Hold | null;
  /** Which release it goes to has been drawn, or is not to be: from now on it is the one that serves. */
  drawn: boolean;
  /** It has its place at this instance (counted as outstanding until `release`). */
  assign(app: AppState, instance: InstanceState): void;
  refuse(answer: OwnAnswer): void;
  /** The answer when an app with these terms is to be asked elsewhere; null: it is asked here. */
  elsewhere(terms: RouteTerms): OwnAnswer | null;
  /** Whether it asks for this path in order to learn if the app is well. */
  isHealthCheck(path: string): boolean;
  /** The instance it returns to (`InstanceState.affinity`); '' when it came from none. Asked only where clients return. */
  affinity(): string;
}

export interface Hold {
  readonly sinceMs: number;
  /** The waiting room's queue; null when it is not in the room now. */
  queue: string | null;
  timer: ReturnType<typeof setTimeout> | null;
}

/** What the switchboard tells. */
export interface SwitchboardNews {
  /** `urgent`: requests begin to wait. */
  demandChanged(app: AppState, urgent: boolean): void;
  suspect(instance: string, reason: string): void;
  /** An instance fails where others of its app do not: it goes behind them for a while. */
  outlier(instance: string, forMs: number): void;
  /** How long a request was held, and whether an instance was found. */
  held(ms: number, served: boolean): void;
}

export interface SwitchboardClock {
  readonly nowMs: () => number;
  readonly nowBootNs: () => number;
  readonly nowWallMs: () => number;
  /** 0 to below 1, another at each call. */
  readonly chance: () => number;
}

/** Requests that came before the first table wait here. */
const beforeRoutes = '';

/** The table of routes, who waits for what, and who is given which instance. One door for all changes of an instance's way. */
export class Switchboard implements Omit<DispatcherCalls, 'drain'> {
  private readonly apps = new Map<string, AppState>();
  private readonly byHost = new Map<string, AppState>();
  private readonly byInstance = new Map<string, AppState>();
  private readonly room = new WaitingRoom<Waiter>({ perApp: limits.waitingPerApp, inAll: limits.waitingInAll });
  private readonly drains = new Drains();
  private readonly news: SwitchboardNews;
  private readonly clock: SwitchboardClock;
  private routesCame = false;
  private boot = { atMs: -Infinity, ns: 0 };

  constructor(news: SwitchboardNews, clock: SwitchboardClock) {
    this.news = news;
    this.clock = clock;
  }

  get waiting(): number {
    return this.room.size;
  }

  waitingFor(app: AppState): number {
    return this.room.waiting(app.key);
  }

  allApps(): Iterable<AppState> {
    return this.apps.values();
  }

  get ready(): boolean {
    return this.routesCame;
  }

  // ---- requests ----

  /** Gives the request an instance now or later, or refuses it. `again`: it had its turn before and goes first. */
  submit(waiter: Waiter, again = false): void {
    if (!this.routesCame) return this.enter(waiter, beforeRoutes, limits.firstRoutesHoldMs, null);
    const app = this.byHost.get(waiter.hostName);
    if (app === undefined || app.terms === null) return waiter.refuse(unknownHost(waiter.host));
    const elsewhere = waiter.elsewhere(app.terms);
    if (elsewhere !== null) return waiter.refuse(elsewhere);
    if (app.terms.stop !== undefined) return waiter.refuse(this.unable(app.terms));
    const { healthPath, status } = app.terms;
    if (healthPath !== undefined && waiter.isHealthCheck(healthPath)) {
      waiter.quiet = true;
      if (app.instances.size === 0 && status === 'ready') return waiter.refuse(wellAsleep);
    }
    const canary = waiter.drawn ? null : this.draw(waiter, app, app.terms);
    if (canary?.terms) return this.ask(waiter, canary, canary.terms, false);
    if (app.terms.status !== 'failed') return this.ask(waiter, app, app.terms, again);
    app.count(503);
    waiter.refuse(this.unable(app.terms));
  }

  private unable({ stop, reason }: Pick<Route, 'stop' | 'reason'>): OwnAnswer {
    return stop === undefined ? appFailed(reason) : spendingStopped(stop, this.clock.nowWallMs());
  }

  /** The canary, when this request is to be its; null: the release that serves has it. */
  private draw(waiter: Waiter, serving: AppState, { canary, sticky }: RouteTerms): AppState | null {
    waiter.drawn = true;
    const app = canary === undefined ? undefined : this.apps.get(canary.key);
    if (canary === undefined || app === undefined) return null;
    const affinity = sticky === true ? waiter.affinity() : '';
    const returnsTo = affinity === '' ? null : serving.hasAffinity(affinity) ? 'serving' : app.hasAffinity(affinity) ? 'canary' : null;
    const choice = chooseRelease({ percent: canary.percent, canary: app.terms?.status ?? 'away', returnsTo, chance: this.clock.chance() });
    if (choice.missed) {
      app.count(503);
      this.news.demandChanged(app, false);
    }
    return choice.canary ? app : null;
  }

  private ask(waiter: Waiter, app: AppState, terms: RouteTerms, first: boolean): void {
    if (first || this.room.waiting(app.key) === 0) {
      const { chosen } = this.choose(waiter, app, terms);
      if (chosen !== null) return this.give(waiter, app, chosen);
    }
    this.enter(waiter, app.key, app.isCanary ? Math.min(terms.holdMs, limits.canaryHoldMs) : terms.holdMs, app);
  }

  /** A request that waits no longer: its client has gone. */
  leave(waiter: Waiter): void {
    const queue = waiter.hold?.queue ?? null;
    this.stopWaiting(waiter);
    const app = queue === null ? undefined : this.apps.get(queue);
    if (app !== undefined) this.news.demandChanged(app, false);
  }

  /** An exchange or its attempt is over: its place is free. */
  release(app: AppState, instance: InstanceState): void {
    instance.outstanding -= 1;
    if (instance.outstanding < 0) throw new Error('broken invariant: a place is freed once');
    app.ended();
    this.drains.check(instance);
    this.serve(app);
    this.news.demandChanged(app, false);
  }

  /** An instance could not be reached, or broke off before it answered: it is left alone for a moment. */
  suspect(app: AppState, instance: InstanceState, reason: string): void {
    instance.closeIdle();
    if (instance.suspect) return;
    instance.suspect = true;
    this.answered(app, instance, null);
    this.news.suspect(instance.instance, reason);
    setTimeout(() => {
      instance.suspect = false;
      this.serve(app);
    }, limits.suspectMs);
  }

  /** The final status that an instance answered with; null when it gave none although it could be asked. */
  answered(app: AppState, instance: InstanceState, status: number | null): void {
    const nowBootNs = this.nowBootNs();
    if (app.noteAnswer(instance, status, nowBootNs)) this.news.outlier(instance.instance, (instance.outlierUntilBootNs - nowBootNs) / nsPerMs);
  }

  // ---- tunnels ----

  tunnelOpened(app: AppState): void {
    this.news.demandChanged(app, false);
  }

  tunnelClosed(app: AppState, instance: InstanceState): void {
    this.drains.check(instance);
    this.news.demandChanged(app, false);
  }

  /** A parked tunnel has something for its instance (`waits`), or has delivered it. */
  tunnelWaits(app: AppState, waits: boolean): void {
    app.waitingTunnels += waits ? 1 : -1;
    this.news.demandChanged(app, waits);
  }

  /** A byte went in or out. */
  touched(app: AppState, instance: InstanceState): void {
    instance.lastActiveBootNs = this.nowBootNs();
    this.news.demandChanged(app, false);
  }

  // ---- the head's orders ----

  routes(routes: readonly Route[]): Promise<void> {
    const named = new Set(routes.map(({ owner }) => ownerKey(owner)));
    for (const app of this.apps.values()) if (!named.has(app.key)) this.remove(app);
    for (const route of routes) this.setRoute(route);
    this.routesCame = true;
    for (const waiter of this.room.leaveAll(beforeRoutes)) {
      if (waiter.hold !== null) waiter.hold.queue = null;
      this.stopWaiting(waiter);
      this.submit(waiter);
    }
    return Promise.resolve();
  }

  route(route: Route): Promise<void> {
    this.setRoute(route);
    return Promise.resolve();
  }

  removeRoute(owner: Owner): Promise<void> {
    const app = this.apps.get(ownerKey(owner));
    if (app !== undefined) this.remove(app);
    return Promise.resolve();
  }

  /** No new exchange for the instance; the answer comes when nothing is under way, or after `timeoutMs` (it is then open again). */
  drain(order: { instance: string; park: boolean; timeoutMs: number }): Promise<{ drained: boolean }> {
    const found = this.findInstance(order.instance);
    // An instance that is not in the table is given nothing.
    if (found === undefined) return Promise.resolve({ drained: true });
    const { app, state } = found;
    return this.drains.begin(state, { ...order, reopen: () => this.reopen(app, state) });
  }

  unpark(order: { instance: string }): Promise<void> {
    const found = this.findInstance(order.instance);
    if (found !== undefined) {
      this.drains.end(found.state, false);
      this.reopen(found.app, found.state);
    }
    return Promise.resolve();
  }

  // ---- inside ----

  /** To a millisecond: the boot clock costs more to read than the other, and several times for each request. */
  private nowBootNs(): number {
    const nowMs = this.clock.nowMs();
    if (nowMs - this.boot.atMs >= 1) this.boot = { atMs: nowMs, ns: this.clock.nowBootNs() };
    return this.boot.ns;
  }

  private choose(waiter: Waiter, app: AppState, terms: RouteTerms): Choice<InstanceState> {
    const affinity = terms.sticky === true ? waiter.affinity() : '';
    return this.chooseOf(app, terms, affinity === '' ? null : (instance) => instance.affinity === affinity);
  }

  private chooseOf(app: AppState, { concurrency, slowStartMs }: RouteTerms, wanted: ((instance: InstanceState) => boolean) | null): Choice<InstanceState> {
    return chooseInstance(app.instances.values(), { concurrency, slowStartNs: (slowStartMs ?? 0) * nsPerMs, nowBootNs: this.nowBootNs(), wanted });
  }

  private give(waiter: Waiter, app: AppState, instance: InstanceState): void {
    instance.outstanding += 1;
    app.begun(this.room.waiting(app.key));
    if (!waiter.quiet) instance.lastActiveBootNs = this.nowBootNs();
    this.news.demandChanged(app, false);
    waiter.assign(app, instance);
  }

  private enter(waiter: Waiter, queue: string, holdMs: number, app: AppState | null): void {
    const refusal = this.room.enter(queue, waiter);
    if (refusal !== '') return app?.isCanary ? this.submit(waiter, true) : waiter.refuse(roomFull(refusal));
    const sinceMs = waiter.hold?.sinceMs ?? this.clock.nowMs();
    const leftMs = Math.max(0, sinceMs + holdMs - this.clock.nowMs());
    waiter.hold = { sinceMs, queue, timer: setTimeout(() => this.giveUp(waiter, app), leftMs) };
    if (app !== null) this.news.demandChanged(app, this.room.waiting(queue) === 1);
  }

  private giveUp(waiter: Waiter, app: AppState | null): void {
    const heldMs = this.clock.nowMs() - (waiter.hold?.sinceMs ?? 0);
    this.leave(waiter);
    app?.count(503);
    if (app?.isCanary) return this.submit(waiter, true);
    this.news.held(heldMs, false);
    waiter.refuse(notInTime(heldMs, this.whyNone(app)));
  }

  private whyNone(app: AppState | null): string {
    if (app === null || app.terms === null) return 'the table of applications has not come yet';
    if (app.terms.status === 'preparing') return 'its first release is being prepared';
    return this.chooseOf(app, app.terms, null).reason;
  }

  private stopWaiting(waiter: Waiter): void {
    const { hold } = waiter;
    if (hold === null) return;
    if (hold.timer !== null) clearTimeout(hold.timer);
    hold.timer = null;
    if (hold.queue !== null) this.room.leave(hold.queue, waiter);
    hold.queue = null;
  }

  /** Gives free places to those who wait, the longest first. */
  private serve(app: AppState): void {
    const { terms } = app;
    if (terms === null) return;
    for (let waiter = this.room.first(app.key); waiter !== undefined; waiter = this.room.first(app.key)) {
      const { chosen } = this.choose(waiter, app, terms);
      if (chosen === null) return;
      this.stopWaiting(waiter);
      this.news.held(this.clock.nowMs() - (waiter.hold?.sinceMs ?? 0), true);
      this.give(waiter, app, chosen);
    }
  }

  /** What waited for a canary is answered by the release that serves. */
  private refuseAll(app: AppState, answer: (waiter: Waiter) => OwnAnswer): void {
    for (const waiter of this.room.leaveAll(app.key)) {
      if (waiter.hold !== null) waiter.hold.queue = null;
      this.stopWaiting(waiter);
      if (app.isCanary) this.submit(waiter, true);
      else waiter.refuse(answer(waiter));
    }
  }

  private setRoute(route: Route): void {
    const key = ownerKey(route.owner);
    const app = this.apps.get(key) ?? new AppState(key);
    this.apps.set(app.key, app);
    this.removeHosts(app);
    app.setTerms(route);
    for (const host of app.hosts) this.byHost.set(host, app);
    for (const forgotten of app.setInstances(route.instances, this.clock.nowBootNs())) this.byInstance.delete(forgotten);
    for (const { instance } of route.instances) this.byInstance.set(instance, app);
    for (const state of app.departed.values()) this.drains.check(state);
    if (route.status === 'failed') this.refuseAll(app, () => this.unable(route));
    this.serve(app);
    this.news.demandChanged(app, false);
  }

  private remove(app: AppState): void {
    this.removeHosts(app);
    app.setInstances([], this.clock.nowBootNs());
    app.terms = null;
    for (const state of app.departed.values()) {
      state.cutTunnels();
      this.drains.end(state, true);
      this.byInstance.delete(state.instance);
    }
    this.apps.delete(app.key);
    this.refuseAll(app, (waiter) => unknownHost(waiter.host));
    this.news.demandChanged(app, false);
  }

  private removeHosts(app: AppState): void {
    for (const host of app.hosts) if (this.byHost.get(host) === app) this.byHost.delete(host);
  }

  private findInstance(instance: string): { app: AppState; state: InstanceState } | undefined {
    const app = this.byInstance.get(instance);
    const state = app?.find(instance);
    return app === undefined || state === undefined ? undefined : { app, state };
  }

  private reopen(app: AppState, state: InstanceState): void {
    state.way = 'open';
    state.parked = false;
    for (const tunnel of state.tunnels) tunnel.unpark();
    this.serve(app);
    this.news.demandChanged(app, false);
  }
}
