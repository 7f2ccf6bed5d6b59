import { ownerKey } from '../../kit/ids.ts';
import type { Demand } from '../model/calls.ts';
import { noteGap } from './gaps.ts';
import type { Manages } from './manages.ts';

/** What the dispatcher counts of an app. Unknown apps are ignored: the dispatcher learns of their end by its routes. */
export function noteDemand(manager: Manages, demand: Demand): void {
  const app = manager.state.apps.get(ownerKey(demand.owner));
  if (app === undefined) return;
  const nowBootNs = manager.ports.clock.bootNs();
  app.waiting = demand.waiting;
  app.peak = Math.max(app.peak, demand.peak ?? 0);
  app.waitingSinceBootNs = demand.waiting === 0 && !app.accessWaits ? null : (app.waitingSinceBootNs ?? nowBootNs);
  noteGap(app, demand, nowBootNs);
  for (const told of demand.instances) {
    const entry = app.instances.get(told.instance);
    if (entry === undefined) continue;
    entry.outstanding = told.outstanding;
    entry.busySinceBootNs = told.outstanding === 0 ? null : (entry.busySinceBootNs ?? nowBootNs);
    entry.tunnels = told.tunnels;
    entry.lastActiveBootNs = Math.max(entry.lastActiveBootNs, told.lastActiveBootNs);
  }
  manager.touch(app);
}
