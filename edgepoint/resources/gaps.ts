import { nsPerSecond } from '../../kit/units.ts';
import type { Demand } from '../model/calls.ts';
import type { AppEntry } from './state.ts';

/** So many gaps tell what is usual. */
const gapsMax = 8;

/** Keeps how long an app was unused before it was wanted again, when that was longer than its idle time: what the choice of a tier learns from. */
export function noteGap(app: AppEntry, demand: Demand, nowBootNs: number): void {
  const used = Math.max(...demand.instances.map((told) => told.lastActiveBootNs), ...(demand.waiting > 0 ? [nowBootNs] : []), 0);
  if (used === 0) return;
  const gapNs = used - (app.usedBootNs ?? used);
  const idleNs = (app.serving?.order.manifest.scale.idleSeconds ?? Infinity) * nsPerSecond;
  if (gapNs > idleNs) app.gapsNs = [...app.gapsNs, gapNs].slice(-gapsMax);
  app.usedBootNs = Math.max(app.usedBootNs ?? 0, used);
}
