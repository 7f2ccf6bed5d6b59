import { assertInvariant, messageOf } from '../../kit/errors.ts';
import { isCanary, ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { nsPerMs } from '../../kit/units.ts';
import type { KeptInstance, ReleaseOrder, ServingRelease } from '../model/app.ts';
import type { Demand, KernelCounters, OwnAddress, Route } from '../model/calls.ts';
import { noteCap } from './caps.ts';
import { freezeInstance, thawInstance } from './freeze-and-thaw.ts';
import { drainAll, sleepInstance } from './go-to-sleep.ts';
import { InstanceKeeper } from './keeper.ts';
import { idleInstances, planApp } from './plan/plan.ts';
import { earliest } from './plan/view.ts';
import type { IdleView, Step } from './plan/view.ts';
import { noteDemand } from './note-demand.ts';
import { PlanNotes } from './plan-notes.ts';
import type { PlanNote } from './plan-notes.ts';
import { nextBackoff, steadyMs } from './backoff.ts';
import type { Manages } from './manages.ts';
import type { ResourcePorts } from './ports.ts';
import { RouteTable } from './route-table.ts';
import { routeChangesAt } from './routes.ts';
import { addInstance, appEntry, findInstance, forgetDemand, moveInstance } from './state.ts';
import type { AppEntry, EdgepointEntry, InstanceEntry } from './state.ts';
import { noteSurplus, viewApp, viewRoom } from './views.ts';
import { wakeInstance } from './wake-up.ts';
import { whyAwakeChangesAt } from './why-awake.ts';

/** Wakes in a row that a kept state may spoil. */
const keptFailuresMax = 3;
/** A loop of plans that each change something would be a planner that contradicts itself. */
const looksMax = 100_000;
const restAfterMs = 1000;

/**
 * Executes the planner's steps. Whatever changes, changes the state first and then calls `touch`, which plans for that app and
 * begins the steps; the first half of a step is synchronous and puts the instance into its next mode, so that no second plan can
 * contradict one that is under way. That is the whole of its locking.
 */
export class ResourceManager implements Manages {
  readonly state: EdgepointEntry;
  readonly keeper: InstanceKeeper;
  readonly ports: ResourcePorts;
  private readonly dirty = new Set<AppEntry>();
  /** Apps that were refused or wait because there was no memory, in the order in which they came. */
  private readonly wanting = new Set<AppEntry>();
  private looking = false;
  /** False until restored's list has been seen: before that we do not know what runs. */
  private able = false;
  private readonly lookAgain = new Map<AppEntry, number>();
  private timer: { readonly bootNs: number; readonly cancel: () => void } | null = null;
  private readonly routeTable: RouteTable;
  private readonly plans = new PlanNotes();
  private readonly toRest = new Set<AppEntry>();
  private restTimer: (() => void) | null = null;

  constructor(state: EdgepointEntry, ports: ResourcePorts) {
    this.state = state;
    this.ports = ports;
    this.keeper = new InstanceKeeper(state, ports);
    this.routeTable = new RouteTable(state, ports.dispatcher);
  }

  /** Planning begins: restored's list has been seen. */
  begin(): void {
    this.able = true;
    this.setDraining(this.state.draining);
  }

  /** Whether the operator drains this edgepoint, from now on. */
  setDraining(draining: boolean): void {
    this.state.draining = draining;
    for (const app of this.state.apps.values()) this.dirty.add(app);
    this.look();
  }

  noteDemand(demand: Demand): void {
    noteDemand(this, demand);
  }

  /** An instance ended without a stop. */
  noteExited(instance: string, counters: KernelCounters, status: string): void {
    this.keeper.noteExit(instance, counters);
    const found = findInstance(this.state, instance);
    // Others than warm and frozen ones have somebody who waits for them and hears of it by their signal.
    if (found === null || !['warm', 'frozen'].includes(found.entry.facts.mode) || found.entry.purpose !== 'serve') return;
    this.loseInstance(found.app, found.entry, `it ended by itself (${status})`, 'app-exited');
  }

  /** An instance that served is gone or useless: its requests are held for another from now on. */
  loseInstance(app: AppEntry, entry: InstanceEntry, reason: string, code: string): void {
    const nowBootNs = this.ports.clock.bootNs();
    const servedMs = (nowBootNs - entry.facts.sinceBootNs) / nsPerMs;
    moveInstance(entry, 'failed', nowBootNs, reason);
    app.backoff = servedMs < steadyMs ? nextBackoff(app.backoff, { nowBootNs, reason: `its instances end by themselves: ${reason}`, free: true }) : null;
    if (app.kept?.instance === entry.facts.id && app.backoff !== null && app.backoff.failures >= keptFailuresMax) this.dropKept(app, app.kept, reason);
    this.ports.tell({
      owner: app.owner,
      release: entry.facts.release,
      kind: 'fault',
      code,
      text: `Instance ${entry.facts.id} served for ${(servedMs / 1000).toFixed(1)} s, then ${reason}.`,
    });
    void this.keeper.end(entry).then(() => this.touch(app));
    this.touch(app);
  }

  /** What lies in the object store now, for people: names of templates, each with the key of its app. */
  noteStored(stored: ReadonlyMap<string, string>): void {
    const before = this.state.stored;
    this.state.stored = stored;
    // Only those that differ are looked at: there may be thousands.
    for (const [name, app] of stored) if (!before.has(name)) this.ports.stateChanged(app);
    for (const [name, app] of before) if (!stored.has(name)) this.ports.stateChanged(app);
  }

  /** An app as the conduit wants it now; its old release serves on until `promote`. */
  want(order: ReleaseOrder): AppEntry {
    const app = appEntry(this.state, order.owner);
    const triedAgain = app.stopped !== '' && order.deployId !== app.desired?.deployId;
    app.desired = order;
    noteCap(this, app);
    // The same secrets wrapped anew, for another key of this edgepoint: what serves opens these from now on.
    if (app.serving !== null && app.serving.order.release === order.release && order.secrets !== undefined) {
      app.serving = { ...app.serving, order: { ...app.serving.order, secrets: order.secrets } };
    }
    if (app.serving === null || triedAgain) {
      app.status = 'preparing';
      app.reason = '';
    }
    this.touch(app);
    return app;
  }

  /** Its own address, from now on; null: none. */
  setOwn(owner: Owner, own: OwnAddress | null): void {
    const app = this.state.apps.get(ownerKey(owner));
    if (app === undefined) return;
    app.own = own;
    this.touch(app);
  }

  pause(owner: Owner, reason: string): void {
    const app = appEntry(this.state, owner);
    app.paused = reason;
    this.touch(app);
  }

  /** A release can serve; what it replaces goes when nobody needs it any more. */
  promote(serving: ServingRelease): void {
    const app = appEntry(this.state, serving.order.owner);
    app.serving = serving;
    app.status = 'ready';
    app.reason = serving.facts.staysAwake;
    app.paused = '';
    app.stopped = '';
    app.backoff = null;
    app.refusal = null;
    app.restoreFailures = 0;
    if (app.kept !== null && app.kept.release !== serving.order.release) {
      const kept = app.kept;
      app.kept = null;
      void this.forgetKept(app, kept);
    }
    this.touch(app);
  }

  /**
   * A release cannot serve; an older one serves on, and the app stays ready by it. A canary whose release serves already gets no request
   * any more: what it has, it answers.
   */
  reject(owner: Owner, reason: string): void {
    const app = appEntry(this.state, owner);
    app.paused = '';
    app.reason = reason;
    if (isCanary(owner) && app.serving?.order.release === app.desired?.release) app.stopped = reason;
    app.status = app.serving === null || app.stopped !== '' ? 'failed' : 'ready';
    this.touch(app);
  }

  /** Ends all of an app and forgets it. Its route goes first: held requests get their 404 at once. Of a canary, what is under way is waited for. */
  async remove(owner: Owner): Promise<void> {
    const app = this.state.apps.get(appEntry(this.state, owner).key);
    if (app === undefined) return;
    this.state.apps.delete(app.key);
    this.lookAgain.delete(app);
    this.dirty.delete(app);
    this.wanting.delete(app);
    if (isCanary(owner)) await this.letGo(app);
    this.plans.forget(app.key);
    app.desired = null;
    app.serving = null;
    this.routeTable.remove(app);
    const nowBootNs = this.ports.clock.bootNs();
    const ending = [...app.instances.values()].map((entry) => {
      // Its end is no fault of it.
      if (['warm', 'frozen'].includes(entry.facts.mode)) moveInstance(entry, 'draining', nowBootNs, 'its app is removed');
      return this.keeper.end(entry);
    });
    await Promise.all(ending);
    if (app.kept !== null) await this.forgetKept(app, app.kept);
    this.ports.stateChanged(app.key);
    this.touchRefused();
  }

  /** Whoever waits for the canary is answered by the release that serves, and nothing new comes to it; resolves when nothing is under way in it. */
  private async letGo(app: AppEntry): Promise<void> {
    app.stopped = 'it is taken away';
    this.routeTable.tell(app, this.ports.clock.bootNs());
    await drainAll(this, app);
  }

  /** Puts unused instances to sleep for a preparation's sake. */
  evict(idle: readonly IdleView[], reason: string): void {
    for (const { app, id } of idle) this.beginStep({ kind: 'sleep', app, instance: id, reason }, this.ports.clock.bootNs());
  }

  /** Plans for an app after it changed, and begins what is planned. */
  touch(app: AppEntry): void {
    if (this.state.apps.get(app.key) !== app) return;
    this.dirty.add(app);
    // Whoever has become unused may make room for them.
    if (this.wanting.size > 0 && idleInstances(viewApp(app, this.state.draining), this.ports.clock.bootNs()).length > 0) this.lookAtWanting();
    this.look();
  }

  /** Of all apps, for a dispatcher that has just come. */
  routes(): Route[] {
    return this.routeTable.all(this.ports.clock.bootNs());
  }

  /** The dispatcher has gone: nothing waits in it any more, and nobody can be drained. */
  forgetDemand(): void {
    forgetDemand(this.state, this.ports.clock.bootNs());
  }

  lastPlans(): Record<string, readonly PlanNote[]> {
    return this.plans.all();
  }

  stop(): void {
    this.able = false;
    this.timer?.cancel();
    this.timer = null;
    this.restTimer?.();
    this.restTimer = null;
  }

  private look(): void {
    if (this.looking) return;
    this.looking = true;
    try {
      let looks = 0;
      for (const app of this.dirty) {
        this.dirty.delete(app);
        looks += 1;
        assertInvariant(looks < looksMax, 'plans come to an end');
        this.lookAt(app);
      }
    } finally {
      this.looking = false;
    }
    this.setTimer();
  }

  private lookAt(app: AppEntry): void {
    const nowBootNs = this.ports.clock.bootNs();
    noteSurplus(app, nowBootNs, this.state.draining);
    if (this.able) {
      const plan = planApp(viewApp(app, this.state.draining), nowBootNs, () => viewRoom(this.state, nowBootNs));
      this.plans.add(app.key, plan, nowBootNs);
      const lookAgainBootNs = earliest(earliest(plan.lookAgainBootNs, routeChangesAt(app, nowBootNs)), whyAwakeChangesAt(app, nowBootNs));
      if (lookAgainBootNs === null) this.lookAgain.delete(app);
      else this.lookAgain.set(app, lookAgainBootNs);
      for (const step of plan.steps) this.beginStep(step, nowBootNs);
      if (plan.wantsRoom === true || app.refusal !== null) this.wanting.add(app);
      else this.wanting.delete(app);
    }
    this.routeTable.tell(app, nowBootNs);
    this.ports.stateChanged(app.key);
    this.letRest(app);
  }

  /** A while later, for it is seldom planned for only once. */
  private letRest(app: AppEntry): void {
    this.toRest.add(app);
    this.restTimer ??= this.ports.wakeAt(this.ports.clock.bootNs() + restAfterMs * nsPerMs, () => {
      this.restTimer = null;
      for (const each of this.toRest) each.restIfAsleep();
      this.toRest.clear();
    });
  }

  private beginStep(step: Step, nowBootNs: number): void {
    const app = this.state.apps.get(step.app);
    if (app === undefined) return;
    if (step.kind === 'wake') return wakeInstance(this, app, step);
    if (step.kind === 'refuse') {
      app.refusal = { untilBootNs: step.untilBootNs, reason: step.reason };
      this.lookAgain.set(app, step.untilBootNs);
      return;
    }
    const entry = app.instances.get(step.instance);
    if (entry === undefined) return;
    // It may be of another app than the one that is planned for.
    this.ports.stateChanged(app.key);
    if (step.kind === 'thaw') return entry.facts.mode === 'frozen' ? thawInstance(this, app, entry, step) : undefined;
    if (entry.facts.mode !== 'warm' && (entry.facts.mode !== 'frozen' || step.kind === 'freeze')) return;
    moveInstance(entry, 'draining', nowBootNs, step.reason);
    entry.freezing = step.kind === 'freeze';
    if (step.kind === 'freeze') void freezeInstance(this, app, entry, step);
    else void sleepInstance(this, app, entry, step);
  }

  private setTimer(): void {
    if (!this.able) return;
    let earliestBootNs = Infinity;
    for (const bootNs of this.lookAgain.values()) earliestBootNs = Math.min(earliestBootNs, bootNs);
    if (this.timer?.bootNs === earliestBootNs) return;
    this.timer?.cancel();
    this.timer = null;
    if (earliestBootNs === Infinity) return;
    this.timer = {
      bootNs: earliestBootNs,
      cancel: this.ports.wakeAt(earliestBootNs, () => {
        this.timer = null;
        const nowBootNs = this.ports.clock.bootNs();
        for (const [app, bootNs] of this.lookAgain) {
          if (bootNs > nowBootNs) continue;
          this.lookAgain.delete(app);
          this.dirty.add(app);
        }
        this.look();
      }),
    };
  }

  /** Memory has come free: those that were refused or wait for it are looked at again. */
  touchRefused(): void {
    this.lookAtWanting();
    this.look();
  }

  private lookAtWanting(): void {
    for (const app of this.wanting) {
      app.refusal = null;
      this.dirty.add(app);
    }
  }

  /** A wake: a new entry in the mode of what is done to it. */
  addServing(app: AppEntry, about: { id: string; order: ReleaseOrder; mode: 'booting' | 'restoring'; reason: string; meterId: string }): InstanceEntry {
    const nowBootNs = this.ports.clock.bootNs();
    const entry = addInstance(this.state, app, { ...about, mode: 'cold', purpose: 'serve', nowBootNs });
    moveInstance(entry, about.mode, nowBootNs, about.reason);
    return entry;
  }

  /** A state that only ends whoever wakes with it helps nobody: the template is the first state again. */
  private dropKept(app: AppEntry, kept: KeptInstance, reason: string): void {
    app.kept = null;
    this.ports.tell({
      owner: app.owner,
      release: kept.release,
      kind: 'fault',
      code: 'state-lost',
      text: `What ${kept.instance} slept with ended it ${keptFailuresMax} times in a row (${reason}); it begins again from its template.`,
    });
    void this.forgetKept(app, kept);
  }

  private async forgetKept(app: AppEntry, kept: KeptInstance): Promise<void> {
    try {
      await this.ports.records.forgetKept(app.owner);
      await this.ports.snapd.discard({ snapshotPath: this.ports.paths.keptOf(kept.instance) });
    } catch (failure) {
      this.ports.warn('a kept snapshot could not be removed', { app: app.key, failure: messageOf(failure) });
    }
  }
}
