import type { Bus } from '../host/bus.ts';
import type { Log } from '../host/log.ts';
import type { Site } from '../kit/ids.ts';
import { siteKey } from '../kit/ids.ts';
import { isOfZone, wantedDomainMessage } from '../kit/wire/certificates.ts';
import { edgepointStateMessage } from '../kit/wire/edgepoint-state.ts';
import { buckets } from '../kit/wire/subjects.ts';
import { parseMessage } from '../kit/wire/version.ts';
import type { Wish } from './run.ts';

export interface Followed {
  /** The zone's own first. */
  wishes(): readonly Wish[];
  /** All providers' domains were told once. */
  readonly allTold: boolean;
  /** Of a site's dispatcher; empty while it has said none. */
  sealTo(site: string): string;
  addresses(): readonly string[];
  stop(): void;
}

export interface FollowOptions {
  readonly zoneName: string;
  readonly sites: readonly Site[];
  readonly domainsMax: number;
  readonly onChange: () => void;
  readonly log: Log;
}

/** Follows on the bus which domains there are and what the operator's edgepoints say of themselves. */
export async function followWishes(bus: Bus, options: FollowOptions): Promise<Followed> {
  const { zoneName, sites, domainsMax, onChange, log } = options;
  const domains = new Map<string, Wish>();
  const edgepoints = new Map<string, { sealTo: string; addresses: readonly string[] }>();
  const known = new Set(sites.map(siteKey));
  let allTold = false;

  const takeDomain = (key: string, text: string | null): void => {
    const parsed = text === null ? null : parseMessage(wantedDomainMessage, text);
    if (parsed === null) domains.delete(key);
    else if (!parsed.ok || parsed.value.domain !== key || isOfZone(key, zoneName)) log.warn('a wish for a domain is not used', { key, reason: parsed.ok ? 'it is of another name' : parsed.reason });
    else if (domains.size >= domainsMax && !domains.has(key)) log.warn(`there are ${domainsMax} domains already`, { key });
    else domains.set(key, { name: key, names: [key], proof: 'http-01', sites: new Set(parsed.value.sites) });
    onChange();
  };
  const takeEdgepoint = (key: string, text: string | null): void => {
    if (!known.has(key)) return;
    const parsed = text === null ? null : parseMessage(edgepointStateMessage, text);
    // What it said before stands until it says something else.
    if (parsed === null || !parsed.ok) return;
    const { sealTo, ipv4, ipv6 } = parsed.value;
    const before = edgepoints.get(key)?.sealTo;
    edgepoints.set(key, { sealTo, addresses: [ipv4, ipv6].filter((address) => address !== '') });
    if (before !== sealTo) onChange();
  };
  const watches = [await bus.watchKv(buckets.domains, '>', takeDomain), await bus.watchKv(buckets.state, '*.*', takeEdgepoint)];
  void watches[0]?.ready.then(() => {
    allTold = true;
    onChange();
  });
  const zone: Wish = { name: zoneName, names: [zoneName, `*.${zoneName}`], proof: 'dns-01', sites: null };
  return {
    wishes: () => [zone, ...domains.values()],
    get allTold() {
      return allTold;
    },
    sealTo: (site) => edgepoints.get(site)?.sealTo ?? '',
    addresses: () => [...edgepoints.values()].flatMap(({ addresses }) => addresses),
    stop: () => {
      for (const watch of watches) watch.stop();
    },
  };
}
