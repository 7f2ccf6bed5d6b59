import { isCanary, ownerKey, ownerOfKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import type { Demand, Route } from '../model/calls.ts';
import { affinityOf } from './affinity.ts';
import type { Candidate } from './choose-instance.ts';
import { limits } from './limits.ts';
import { noteAnswer, notAnOutlier } from './outlier.ts';
import type { UpstreamConnection } from './upstream-connection.ts';

/** An upgraded connection, as the instance it leads to sees it. */
export interface InstanceTunnel {
  park(): void;
  unpark(): void;
  /** Cuts both sides. */
  cut(): void;
}

/**
 * What the dispatcher knows of one instance.
 *
 * Ways: open -> draining -> drained -> open. draining: no new exchange, some under way. drained: none under way; its tunnels, if any,
 * are parked. A drain that took too long goes back to open.
 */
export class InstanceState implements Candidate {
  readonly instance: string;
  address: string;
  port: number;
  way: 'open' | 'draining' | 'drained' = 'open';
  /** The head lets it go, whatever has become of a drain. */
  leaving = false;
  /** The drain keeps tunnels, parked. */
  parked = false;
  suspect = false;
  outstanding = 0;
  readonly tunnels = new Set<InstanceTunnel>();
  /** Oldest first; the newest is taken first. */
  idle: UpstreamConnection[] = [];
  /** When it came into the table for the first time. */
  readonly sinceBootNs: number;
  lastActiveBootNs: number;
  outlier = notAnOutlier;
  #affinity = '';
  requests = 0;
  bytesIn = 0;
  bytesOut = 0;

  constructor(of: { instance: string; address: string; port: number; nowBootNs: number }) {
    this.instance = of.instance;
    this.address = of.address;
    this.port = of.port;
    this.sinceBootNs = this.lastActiveBootNs = of.nowBootNs;
  }

  get unavailable(): Candidate['unavailable'] {
    if (this.way !== 'open' || this.leaving) return 'draining';
    return this.suspect ? 'suspect' : '';
  }

  get outlierUntilBootNs(): number {
    return this.outlier.untilBootNs;
  }

  /** What the cookie of a client that returns to it says. */
  get affinity(): string {
    return (this.#affinity ||= affinityOf(this.instance));
  }

  get quiet(): boolean {
    return this.outstanding === 0 && this.tunnels.size === 0;
  }

  /**
   * An idle connection no older than `idleMsMax`; those that have been idle too long are closed on the way. `endpoints`: of the client
   * whose requests alone it may carry, '' when it may carry anybody's.
   */
  takeIdle(nowMs: number, idleMsMax: number, endpoints: string): UpstreamConnection | null {
    const newest = this.idle.at(-1);
    if (newest === undefined) return null;
    if (newest.endpoints !== endpoints) return this.takeIdleOf(nowMs, idleMsMax, endpoints);
    if (nowMs - newest.sinceMs >= newest.idleMs) {
      this.closeIdle();
      return null;
    }
    if (nowMs - newest.sinceMs > idleMsMax) return null;
    this.idle.pop();
    return newest;
  }

  private takeIdleOf(nowMs: number, idleMsMax: number, endpoints: string): UpstreamConnection | null {
    const at = this.idle.findLastIndex((each) => each.endpoints === endpoints);
    const found = this.idle[at];
    if (found === undefined || nowMs - found.sinceMs > idleMsMax || nowMs - found.sinceMs >= found.idleMs) return null;
    this.idle.splice(at, 1);
    return found;
  }

  giveBack(connection: UpstreamConnection): void {
    if (this.unavailable === 'draining' || this.idle.length >= limits.idleConnectionsPerInstance) connection.end();
    else this.idle.push(connection);
  }

  closeIdle(): void {
    const idle = this.idle;
    this.idle = [];
    for (const connection of idle) connection.end();
  }

  forget(connection: UpstreamConnection): void {
    const at = this.idle.indexOf(connection);
    if (at >= 0) this.idle.splice(at, 1);
  }

  cutTunnels(): void {
    for (const tunnel of this.tunnels) tunnel.cut();
  }
}

const none: ReadonlyMap<string, InstanceState> = new Map();

function withState(states: ReadonlyMap<string, InstanceState>, state: InstanceState): ReadonlyMap<string, InstanceState> {
  return (states === none ? new Map<string, InstanceState>() : (states as Map<string, InstanceState>)).set(state.instance, state);
}

/** True when it was there. */
function dropState(states: ReadonlyMap<string, InstanceState>, instance: string): boolean {
  return states !== none && (states as Map<string, InstanceState>).delete(instance);
}

/** What a route says besides its owner, hosts and instances. */
export type RouteTerms = Pick<Route, 'status' | 'reason' | 'concurrency' | 'holdMs' | 'httpsOnly' | 'proxyProtocol' | 'sticky' | 'slowStartMs' | 'healthPath' | 'stop'> & {
  /** `key` of the canary's owner. */
  readonly canary?: { readonly key: string; readonly percent: number };
};

/** Those of thousands of apps are the same: they share what was read before, of which the last few that differ are looked through. */
const recentTerms: RouteTerms[] = [];
const recentMax = 16;
function termsOf({ canary, stop, ...route }: Route): RouteTerms {
  const terms = sharedTermsOf(route);
  if (canary === undefined && stop === undefined) return terms;
  return { ...terms, ...(stop === undefined ? {} : { stop }), ...(canary === undefined ? {} : { canary: { key: ownerKey(canary.owner), percent: canary.percent } }) };
}

function sharedTermsOf({ status, reason, concurrency, holdMs, httpsOnly, proxyProtocol, sticky, slowStartMs, healthPath }: Omit<Route, 'canary' | 'stop'>): RouteTerms {
  const known = recentTerms.find(
    (one) =>
      one.status === status && one.reason === reason && one.concurrency === concurrency && one.holdMs === holdMs &&
      one.httpsOnly === httpsOnly && one.proxyProtocol === proxyProtocol && one.sticky === sticky &&
      one.slowStartMs === slowStartMs && one.healthPath === healthPath,
  );
  if (known !== undefined) return known;
  const terms = {
    status,
    reason,
    concurrency,
    holdMs,
    ...(httpsOnly === undefined ? {} : { httpsOnly }),
    ...(proxyProtocol ? { proxyProtocol } : {}),
    ...(sticky ? { sticky } : {}),
    ...(slowStartMs === undefined ? {} : { slowStartMs }),
    ...(healthPath === undefined ? {} : { healthPath }),
  };
  recentTerms.unshift(terms);
  recentTerms.length = Math.min(recentTerms.length, recentMax);
  return terms;
}

/** One application: its route, its instances, and those that left the table but still have something to tell. */
export class AppState {
  readonly key: string;
  /** Null once it was removed. */
  terms: RouteTerms | null = null;
  /** Its names in lower case, with a space between them: one text takes a fraction of what a list does. */
  #hosts = '';
  /** Most applications sleep and have none: those share one empty map. */
  instances: ReadonlyMap<string, InstanceState> = none;
  departed: ReadonlyMap<string, InstanceState> = none;
  /** Parked tunnels whose client has sent something. */
  waitingTunnels = 0;
  /** Exchanges under way in all its instances, and with those that waited beside them the most since demand was told. */
  private underWay = 0;
  private peak = 0;
  private answered = 0;
  private failed = 0;

  constructor(key: string) {
    this.key = key;
  }

  get owner(): Owner {
    return ownerOfKey(this.key);
  }

  get isCanary(): boolean {
    return isCanary(this.owner);
  }

  get hosts(): readonly string[] {
    return this.#hosts === '' ? [] : this.#hosts.split(' ');
  }

  setTerms(route: Route): void {
    this.terms = termsOf(route);
    this.#hosts = route.hosts.join(' ').toLowerCase();
  }

  /** Whether a client that brings this returns to an instance of it. */
  hasAffinity(affinity: string): boolean {
    for (const state of this.instances.values()) if (state.affinity === affinity) return true;
    return false;
  }

  find(instance: string): InstanceState | undefined {
    return this.instances.get(instance) ?? this.departed.get(instance);
  }

  /**
   * Takes over a new list of instances; one that comes back with the same address is the same. While the list is empty, parked
   * tunnels wait for their instance; a list without it says that another has taken its place, and they are cut. Gives the names of
   * those that were forgotten.
   */
  setInstances(listed: Route['instances'], nowBootNs: number): readonly string[] {
    const names = new Set(listed.map(({ instance }) => instance));
    for (const state of this.instances.values()) if (!names.has(state.instance)) this.depart(state);
    for (const wanted of listed) this.arrive(wanted, nowBootNs);
    if (listed.length > 0) for (const state of this.departed.values()) state.cutTunnels();
    return this.forgetOldest();
  }

  /** A final answer, or that there was none of this app (503). */
  count(status: number): void {
    this.answered += 1;
    if (status >= 500) this.failed += 1;
  }

  /** An exchange has its place at an instance; `waiting`: requests beside it. */
  begun(waiting: number): void {
    this.underWay += 1;
    this.peak = Math.max(this.peak, this.underWay + waiting);
  }

  ended(): void {
    this.underWay -= 1;
  }

  /** What an instance of it answered (null: nothing) beside the others; true when it goes behind them from now on. */
  noteAnswer(state: InstanceState, status: number | null, nowBootNs: number): boolean {
    // Most answers are good, and of instances that never failed.
    if (status !== null && status < 500 && state.outlier === notAnOutlier) return false;
    let able = 0;
    let outliers = 0;
    for (const other of this.instances.values()) {
      if (other === state || other.unavailable !== '') continue;
      able += 1;
      if (other.outlierUntilBootNs > nowBootNs) outliers += 1;
    }
    const { untilBootNs } = state.outlier;
    state.outlier = noteAnswer(state.outlier, status, { able, outliers }, nowBootNs);
    return state.outlier.untilBootNs > untilBootNs;
  }

  /** To be told now: the peak begins anew. */
  demand(waiting: number, epoch: string): Demand {
    const peak = Math.max(this.peak, this.underWay + waiting);
    this.peak = 0;
    const all = [...this.instances.values(), ...this.departed.values()];
    return {
      owner: this.owner,
      waiting: waiting + this.waitingTunnels,
      instances: all
        .filter((state) => !state.quiet || this.instances.has(state.instance))
        .map(({ instance, outstanding, tunnels, lastActiveBootNs }) => ({ instance, outstanding, tunnels: tunnels.size, lastActiveBootNs })),
      peak,
      epoch,
      answers: { answered: this.answered, failed: this.failed },
      traffic: all.map(({ instance, requests, bytesIn, bytesOut }) => ({ instance, requests, bytesIn, bytesOut })),
    };
  }

  private arrive(wanted: Route['instances'][number], nowBootNs: number): void {
    const known = this.find(wanted.instance) ?? new InstanceState({ ...wanted, nowBootNs });
    if (dropState(this.departed, wanted.instance)) known.way = 'open';
    known.leaving = wanted.draining === true;
    if (known.address !== wanted.address || known.port !== wanted.port) {
      known.closeIdle();
      known.cutTunnels();
      known.address = wanted.address;
      known.port = wanted.port;
    }
    this.instances = withState(this.instances, known);
  }

  private depart(state: InstanceState): void {
    dropState(this.instances, state.instance);
    if (this.instances.size === 0) this.instances = none;
    state.closeIdle();
    if (!state.parked) state.cutTunnels();
    this.departed = withState(this.departed, state);
  }

  private forgetOldest(): readonly string[] {
    const forgotten: string[] = [];
    for (const old of this.departed.values()) {
      if (this.departed.size <= limits.departedInstances) break;
      if (!old.quiet) continue;
      dropState(this.departed, old.instance);
      forgotten.push(old.instance);
    }
    return forgotten;
  }
}
