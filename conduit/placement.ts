import { siteKey } from '../kit/ids.ts';
import type { Site } from '../kit/ids.ts';
import type { Manifest } from '../kit/wire/manifest.ts';
import type { SeenEdgepoint } from './describe-app.ts';

export interface Placement {
  readonly sites: readonly Site[];
  /** A sentence for the provider. */
  readonly reason: string;
}

export interface PlacementInput {
  readonly manifest: Pick<Manifest, 'state' | 'volume'>;
  /** All edgepoints of the operator, in the operator's order. */
  readonly sites: readonly Site[];
  /** Where the app is now; empty for a new one. */
  readonly current: readonly Site[];
  /** How many apps that live at one edgepoint only each edgepoint holds, by site key. */
  readonly pinned: ReadonlyMap<string, number>;
  /** Edgepoints that take no new apps (drained), by site key. */
  readonly refusing: ReadonlySet<string>;
}

/**
 * Which edgepoints host an app: all of them, unless something of it can only be in one place. An app stays where it is when it
 * may, for its volume and its kept memory are there. A shareable volume is a copy of its own at each edgepoint.
 */
export function placeApp(input: PlacementInput): Placement {
  const why = pinReason(input.manifest);
  if (why === null) {
    const shared = input.manifest.volume.length > 0 ? '; each has its own copy of the volume' : '';
    return { sites: input.sites, reason: `every edgepoint hosts it${shared}` };
  }
  const here = input.sites.find((site) => siteKey(site) === onlyKey(input.current));
  if (here) return { sites: [here], reason: `${why}, so one edgepoint hosts it: ${siteKey(here)}, where it is already` };
  const candidates = [...input.current, ...input.sites].filter(
    (site, index, all) =>
      input.sites.some((known) => siteKey(known) === siteKey(site)) && all.findIndex((other) => siteKey(other) === siteKey(site)) === index,
  );
  const willing = candidates.filter((site) => !input.refusing.has(siteKey(site)));
  const pool = willing.length > 0 ? willing : candidates;
  const least = pool.toSorted((a, b) => pinnedAt(input, a) - pinnedAt(input, b))[0];
  if (!least) return { sites: [], reason: `${why}, and there is no edgepoint` };
  return { sites: [least], reason: `${why}, so one edgepoint hosts it: ${siteKey(least)}, which has the fewest such apps` };
}

function pinReason(manifest: Pick<Manifest, 'state' | 'volume'>): string | null {
  if (manifest.state === 'keep') return 'its memory is kept (state = "keep")';
  const single = manifest.volume.find((volume) => !volume.shareable);
  return single ? `its volume "${single.name}" has one writer` : null;
}

const onlyKey = (sites: readonly Site[]): string | null => (sites.length === 1 && sites[0] ? siteKey(sites[0]) : null);
const pinnedAt = (input: PlacementInput, site: Site): number => input.pinned.get(siteKey(site)) ?? 0;

/** Which of the edgepoints that would host an app prepares it for a check: one that can be reached, the least loaded. Null: none can. */
export function chooseCheckSite(input: { readonly sites: readonly Site[]; readonly seen: ReadonlyMap<string, SeenEdgepoint> }): { readonly site: Site; readonly reason: string } | null {
  const able = input.sites.flatMap((site) => {
    const seen = input.seen.get(siteKey(site));
    return seen?.reachable === true ? [{ site, load: seen.state.load, accepting: seen.state.accepting }] : [];
  });
  const least = able.toSorted((a, b) => Number(b.accepting) - Number(a.accepting) || a.load - b.load)[0];
  if (least === undefined) return null;
  const alone = input.sites.length === 1 ? 'the one that would host it' : able.length === 1 ? 'the only one that can be reached now' : 'the least loaded of those that would host it';
  return { site: least.site, reason: alone };
}

/**
 * Which of the edgepoints that host an app makes the requests of its manifest's `cron`: the one that did, as long as it can be reached or
 * no other can. `current` and the answer are site keys; the answer is empty when none hosts it.
 */
export function chooseCronSite(input: { readonly hosting: readonly Site[]; readonly current: string; readonly reachable: ReadonlySet<string> }): string {
  const hosting = input.hosting.map(siteKey);
  const current = hosting.includes(input.current) ? input.current : null;
  if (current !== null && input.reachable.has(current)) return current;
  return hosting.find((site) => input.reachable.has(site)) ?? current ?? hosting[0] ?? '';
}

export const uidSlotMax = 60_000;

/**
 * The uid slot of a new app: one never used before while there are such, so that files a deleted app left anywhere belong to no
 * one; then the one freed longest ago. Null when all are taken.
 * `taken` holds the slots of apps that exist; `freed` those of deleted apps, the longest ago first.
 */
export function chooseUidSlot(taken: ReadonlySet<number>, freed: readonly number[]): number | null {
  const used = Math.max(0, ...taken, ...freed);
  if (used < uidSlotMax) return used + 1;
  return freed.find((slot) => !taken.has(slot)) ?? null;
}
