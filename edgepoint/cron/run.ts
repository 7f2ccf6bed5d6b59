import { codeOf, messageOf } from '../../kit/errors.ts';
import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { readSchedule } from '../../kit/schedule.ts';
import { formatMs } from '../../kit/units.ts';
import type { CronState } from '../../kit/wire/edgepoint-state.ts';
import { reasonCharactersMax } from '../../kit/wire/edgepoint-state.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { TaskAnswer, TaskOrder } from '../model/calls.ts';
import type { Tell } from '../model/happening.ts';
import { planCron } from './plan.ts';
import type { TaskView } from './plan.ts';

export interface CronPorts {
  /** `<zone>.<edgepoint>` of this one. */
  readonly site: string;
  wallMs(): number;
  /** Calls back once after so many milliseconds; the returned function forgets it. */
  wakeIn(ms: number, callback: () => void): () => void;
  /** The local dispatcher's part. */
  ask(order: TaskOrder): Promise<TaskAnswer>;
  /** Durable when it returns: what was due then has been dealt with. */
  saveDealt(app: string, task: string, dueWallMs: number): Promise<void>;
  /** Of one task, or (null) of all of the app. */
  forgetDealt(app: string, task: string | null): Promise<void>;
  /** Why an app is not to be asked just now; empty when it is. */
  stopped(app: string): string;
  readonly tell: Tell;
  /** What `describe` says of an app has changed. */
  changed(app: string): void;
  warn(text: string, fields: Record<string, unknown>): void;
}

interface Task extends TaskView {
  nextWallMs: number | null;
  running: boolean;
  readonly app: string;
  /** `POST /tasks/tidy 0 4 * * *`: what the database knows it by, whatever the release. */
  readonly name: string;
  readonly wish: ReleaseOrder['manifest']['cron'][number];
  last: CronState['last'];
}

interface App {
  /** What is wanted says that this edgepoint is the one. */
  home: boolean;
  serving: ReleaseOrder | null;
  readonly tasks: Map<string, Task>;
}

/** A wall clock that was so far ahead when something was dealt with was wrong: it begins from now. */
const aheadMsMax = 3_600_000;

/**
 * Asks the apps whose schedules say so, of which this edgepoint is the one to ask. What is due is written down before it is asked: a
 * head that is killed meanwhile does not ask twice.
 */
export class Cron {
  private readonly ports: CronPorts;
  private readonly apps = new Map<string, App>();
  private readonly tasks = new Map<string, Task>();
  /** By app and task, what an earlier head dealt with last. */
  private readonly dealt: Map<string, number>;
  /** Apps of which an earlier head dealt with something. */
  private readonly remembered: Set<string>;
  private cancel: (() => void) | null = null;
  private able = false;

  constructor(ports: CronPorts, dealt: readonly { readonly app: string; readonly task: string; readonly dueWallMs: number }[]) {
    this.ports = ports;
    this.remembered = new Set(dealt.map(({ app }) => app));
    this.dealt = new Map(dealt.map(({ app, task, dueWallMs }) => [idOf(app, task), dueWallMs]));
  }

  /** What is wanted is known: from now on the apps are asked. */
  begin(): void {
    this.able = true;
    for (const app of this.remembered) if (this.apps.get(app)?.home !== true) this.forget(app, null);
    this.remembered.clear();
    this.dealt.clear();
    this.look();
  }

  stop(): void {
    this.able = false;
    this.cancel?.();
    this.cancel = null;
  }

  /** The conduit's wish: it says whose clock it is. */
  wanted(order: ReleaseOrder): void {
    const home = order.cronSite === this.ports.site;
    if (!home && !this.apps.has(ownerKey(order.owner))) return;
    // Whoever becomes the one again begins from then on: another has dealt with what was due meanwhile.
    if (!home) this.forget(ownerKey(order.owner), null);
    this.change(ownerKey(order.owner), (app) => (app.home = home));
  }

  serves(order: ReleaseOrder): void {
    const key = ownerKey(order.owner);
    if (wishesOf(order).length === 0 && !this.apps.has(key)) return;
    this.change(key, (app) => (app.serving = order));
  }

  removed(owner: Owner): void {
    const key = ownerKey(owner);
    const app = this.apps.get(key);
    if (app === undefined) return;
    app.home = false;
    this.setTasks(key, app);
    this.apps.delete(key);
  }

  /** For the published state; null when this edgepoint asks it nothing. */
  describe(key: string): CronState[] | null {
    const app = this.apps.get(key);
    if (app === undefined || app.tasks.size === 0) return null;
    return [...app.tasks.values()].map(({ wish, last }) => ({ ...wish, last }));
  }

  private change(key: string, change: (app: App) => void): void {
    const app = this.apps.get(key) ?? { home: false, serving: null, tasks: new Map<string, Task>() };
    this.apps.set(key, app);
    change(app);
    this.setTasks(key, app);
    // Nothing is remembered of apps that want nothing.
    if (!app.home && wishesOf(app.serving).length === 0) this.apps.delete(key);
    this.ports.changed(key);
    this.look();
  }

