import { z } from 'zod';
import type { Settings } from '../../host/config.ts';
import { tools } from '../../host/tools.ts';
import { bytesPerGibibyte } from '../../kit/units.ts';

const headSchema = z.object({
  zone: z.string().min(1).describe('The zone this edgepoint belongs to.'),
  edgepoint: z.string().min(1).describe('The name of this edgepoint, unique within its zone.'),
  ipv4: z.string().default('').describe('The IPv4 address where end users reach this edgepoint.'),
  ipv6: z.string().default('').describe('The IPv6 address where end users reach this edgepoint.'),
  ownIpv4: z.string().default('').describe("IPv4 range of the apps' own addresses, as restored's setting; empty for none."),
  ownIpv6: z.string().default('').describe("IPv6 prefix of the apps' own addresses, as restored's setting; empty for none."),
  ownPorts: z.string().default('').describe("Where there is no IPv4 range: ports of this edgepoint's own IPv4 address for apps, as restored's setting; empty for none."),
  latitude: z.number().min(-90).max(90).default(0).describe('Where the edgepoint stands, in degrees north.'),
  longitude: z.number().min(-180).max(180).default(0).describe('Where the edgepoint stands, in degrees east.'),
  capacityBytes: z.int().min(1).default(4 * bytesPerGibibyte).describe('Memory that instances may hold together.'),
  frozenRoomBytes: z.int().min(0).optional().describe('Memory of instances that may be frozen; by default what zram and pagers have room for. With 0 none is frozen.'),
  storeBytes: z.int().min(0).default(bytesPerGibibyte).describe('Templates this edgepoint may keep in the object store, together; with 0 none.'),
  storeProviderBytes: z.int().min(0).default(bytesPerGibibyte / 4).describe('Of these, those of one provider.'),
  volumeStoreBytes: z.int().min(0).default(1.75 * bytesPerGibibyte).describe('Snapshots of volumes this edgepoint may keep in the object store, together; with 0 none.'),
  volumeStoreProviderBytes: z.int().min(0).default(bytesPerGibibyte).describe('Of these, those of one provider.'),
  templateBytes: z.int().min(0).optional().describe('Templates this edgepoint may keep on its disk, together; by default as long as a twentieth of the disk is free.'),
  spendingLeaseSeconds: z.number().min(10).max(86_400).default(300).describe('Apps with a spending cap are served so long after it was heard last that somebody judges what they spend.'),
  npmRegistry: z.url().default('https://registry.npmjs.org/').describe('Where builds of Node apps have their packages from.'),
  buildTools: z.string().default(tools.buildTools).describe('The folder with the tools of builds.'),
  buildCacheBytes: z.int().min(0).default(4 * bytesPerGibibyte).describe('Dependencies that builds have installed, kept for the next ones, together; a quarter of it for one provider. With 0 none.'),
  natsUrl: z.string().describe('The message cluster, as nats://HOST:PORT.'),
  natsSeedFile: z.string().describe("The file with this edgepoint's NKEY seed."),
  databaseUrl: z.string().describe("The head's libSQL database, as file:PATH or libsql://HOST."),
  runFolder: z.string().describe("The folder of the edgepoint's unix sockets."),
  dataFolder: z.string().describe('The folder of artefacts, snapshots and volumes.'),
  health: z.string().describe('Where GET /healthz and /metrics are answered: unix:PATH or HOST:PORT.'),
});
export type HeadSettings = z.output<typeof headSchema>;

export const headSettings: Settings<typeof headSchema> = {
  name: 'edgepoint head',
  about: 'plans which instances of which applications run on this edgepoint, and deploys their releases',
  prefix: 'EDGEPOINT_HEAD',
  schema: headSchema,
};

/** Of the settings, what an edgepoint says of itself. */
export function settingsFacts({ zone, edgepoint, ipv4, ipv6, latitude, longitude }: HeadSettings) {
  return { zone, edgepoint, ipv4, ipv6, latitude, longitude };
}
