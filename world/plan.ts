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
  readonly conduitPort: number;
  readonly globalDispatcher: NamespacePlan;
  readonly edgepoints: readonly EdgepointPlan[];
}

/** Two zones with one edgepoint each, at real places. */
export const worldSites: readonly (Site & { latitude: number; longitude: number })[] = [
  { zone: 'eu', edgepoint: 'paris', latitude: 48.8566, longitude: 2.3522 },
  { zone: 'us', edgepoint: 'denver', latitude: 39.7392, longitude: -104.9903 },
];

/** All names and addresses of a world. The bridge carries the first /20 and the first /64; instances have a /20 of their own. */
export function planWorld(options: { id: string; ranges: WorldRanges; dataFolder: string; conduitPort: number }): WorldPlan {
  const { id, ranges } = options;
  const runFolder = join(worldsFolder, id);
  const prefix = worldNames.prefix(id);
  const hostIpv4 = `${ranges.ipv4Prefix}.0.1`;
  return {
    ...options,
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
      runFolder: join(runFolder, site.edgepoint),
      dataFolder: join(options.dataFolder, site.edgepoint),
      mountPin: join(runFolder, 'pins', `${site.edgepoint}.mnt`),
    })),
  };
}

/** Prefix lengths of the one segment that the bridge carries. */
export const segmentPrefixLength = { ipv4: 20, ipv6: 64 } as const;

/** Addresses for end users' namespaces, made later: index counts from 0. */
export function clientAddresses(ranges: WorldRanges, index: number): { ipv4: string; ipv6: string } {
  const place = index + 1;
  return { ipv4: `${ranges.ipv4Prefix}.${8 + Math.floor(place / 250)}.${(place % 250) + 1}`, ipv6: `${ranges.ipv6Prefix}::8:${place.toString(16)}` };
}
