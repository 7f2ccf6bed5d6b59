import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { noteGap } from './gaps.ts';
import type { Manages } from './manages.ts';

/** What accesses of its provider want and use of an app: whether any waits for an instance, and the instances that have some. */
export function noteAccess(manager: Manages, owner: Owner, use: { readonly waiting: number; readonly used: ReadonlySet<string> }): void {
  const app = manager.state.apps.get(ownerKey(owner));
  if (app === undefined) return;
  const nowBootNs = manager.ports.clock.bootNs();
  app.accessWaits = use.waiting > 0;
  if (app.waiting === 0) app.waitingSinceBootNs = app.accessWaits ? (app.waitingSinceBootNs ?? nowBootNs) : null;
  if (app.accessWaits) noteGap(app, { owner, waiting: use.waiting, instances: [], epoch: '', traffic: [] }, nowBootNs);
  for (const entry of app.instances.values()) {
    const accessed = use.used.has(entry.facts.id);
    // It was in use until now.
    if (accessed || entry.accessed) entry.lastActiveBootNs = Math.max(entry.lastActiveBootNs, nowBootNs);
    entry.accessed = accessed;
  }
  manager.touch(app);
}
