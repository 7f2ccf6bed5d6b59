import { isCanary } from '../../kit/ids.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { OwnRoute, Route } from '../model/calls.ts';
import { ownPortsOf } from '../model/own-address.ts';
import type { AppEntry, InstanceEntry } from './state.ts';

/** A request may wait this long for its app; then 503 with Retry-After. */
export const holdMs = 60_000;

/**
 * What the dispatcher shall do with an app's requests: those of the serving release's warm instances get them; the old
 * release's only as long as none of the new is warm. An app that has never served holds them while it prepares. A canary has no name of
 * its own: what it gets, it gets of the app whose `canary` it is.
 */
export function routeOf(app: AppEntry, nowBootNs: number, canary: AppEntry | null = null): Route | null {
  const order = app.serving?.order ?? app.desired;
  if (order === null || order === undefined) return null;
  const up = [...app.instances.values()].filter((entry) => entry.purpose === 'serve' && entry.facts.address !== '');
  const warm = up.filter((entry) => entry.facts.mode === 'warm');
  const current = warm.filter((entry) => entry.facts.release === order.release);
  const able = current.length > 0 ? current : warm;
  // What is under way in it must not be cut.
  const draining = up.filter((entry) => entry.facts.mode === 'draining');
  const own = ownRouteOf(app, order);
  const share = canary === null ? null : shareOf(canary, nowBootNs);
  const unable = whyUnable(app, able.length + draining.length > 0, nowBootNs);
  return {
    owner: app.owner,
    hosts: isCanary(app.owner) ? [] : (app.desired ?? order).hosts,
    status: unable === null ? (app.serving === null ? 'preparing' : 'ready') : 'failed',
    reason: unable ?? '',
    concurrency: order.manifest.scale.concurrency,
    holdMs,
    instances: [...able.map(placeOf), ...draining.map((entry) => ({ ...placeOf(entry), draining: true as const }))],
    ...(app.capStop === null ? {} : { stop: { code: app.capStop.code, untilWallMs: app.capStop.untilWallMs } }),
    ...(own === null ? {} : { own }),
    ...(share === null ? {} : { canary: share }),
    ...(order.manifest.httpsOnly === undefined ? {} : { httpsOnly: order.manifest.httpsOnly }),
    ...(order.manifest.scale.sticky ? { sticky: true } : {}),
    ...(order.manifest.health === undefined ? {} : { healthPath: order.manifest.health.path }),
    // Orders that were stored before there was one have none.
    ...((order.manifest.scale.slowStartSeconds ?? 0) > 0 ? { slowStartMs: order.manifest.scale.slowStartSeconds * 1000 } : {}),
    ...(order.manifest.proxyProtocol === 'none' ? {} : { proxyProtocol: order.manifest.proxyProtocol }),
  };
}

const placeOf = ({ facts, port }: InstanceEntry): Route['instances'][number] => ({ instance: facts.id, address: facts.address, port });

/** Null while its wanted release cannot serve here, or no memory is there for it. */
function shareOf(canary: AppEntry, nowBootNs: number): NonNullable<Route['canary']> | null {
  const { owner, desired, serving, stopped, refusal } = canary;
  if (desired?.canaryPercent === undefined || serving?.order.release !== desired.release || stopped !== '') return null;
  if (refusal !== null && nowBootNs < refusal.untilBootNs) return null;
  return { owner, percent: desired.canaryPercent };
}

/** Null when the app has no address of its own, or its release wants nothing of it. */
function ownRouteOf(app: AppEntry, { manifest }: ReleaseOrder): OwnRoute | null {
  const ports = ownPortsOf(manifest);
  return app.own === null || ports.length === 0 ? null : { ...app.own, ports, idleMs: manifest.scale.idleSeconds * 1000 };
}

/** Why its requests are answered 503 instead of held; null when they are held or served. */
function whyUnable(app: AppEntry, served: boolean, nowBootNs: number): string | null {
  if (app.capStop !== null) return app.capStop.reason;
  if (app.stopped !== '') return app.stopped;
  if (served) return null;
  if (app.serving === null) return app.status === 'failed' ? app.reason : null;
  if (app.refusal !== null && nowBootNs < app.refusal.untilBootNs) return app.refusal.reason;
  if (app.backoff !== null && app.backoff.failures > 1 && nowBootNs < app.backoff.untilBootNs) return app.backoff.reason;
  return null;
}

/** When its requests are held again although nothing else happens; null when they are held, or for ever refused. */
export function routeChangesAt(app: AppEntry, nowBootNs: number): number | null {
  const later = [app.refusal?.untilBootNs ?? 0, app.backoff?.untilBootNs ?? 0].filter((bootNs) => bootNs > nowBootNs);
  return later.length === 0 ? null : Math.min(...later);
}