  private setTasks(key: string, app: App): void {
    const wishes = app.home ? wishesOf(app.serving) : [];
    const names = new Set(wishes.map(nameOf));
    for (const [name, task] of app.tasks) {
      if (names.has(name)) continue;
      app.tasks.delete(name);
      this.tasks.delete(task.id);
      this.forget(key, name);
    }
    for (const wish of wishes) if (!app.tasks.has(nameOf(wish))) this.addTask(key, app, wish);
  }

  private forget(app: string, task: string | null): void {
    this.ports.forgetDealt(app, task).catch((failure: unknown) => this.ports.warn('what was due could not be forgotten', { app, failure }));
  }

  private addTask(key: string, app: App, wish: Task['wish']): void {
    const read = readSchedule(wish.schedule);
    if (!read.ok) return this.ports.warn('a schedule cannot be read', { app: key, schedule: wish.schedule, reason: read.reason });
    const name = nameOf(wish);
    const id = idOf(key, name);
    const nowWallMs = this.ports.wallMs();
    const dealtWallMs = this.dealt.get(id) ?? nowWallMs;
    const { next } = read.schedule;
    const nextWallMs = next(dealtWallMs > nowWallMs + aheadMsMax ? nowWallMs : dealtWallMs);
    const task: Task = { id, app: key, name, wish, provider: app.serving?.owner.provider ?? '', nextWallMs, next, running: false, last: null };
    app.tasks.set(name, task);
    this.tasks.set(id, task);
  }

  private look(): void {
    this.cancel?.();
    this.cancel = null;
    if (!this.able || this.tasks.size === 0) return;
    const nowWallMs = this.ports.wallMs();
    const runningOf = new Map<string, number>();
    for (const { running, provider } of this.tasks.values()) if (running) runningOf.set(provider, (runningOf.get(provider) ?? 0) + 1);
    const plan = planCron(this.tasks.values(), nowWallMs, runningOf);
    for (const { id, dueWallMs } of plan.run) this.deal(id, dueWallMs, null);
    for (const { id, dueWallMs, reason } of plan.skip) this.deal(id, dueWallMs, reason);
    if (plan.lookAgainWallMs !== null) this.cancel = this.ports.wakeIn(Math.max(0, plan.lookAgainWallMs - nowWallMs), () => this.look());
  }

  /** Runs it, or (with a reason) does not. */
  private deal(id: string, dueWallMs: number, skipped: string | null): void {
    const task = this.tasks.get(id);
    const order = task === undefined ? null : (this.apps.get(task.app)?.serving ?? null);
    if (task === undefined || order === null) return;
    task.nextWallMs = task.next(dueWallMs);
    const stopped = this.ports.stopped(task.app);
    const why = skipped ?? (stopped === '' ? null : stopped);
    if (why !== null) {
      this.ports.saveDealt(task.app, task.name, dueWallMs).catch((failure: unknown) => this.ports.warn('what was due could not be saved', { app: task.app, failure }));
      return this.tellOutcome(task, order, { dueWallMs, ok: false, text: `not run: ${why}` }, 'cron-skipped');
    }
    task.running = true;
    void this.run(task, order, dueWallMs).finally(() => {
      task.running = false;
      this.look();
    });
  }

  private async run(task: Task, order: ReleaseOrder, dueWallMs: number): Promise<void> {
    const { schedule, path, method } = task.wish;
    try {
      await this.ports.saveDealt(task.app, task.name, dueWallMs);
    } catch (failure) {
      this.ports.warn('what was due could not be saved; it is run, and may be run again after a restart', { app: task.app, failure });
    }
    try {
      const { status, reason, tookMs } = await this.ports.ask({ host: order.hosts[0] ?? '', method, path, schedule, dueWallMs });
      const ok = reason === '' && status >= 200 && status < 400;
      const said = reason === '' ? `it answered ${status}` : `${status === 0 ? 'no answer' : status}: ${reason}`;
      this.tellOutcome(task, order, { dueWallMs, ok, text: `${said} after ${formatMs(tookMs)}` }, 'cron-failed');
    } catch (failure) {
      this.tellOutcome(task, order, { dueWallMs, ok: false, text: `the local dispatcher was not there: ${messageOf(failure)} (${codeOf(failure)})` }, 'cron-failed');
    }
  }

  private tellOutcome(task: Task, order: ReleaseOrder, outcome: NonNullable<CronState['last']>, code: string): void {
    task.last = { ...outcome, text: outcome.text.slice(0, reasonCharactersMax) };
    if (!outcome.ok) {
      const { method, path } = task.wish;
      this.ports.tell({ owner: order.owner, release: order.release, kind: 'fault', code, text: `${method} ${path}, due ${new Date(outcome.dueWallMs).toISOString()}: ${outcome.text}.` });
    }
    this.ports.changed(task.app);
  }
}

/** Orders that were stored before there were any have none. */
const wishesOf = (order: ReleaseOrder | null): ReleaseOrder['manifest']['cron'] => order?.manifest.cron ?? [];
const nameOf = ({ method, path, schedule }: Task['wish']): string => `${method} ${path} ${schedule}`;
const idOf = (app: string, task: string): string => `${app} ${task}`;
