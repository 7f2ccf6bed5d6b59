import { awakeCount } from '../describe-app.ts';
import type { AppAtSite } from '../api/answers.ts';

export type ChosenSite = { readonly ok: true; readonly site: { readonly zone: string; readonly edgepoint: string } } | { readonly ok: false; readonly code: string; readonly reason: string };

/** Where an access goes: to the edgepoint that is asked for, or to one where the app is awake, or to the first that can be reached. */
export function chooseAccessSite(sites: readonly AppAtSite[], at: string | null): ChosenSite {
  const named = at === null ? sites : sites.filter(({ zone, edgepoint }) => at === edgepoint || at === `${zone}/${edgepoint}`);
  if (at !== null && named.length === 0) return { ok: false, code: 'edgepoint-unknown', reason: `no edgepoint ${JSON.stringify(at)} has the app; it is at ${sites.map(({ zone, edgepoint }) => `${zone}/${edgepoint}`).join(', ') || 'none'}` };
  const able = named.filter(({ reachable, state }) => reachable && state?.status === 'ready');
  const site = able.find(({ state }) => awakeCount(state?.instances ?? {}) > 0) ?? able[0];
  if (site !== undefined) return { ok: true, site: { zone: site.zone, edgepoint: site.edgepoint } };
  return { ok: false, code: 'no-edgepoint', reason: 'no edgepoint that has the app ready can be reached' };
}
