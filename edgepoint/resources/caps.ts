import { nsPerMs } from '../../kit/units.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { Manages } from './manages.ts';
import type { AppEntry, CapStop } from './state.ts';

/** What is under way when an app is stopped may take so long; a request or a connection that would go on for ever must not. */
export const lastCallMs = 300_000;

/** Pure. `known`: somebody judges what apps spend; without that one with a cap is not served. */
export function stopOf({ capped }: Pick<ReleaseOrder, 'capped'>, known: boolean, nowBootNs: number): CapStop | null {
  if (capped === undefined) return null;
  const { stopped } = capped;
  if (stopped !== null) return { code: 'spending-cap-reached', untilWallMs: stopped.untilWallMs, reason: stopped.reason, sinceBootNs: nowBootNs };
  if (known) return null;
  return { code: 'spending-unknown', untilWallMs: null, reason: 'it has a spending cap, and what it spends has not been judged for too long', sinceBootNs: nowBootNs };
}

/** The order that is wanted of an app has come, or whether its spending is judged has changed: it stops, or is served again. */
export function noteCap(manager: Pick<Manages, 'ports' | 'state'>, app: AppEntry): void {
  const order = app.desired;
  const stop = order === null ? null : stopOf(order, manager.state.spendingKnown, manager.ports.clock.bootNs());
  const before = app.capStop;
  if (before?.code === stop?.code && before?.untilWallMs === stop?.untilWallMs && before?.reason === stop?.reason) return;
  app.capStop = stop === null ? null : { ...stop, sinceBootNs: before?.sinceBootNs ?? stop.sinceBootNs };
  // Of thousands at once, when nobody judges any more, nobody is told one by one.
  if (order === null || stop?.code === 'spending-unknown' || before?.code === 'spending-unknown') return;
  const text = stop === null ? 'It is served again: its spending is below its cap.' : `It is not served any more: ${stop.reason}. What is under way ends as it should.`;
  manager.ports.tell({ owner: app.owner, release: order.release, kind: 'fault', code: stop?.code ?? 'spending-cap-lifted', text });
}

/** Whether somebody judges what apps spend. */
export function noteSpendingKnown(manager: Pick<Manages, 'ports' | 'state' | 'touch'>, known: boolean): void {
  if (manager.state.spendingKnown === known) return;
  manager.state.spendingKnown = known;
  for (const app of manager.state.apps.values()) {
    if (app.desired?.capped === undefined) continue;
    noteCap(manager, app);
    manager.touch(app);
  }
}

/** When it must have left: of what is under way then nothing is waited for. */
export const leaveByBootNs = ({ sinceBootNs }: CapStop): number => sinceBootNs + lastCallMs * nsPerMs;
