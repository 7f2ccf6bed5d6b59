import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { beatMs, silentMsMax } from '../../kit/wire/access.ts';
import type { AccessClose, AccessFrame, AccessOpen } from '../../kit/wire/access.ts';
import type { Route } from '../model/calls.ts';
import { Traffic } from './traffic.ts';

/** Accesses of one app and of the edgepoint at once. */
export const accessesPerApp = 32;
export const accessesMax = 128;
/** Those of them that run a command. */
export const sessionsPerApp = 8;
/** As long as what is under way in an app that has reached its spending cap (edgepoint/resources/caps.ts). */
export const cappedRunMs = 300_000;

/** A connection to a port of an instance, or to a session in it, as host/socket-stream.ts makes it. */
export interface Dialled {
  take(frame: AccessFrame): void;
  cut(close: AccessClose): void;
}

export interface DialPorts {
  /** In which instance. */
  opened(instance: string): void;
  send(frame: AccessFrame): void;
  counted(toInstance: number, fromInstance: number): void;
  over(close: AccessClose): void;
}

/** What the planner is told of an app. */
export interface AccessUse {
  readonly waiting: number;
  /** Instances with an access. */
  readonly used: ReadonlySet<string>;
}

export interface AccessPorts {
  /** Names this life of the head. */
  readonly epoch: string;
  /** The app's route as it is now; null for an app that is not here. */
  routeOf(owner: Owner): Route | null;
  tellUse(owner: Owner, use: AccessUse): void;
  tellTraffic(owner: Owner, traffic: { instance: string; epoch: string; bytesIn: number; bytesOut: number }): void;
  /** False when the frame is lost. */
  send(access: string, frame: AccessFrame): boolean;
  /** `to` is null for one that gets an instance of its own. */
  dial(to: { instance: string; address: string } | null, open: AccessOpen, ports: DialPorts): Dialled;
  nowMs(): number;
  /** Calls back once; the returned function forgets it. */
  after(ms: number, callback: () => void): () => void;
}

/** Modes: waiting (for an instance) -> open -> over; waiting -> over. `open`: it has an instance, which may not have answered yet. */
interface Access {
  readonly id: string;
  readonly open: AccessOpen;
  readonly key: string;
  /** The number that its next frame must have. */
  expected: number;
  heardMs: number;
  instance: string;
  dialled: Dialled | null;
  forget: () => void;
  /** Of a run: its app has reached its spending cap, and `forget` is of the time it still has. */
  isCapped: boolean;
}

/** One whose instance is there for it alone, and is in no route. */
const hasOwn = ({ open }: Access): boolean => open.kind === 'run';

/**
 * Accesses of providers to their instances: who waits for one, and who has which. While one is open its instance is in use; one that
 * waits wakes the app. The third way to an instance, beside the shared address and the kernel path, and told the same orders.
 */
export class Accesses {
  private readonly all = new Map<string, Access>();
  private readonly byApp = new Map<string, Set<Access>>();
  /** Instances that are given nothing new, each with the key of its app. */
  private readonly draining = new Map<string, string>();
  private readonly drains = new Map<string, (drained: boolean) => void>();
  private readonly traffic: Traffic;
  private readonly ports: AccessPorts;
  private stopBeat: (() => void) | null = null;

  constructor(ports: AccessPorts) {
    this.ports = ports;
    this.traffic = new Traffic(ports.epoch, ports.tellTraffic);
  }

  get size(): number {
    return this.all.size;
  }

  /** A frame of the conduit's; null for what is no frame. */
  take(id: string, number: number, frame: AccessFrame | null): void {
    const access = this.all.get(id);
    if (access === undefined) return this.takeNew(id, number, frame);
    access.heardMs = this.ports.nowMs();
    if (frame?.kind === 'close') return access.dialled === null ? this.finish(access) : access.dialled.take(frame);
    if (number !== access.expected || frame === null || frame.kind === 'open') return this.cut(access, { code: 'access-cut', text: 'something was lost on its way to the edgepoint' });
    access.expected = (number + 1) % 2 ** 32;
    if (frame.kind === 'beat') return;
    if (access.dialled !== null) return access.dialled.take(frame);
    this.cut(access, { code: 'access-broken', text: 'data came before it was open' });
  }

