import { nsPerSecond } from '../../kit/units.ts';
import type { AppEntry, InstanceEntry } from './state.ts';

/** So long without a moment of rest is worth telling; what changes with each request is not. */
const longNs = 60 * nsPerSecond;

const isWarm = ({ facts, purpose }: InstanceEntry): boolean => purpose === 'serve' && facts.mode === 'warm';

/**
 * Pure: why an app has an instance awake that would sleep by its idle time, as a sentence's end ("awake: ..."); empty when nothing holds it.
 * Only what lasts is said: it is published whenever it changes.
 */
export function whyAwake(app: AppEntry, nowBootNs: number): string {
  const manifest = app.serving?.order.manifest;
  if (manifest === undefined || app.status !== 'ready') return '';
  const warm = [...app.instances.values()].filter(isWarm);
  if (warm.length === 0) return '';
  if (manifest.scale.min > 0 && app.stopped === '') return `its manifest wants at least ${manifest.scale.min} (scale.min)`;
  if (warm.some(({ accessed }) => accessed)) return 'its provider is connected to it';
  if (manifest.state === 'template' && warm.some(({ tunnels }) => tunnels > 0)) return 'upgraded connections (WebSocket) are open';
  if (warm.some(({ busySinceBootNs }) => busySinceBootNs !== null && nowBootNs - busySinceBootNs >= longNs)) return 'requests, or connections to its own address, have been under way for more than a minute without a break';
  const working = warm.find(({ work }) => work !== '');
  if (working === undefined || manifest.scale.backgroundSeconds === undefined || manifest.scale.backgroundSeconds === 0) return '';
  return `it ${working.work}, and may for ${manifest.scale.backgroundSeconds} s after its last request (scale.backgroundSeconds)`;
}

/** When `whyAwake` says something else although nothing happens; null: never. */
export function whyAwakeChangesAt(app: AppEntry, nowBootNs: number): number | null {
  let at: number | null = null;
  for (const entry of app.instances.values()) {
    if (!isWarm(entry) || entry.busySinceBootNs === null) continue;
    const bootNs = entry.busySinceBootNs + longNs;
    if (bootNs > nowBootNs && (at === null || bootNs < at)) at = bootNs;
  }
  return at;
}
