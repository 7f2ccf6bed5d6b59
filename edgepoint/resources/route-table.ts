import { fingerprint } from '../../kit/fingerprint.ts';
import { canaryOf, isCanary, ownerKey, servedBy } from '../../kit/ids.ts';
import type { Route } from '../model/calls.ts';
import type { DispatcherPort } from './ports.ts';
import { routeOf } from './routes.ts';
import type { AppEntry, EdgepointEntry } from './state.ts';

/** The routes as the dispatcher has them: it is told of a change, and of nothing else. */
export class RouteTable {
  private readonly state: EdgepointEntry;
  private readonly dispatcher: DispatcherPort;
  /** Fingerprints, by app. */
  private readonly told = new Map<string, number>();

  constructor(state: EdgepointEntry, dispatcher: DispatcherPort) {
    this.state = state;
    this.dispatcher = dispatcher;
  }

  /** Of all apps, for a dispatcher that has just come. */
  all(nowBootNs: number): Route[] {
    return [...this.state.apps.values()].flatMap((app) => {
      const route = this.routeNow(app, nowBootNs);
      if (route === null) return [];
      this.told.set(app.key, fingerprint(JSON.stringify(route)));
      return [route];
    });
  }

  /** Of a canary: first that of the app, whose share of it depends on how it is. */
  tell(app: AppEntry, nowBootNs: number): void {
    const served = isCanary(app.owner) ? this.state.apps.get(ownerKey(servedBy(app.owner))) : undefined;
    if (served !== undefined) this.tell(served, nowBootNs);
    const route = this.routeNow(app, nowBootNs);
    if (route === null) return;
    const print = fingerprint(JSON.stringify(route));
    if (this.told.get(app.key) === print) return;
    this.told.set(app.key, print);
    this.dispatcher.route(route);
  }

  /** The app is gone: whoever waits for it is told so at once. */
  remove(app: AppEntry): void {
    this.told.delete(app.key);
    this.dispatcher.removeRoute(app.owner);
  }

  private routeNow(app: AppEntry, nowBootNs: number): Route | null {
    return routeOf(app, nowBootNs, isCanary(app.owner) ? null : (this.state.apps.get(ownerKey(canaryOf(app.owner))) ?? null));
  }
}
