import type { Log } from '../../host/log.ts';
import { isCanary, ownerKey } from '../../kit/ids.ts';
import { desiredAppMessage } from '../../kit/wire/desired.ts';
import { parseMessage } from '../../kit/wire/version.ts';
import type { Deployer } from '../deploy/run.ts';
import { settleKept } from '../resources/recover.ts';
import type { ResourceManager } from '../resources/run.ts';
import { orderOf } from './desired.ts';
import type { Remembered } from './records.ts';

/** Apps serve again what they served, before anything is asked of the bus; an edgepoint that was drained still is. */
export function recall(manager: ResourceManager, remembered: Remembered, log: Log): void {
  manager.state.draining = remembered.drainedSinceWallMs !== null;
  for (const { message } of remembered.desired) {
    const parsed = parseMessage(desiredAppMessage, message);
    if (parsed.ok) manager.want(orderOf(parsed.value));
  }
  for (const [key, own] of remembered.ownAddresses) {
    const app = manager.state.apps.get(key);
    if (app !== undefined) manager.setOwn(app.owner, own);
  }
  for (const [key, serving] of remembered.serving) {
    if (manager.state.apps.has(key)) manager.promote(serving);
    else log.warn('an app that nobody wants was left behind and is removed', { app: key });
  }
  for (const { order, rejected } of remembered.releases) {
    if (rejected === '' || !isCanary(order.owner)) continue;
    if (manager.state.apps.get(ownerKey(order.owner))?.desired?.deployId === order.deployId) manager.reject(order.owner, rejected);
  }
}

/** What was wanted when the head ended is wanted again: releases that were not ready yet go on, and what nobody wants any more goes. */
export function wishAgain(
  deployer: Pick<Deployer, 'wish' | 'wishGone'>,
  manager: ResourceManager,
  remembered: Remembered,
  warn: (text: string, fields: Record<string, unknown>) => void,
): void {
  for (const { message } of remembered.desired) {
    const parsed = parseMessage(desiredAppMessage, message);
    if (parsed.ok) deployer.wish(orderOf(parsed.value), parsed.value.artefactBytes);
    else warn('a remembered wish cannot be understood', { reason: parsed.reason });
  }
  for (const [key, { order }] of remembered.serving) if (!manager.state.apps.has(key)) deployer.wishGone(order.owner);
}

/** What kept instances slept with when the head died, before anything is woken. */
export async function settleAllKept(
  manager: ResourceManager,
  remembered: Remembered,
  warn: (text: string, fields: Record<string, unknown>) => void,
): Promise<void> {
  const { records, snapd } = manager.ports;
  for (const [key, { kept, intended }] of remembered.kept) {
    const app = manager.state.apps.get(key);
    if (app === undefined) continue;
    app.kept = kept;
    try {
      const settled = await settleKept({ kept, intended }, snapd);
      app.kept = settled.kept;
      if (settled.kept !== null && settled.kept !== kept) await records.saveKept(app.owner, settled.kept);
      else if (intended !== null) await records.dropIntent(app.owner);
      if (settled.drop !== '') await snapd.discard({ snapshotPath: settled.drop });
    } catch (failure) {
      warn('what a kept instance slept with could not be settled', { app: key, failure });
    }
  }
}