  // ---- what the head orders of every way ----

  route(route: Route): void {
    const key = ownerKey(route.owner);
    const listed = new Set(route.instances.map(({ instance }) => instance));
    this.traffic.keepOnly(key, listed);
    for (const [instance, app] of this.draining) if (app === key && !listed.has(instance)) this.draining.delete(instance);
    for (const access of this.byApp.get(key) ?? []) {
      if (hasOwn(access)) {
        this.mindCap(access, route);
        continue;
      }
      if (access.instance === '') this.place(access, route);
      else if (!listed.has(access.instance)) this.cut(access, { code: 'instance-ended', text: `instance ${access.instance} has ended` });
    }
  }

  removeRoute(owner: Owner): void {
    for (const access of this.byApp.get(ownerKey(owner)) ?? []) this.cut(access, { code: 'app-unknown', text: 'the app has been deleted' });
    this.traffic.keepOnly(ownerKey(owner), new Set());
    for (const [instance, app] of this.draining) if (app === ownerKey(owner)) this.draining.delete(instance);
  }

  /** False when an access is still open after `timeoutMs`; the instance then takes new ones again. */
  drain(order: { instance: string; owner: Owner; timeoutMs: number }): Promise<boolean> {
    const { instance, owner, timeoutMs } = order;
    this.draining.set(instance, ownerKey(owner));
    if (!this.isUsed(ownerKey(owner), instance)) return Promise.resolve(true);
    this.drains.get(instance)?.(false);
    return new Promise((resolve) => {
      const finish = (drained: boolean): void => {
        forget();
        this.drains.delete(instance);
        if (!drained) this.draining.delete(instance);
        resolve(drained);
      };
      const forget = this.ports.after(timeoutMs, () => finish(false));
      this.drains.set(instance, finish);
    });
  }

  unpark(instance: string): void {
    const key = this.draining.get(instance);
    if (!this.draining.delete(instance) || key === undefined) return;
    for (const access of this.byApp.get(key) ?? []) if (access.instance === '' && !hasOwn(access)) this.place(access, this.ports.routeOf(access.open));
  }

  /** All end, for the conduit cannot be told what comes of them. */
  stop(): void {
    for (const access of this.all.values()) this.cut(access, { code: 'edgepoint-away', text: 'the edgepoint’s head ends' });
  }

  // ---- inside ----

  private takeNew(id: string, number: number, frame: AccessFrame | null): void {
    // Nothing answers a close, so that two who know nothing of an access do not talk for ever.
    if (frame?.kind === 'close') return;
    const refuse = (code: string, text: string): void => void this.ports.send(id, { kind: 'close', close: { code, text } });
    if (frame?.kind !== 'open' || number !== 0) return refuse('access-cut', 'the edgepoint does not know of it (any more)');
    const { open } = frame;
    const key = ownerKey(open);
    const route = this.ports.routeOf(open);
    if (route === null) return refuse('app-away', 'this edgepoint does not have the app yet');
    const ofApp = this.byApp.get(key) ?? new Set<Access>();
    if (this.all.size >= accessesMax || ofApp.size >= accessesPerApp) return refuse('busy', 'too many accesses are open there');
    const sessions = [...ofApp].filter((one) => one.open.kind !== 'connect').length;
    if (open.kind !== 'connect' && sessions >= sessionsPerApp) return refuse('busy', `${sessionsPerApp} sessions of the app are open there`);
    const access: Access = { id, open, key, expected: 1, heardMs: this.ports.nowMs(), instance: '', dialled: null, forget: () => undefined, isCapped: false };
    access.forget = this.ports.after(route.holdMs, () => this.cut(access, { code: 'wake-failed', text: `no instance was there within ${Math.round(route.holdMs / 1000)} s` }));
    this.all.set(id, access);
    this.byApp.set(key, ofApp.add(access));
    this.stopBeat ??= this.ports.after(beatMs, () => this.beat());
    this.place(access, route);
  }

