import { siteKey } from '../kit/ids.ts';
import type { Site } from '../kit/ids.ts';
import type { AppState } from '../kit/wire/edgepoint-state.ts';
import type { AppEvent } from '../kit/wire/event.ts';
import type { ProgressLine } from './api/answers.ts';

type End = Extract<ProgressLine, { type: 'end' }>;
type SiteEnd = End['sites'][number];
/** `told` when its figures are known, be they that there are none (an app that cannot be snapshotted has no restore). */
type KnownEnd = SiteEnd & { readonly told: boolean };

/** How far a deploy has come at each hosting edgepoint. */
export interface Following {
  readonly release: number;
  readonly sites: readonly Site[];
  readonly ends: ReadonlyMap<string, KnownEnd>;
}

export const beginFollowing = (release: number, sites: readonly Site[]): Following => ({ release, sites, ends: new Map() });

/** An event of this deploy; only `ready` and `failed` end it at that edgepoint, and the last word holds. */
export function followEvent(following: Following, event: AppEvent): Following {
  if (event.kind !== 'deploy' || (event.stage !== 'ready' && event.stage !== 'failed')) return following;
  return withEnd(following, {
    zone: event.zone,
    edgepoint: event.edgepoint,
    outcome: event.stage,
    reason: event.stage === 'failed' ? event.text : '',
    // Nothing takes no time at all: 0 stands for unknown.
    coldBootMs: event.figures['coldBootMs'] || null,
    restoreMs: event.figures['restoreMs'] || null,
    told: event.stage === 'failed' || 'coldBootMs' in event.figures,
  });
}

/** What an edgepoint says of the app says the same: it stands when the event was lost, for events are kept for a limited time. */
export function followState(following: Following, { zone, edgepoint }: Site, app: AppState | null): Following {
  if (app === null || app.release !== following.release || app.status === 'preparing') return following;
  return withEnd(following, {
    zone,
    edgepoint,
    outcome: app.status,
    reason: app.status === 'failed' ? app.reason : '',
    coldBootMs: app.coldBootMs,
    restoreMs: app.restoreMs,
    told: true,
  });
}

function withEnd(following: Following, end: KnownEnd): Following {
  const key = siteKey(end);
  if (!following.sites.some((site) => siteKey(site) === key)) return following;
  const known = following.ends.get(key);
  const merged = { ...end, told: end.told || known?.told === true, coldBootMs: end.coldBootMs ?? known?.coldBootMs ?? null, restoreMs: end.restoreMs ?? known?.restoreMs ?? null };
  return { ...following, ends: new Map(following.ends).set(key, merged) };
}

/** Whether nothing more is to come of any edgepoint that has ended. */
export const isFullyTold = (following: Following): boolean => [...following.ends.values()].every((end) => end.told);

/** The line that ends the stream, or null while an edgepoint is still at work. */
export function endOf(following: Following): End | null {
  if (following.ends.size < following.sites.length) return null;
  const sites = endsBySite(following);
  const failed = sites.filter((site) => site.outcome === 'failed');
  const count = sites.length;
  if (count === 0) return { type: 'end', outcome: 'failed', text: 'there is no edgepoint to host it', sites };
  if (failed.length === 0) return { type: 'end', outcome: 'ready', text: `ready at ${count === 1 ? 'its edgepoint' : `all ${count} edgepoints`}`, sites };
  if (failed.length === count) return { type: 'end', outcome: 'failed', text: `failed: ${failed[0]?.reason ?? ''}`, sites };
  const names = failed.map((site) => `${siteKey(site)} (${site.reason})`).join(', ');
  return { type: 'end', outcome: 'partly-ready', text: `ready at ${count - failed.length} of ${count} edgepoints; failed at ${names}`, sites };
}

/** Why a deploy need not be watched any longer, in words; empty while it is what is wanted. `now`: null when the app has been deleted. */
export function supersededBy(deploy: { release: number; canary: boolean }, now: { serving: number; canary: number | null } | null): string {
  if (now === null) return 'the app has been deleted';
  if ((deploy.canary ? now.canary : now.serving) === deploy.release) return '';
  if (!deploy.canary) return `release ${now.serving} has taken its place`;
  if (now.serving === deploy.release) return 'the canary has been promoted';
  return now.canary === null ? 'the canary has been taken away' : `release ${now.canary} has taken its place as the canary`;
}

/** The line for a deploy that is watched no longer. */
export function endEarly(following: Following, outcome: 'superseded' | 'timeout', text: string): End {
  return { type: 'end', outcome, text, sites: endsBySite(following) };
}

function endsBySite(following: Following): SiteEnd[] {
  return following.sites.map(
    ({ zone, edgepoint }) => {
      const end = following.ends.get(siteKey({ zone, edgepoint }));
      if (!end) return { zone, edgepoint, outcome: 'unknown', reason: '', coldBootMs: null, restoreMs: null };
      const { told: _, ...rest } = end;
      return rest;
    },
  );
}
