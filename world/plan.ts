import { join } from 'node:path';
import type { Site } from '../kit/ids.ts';
import type { WorldRanges } from './addresses.ts';

/** Four characters, in the name of every kernel object of a world. */
export const worldIdPattern = /^[0-9a-z]{4}$/;

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';

export function worldIdFrom(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 4), (byte) => alphabet[byte & 31]).join('');
}

/** How kernel objects are named: the clean-up finds by these what no journal tells of. */
export const worldNames = {
  /** Of network namespaces and links; a link name has at most 15 characters. */
  prefix: (id: string): string => `ep-${id}-`,
  cgroup: (id: string): string => `edgepoint-${id}`,
  nftTable: (id: string): string => `edgepoint-${id}`,
} as const;

export const worldsFolder = '/run/edgepoint';
export const defaultDataFolder = (id: string): string => join('/var/lib/edgepoint/worlds', id);

export interface EdgepointPlan extends Site {
  readonly netns: string;
  readonly ipv4: string;
  readonly ipv6: string;
  /** Its instances' addresses. */
  readonly subnet: string;
  /** Of the apps' own addresses: IPv4 ones on the bridge's segment, an IPv6 prefix that is routed to it. */
  readonly ownIpv4: string;
  readonly ownIpv6: string;
  /** Ports of its IPv4 address for apps, where it has no range: so that there is one edgepoint of each kind. */
  readonly ownPorts: string;
  readonly latitude: number;
  readonly longitude: number;
  readonly runFolder: string;
  readonly dataFolder: string;
  /** Keeps the mount namespace of its snapd and restored alive. */
  readonly mountPin: string;
}

export interface NamespacePlan {
  readonly netns: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

export interface AcmePlan {
  readonly directoryUrl: string;
  /** PEM file of who vouches for the authority's server, readable by all; empty for the public ones. */
  readonly caFile: string;
  /** Where the conduit looks up providers' domains, ADDRESS:PORT; empty: at the machine's resolver. */
  readonly resolver: string;
}

/** Where builds have their packages from; the world relays it at this port of the host's address, for its instances do not reach the internet. */
export const publicNpmRegistry = 'https://registry.npmjs.org/';
export const relayPort = 4873;

export interface WorldPlan {
  readonly id: string;
  readonly ranges: WorldRanges;
  readonly runFolder: string;
  readonly dataFolder: string;
  /** The clone, bound read-only where every uid can reach it. */
  readonly repository: string;
  /** The bridge lives in a namespace of its own, so that no firewall rule of the host meets what crosses it. */
  readonly switchNetns: string;
  readonly hostLink: string;
  readonly hostIpv4: string;
  readonly hostIpv6: string;
  readonly natsUrl: string;
  readonly conduitHost: string;
  readonly conduitPort: number;
  readonly globalDispatcher: NamespacePlan;
  /** The authority that certificates are asked of; null: none are. */
  readonly acme: AcmePlan | null;
  readonly npmRegistry: string;
  readonly edgepoints: readonly EdgepointPlan[];
}

/** Two zones with one edgepoint each, at real places. */
export const worldSites: readonly (Site & { latitude: number; longitude: number })[] = [
  { zone: 'eu', edgepoint: 'paris', latitude: 48.8566, longitude: 2.3522 },
  { zone: 'us', edgepoint: 'denver', latitude: 39.7392, longitude: -104.9903 },
];

/** All names and addresses of a world. The bridge carries the first /20 and the first /64; instances have a /20 of their own. */
export function planWorld(options: { id: string; ranges: WorldRanges; dataFolder: string; conduitHost: string; conduitPort: number; acme: AcmePlan | null; npmRegistry?: string }): WorldPlan {
  const { id, ranges } = options;
  const runFolder = join(worldsFolder, id);
  const prefix = worldNames.prefix(id);
  const hostIpv4 = `${ranges.ipv4Prefix}.0.1`;
  return {
    ...options,
    npmRegistry: options.npmRegistry ?? publicNpmRegistry,
    runFolder,
    repository: join(runFolder, 'repository'),
    switchNetns: `${prefix}switch`,
    hostLink: `${prefix}host`,
    hostIpv4,
    hostIpv6: `${ranges.ipv6Prefix}::1`,
    natsUrl: `nats://${hostIpv4}:4222`,
    globalDispatcher: { netns: `${prefix}dns`, ipv4: `${ranges.ipv4Prefix}.0.53`, ipv6: `${ranges.ipv6Prefix}::53` },
    edgepoints: worldSites.map((site, index) => ({
      ...site,
      netns: `${prefix}${site.edgepoint}`,
      ipv4: `${ranges.ipv4Prefix}.1.${index + 1}`,
      ipv6: `${ranges.ipv6Prefix}::1:${index + 1}`,
      subnet: `${ranges.ipv4Prefix}.${16 * (index + 1)}.0/20`,
      ownIpv4: index === 0 ? `${ranges.ipv4Prefix}.${ownNetwork}.0/24` : '',
      ownPorts: index === 0 ? '' : '20000-20999',
      ownIpv6: `${ranges.ipv6Prefix}:${index + 1}::/64`,
      runFolder: join(runFolder, site.edgepoint),
      dataFolder: join(options.dataFolder, site.edgepoint),
      mountPin: join(runFolder, 'pins', `${site.edgepoint}.mnt`),
    })),
  };
}

/** Prefix lengths of the one segment that the bridge carries. */
export const segmentPrefixLength = { ipv4: 20, ipv6: 64 } as const;

/** Where end users of a world may be: each place has a network of its own, and the global dispatcher knows where it lies. */
export const clientPlaces = [
  { name: 'berlin', latitude: 52.52, longitude: 13.405 },
  { name: 'chicago', latitude: 41.8781, longitude: -87.6298 },
] as const;
export type ClientPlace = (typeof clientPlaces)[number]['name'];

const firstClientNetwork = 8;
const ownNetwork = 4;
/** Addresses of one place: a /24 without its first and last. */
export const clientsMax = 254;

/** Addresses for an end user's namespace; `index` counts from 0 within the place. */
export function clientAddresses(ranges: WorldRanges, place: ClientPlace, index: number): { ipv4: string; ipv6: string } {
  const network = firstClientNetwork + clientPlaces.findIndex((known) => known.name === place);
  return { ipv4: `${ranges.ipv4Prefix}.${network}.${index + 1}`, ipv6: `${ranges.ipv6Prefix}::${network}:${(index + 1).toString(16)}` };
}

/** As the global dispatcher's setting `userLocations` wants it. */
export function clientLocations(ranges: WorldRanges): Record<string, { latitude: number; longitude: number }> {
  return Object.fromEntries(
    clientPlaces.flatMap(({ latitude, longitude }, place) => [
      [`${ranges.ipv4Prefix}.${firstClientNetwork + place}.0/24`, { latitude, longitude }],
      [`${ranges.ipv6Prefix}::${firstClientNetwork + place}:0/112`, { latitude, longitude }],
    ]),
  );
}