  /** Gives it an instance, when there is one. */
  private place(access: Access, route: Route | null): void {
    if (hasOwn(access)) return this.dial(access, null);
    if (route === null || route.status === 'failed') return this.cut(access, { code: 'wake-failed', text: route?.reason ?? 'the app is gone' });
    const to = route.instances.find(({ instance }) => !this.draining.has(instance));
    if (to === undefined) return this.tellUse(access.key);
    access.instance = to.instance;
    this.dial(access, to);
    this.tellUse(access.key);
  }

  private dial(access: Access, to: { instance: string; address: string } | null): void {
    access.forget();
    access.dialled = this.ports.dial(to, access.open, {
      opened: (instance) => {
        access.instance = instance;
        this.sendOf(access, { kind: 'opened', opened: { instance } });
      },
      send: (frame) => void this.sendOf(access, frame),
      counted: (bytesIn, bytesOut) => this.traffic.count(access.open, access.instance, bytesIn, bytesOut),
      over: () => this.finish(access),
    });
  }

  /** A run of an app that has reached its spending cap may end as it should, but not go on for ever; nobody else ends its instance. */
  private mindCap(access: Access, route: Route): void {
    if (route.stop === undefined) {
      access.forget();
      access.forget = () => undefined;
      access.isCapped = false;
    } else if (!access.isCapped) {
      const { code } = route.stop;
      access.isCapped = true;
      access.forget = this.ports.after(cappedRunMs, () => this.cut(access, { code, text: route.reason }));
    }
  }

  private sendOf(access: Access, frame: AccessFrame): void {
    if (!this.ports.send(access.id, frame) && frame.kind !== 'close') this.cut(access, { code: 'bus-away', text: 'the message bus is away' });
  }

  private cut(access: Access, close: AccessClose): void {
    if (!this.all.has(access.id)) return;
    if (access.dialled !== null) return access.dialled.cut(close);
    this.ports.send(access.id, { kind: 'close', close });
    this.finish(access);
  }

  private finish(access: Access): void {
    if (!this.all.delete(access.id)) return;
    access.forget();
    const ofApp = this.byApp.get(access.key);
    ofApp?.delete(access);
    if (ofApp?.size === 0) this.byApp.delete(access.key);
    this.traffic.tell(access.key);
    this.tellUse(access.key);
    if (access.instance !== '' && !this.isUsed(access.key, access.instance)) this.drains.get(access.instance)?.(true);
  }

  private tellUse(key: string): void {
    const ofApp = [...(this.byApp.get(key) ?? [])].filter((access) => !hasOwn(access));
    const [provider = '', scope = '', app = ''] = key.split('.');
    const waiting = ofApp.filter(({ instance }) => instance === '').length;
    this.ports.tellUse({ provider, scope, app }, { waiting, used: new Set(ofApp.flatMap(({ instance }) => (instance === '' ? [] : [instance]))) });
  }

  private isUsed(key: string, instance: string): boolean {
    return [...(this.byApp.get(key) ?? [])].some((access) => access.instance === instance);
  }

  private beat(): void {
    this.stopBeat = this.all.size === 0 ? null : this.ports.after(beatMs, () => this.beat());
    const nowMs = this.ports.nowMs();
    for (const access of this.all.values()) {
      if (nowMs - access.heardMs > silentMsMax) this.cut(access, { code: 'conduit-away', text: 'the conduit is silent' });
      else this.sendOf(access, { kind: 'beat' });
    }
    for (const key of this.byApp.keys()) this.traffic.tell(key);
  }
}
