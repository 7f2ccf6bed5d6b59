import { z } from 'zod';
import type { Settings } from '../host/config.ts';

const schema = z.object({
  listen: z.array(z.string()).default([]).describe('Places to answer at over UDP and TCP: 192.0.2.1:53 or [2001:db8::1]:53. On 0.0.0.0 an answer may leave from another address than was asked, so name each.'),
  listenFds: z.array(z.int().min(3)).default([]).describe('Descriptors of inherited sockets, UDP or TCP, instead of listen.'),
  zoneName: z.string().min(1).describe('The zone this server is the authority for; apps are <app>.<zoneName>.'),
  nameserverName: z.string().min(1).describe('The name of this server in the NS and SOA records of the zone.'),
  nameserverAddresses: z.array(z.string()).default([]).describe('Its addresses, when its name lies in the zone; without them, those it listens on.'),
  hostmaster: z.string().default('').describe('The mailbox in the SOA record, as a name; default hostmaster.<zoneName>.'),
  natsUrl: z.string().default('nats://127.0.0.1:4222').describe('The message cluster.'),
  natsSeedFile: z.string().min(1).describe('File with the NKEY seed of this daemon.'),
  locationFile: z.string().default('').describe('A MaxMind-format city file, or a folder of them (one IPv4, one IPv6); empty for none.'),
  userLocations: z
    .record(z.string(), z.object({ latitude: z.number().min(-90).max(90), longitude: z.number().min(-180).max(180) }))
    .default({})
    .describe('Places of networks that the location file does not know or has wrong: {"10.1.0.0/16": {"latitude": 52.5, "longitude": 13.4}}; the longest prefix wins.'),
  ttlSeconds: z.int().min(0).max(86_400).default(20).describe('How long resolvers may keep an answer.'),
  negativeTtlSeconds: z.int().min(0).max(10_800).default(5).describe('How long resolvers may remember that a name does not exist.'),
  answersMax: z.int().min(1).max(16).default(1).describe('Addresses in one answer, best first; most clients ignore the order, so 1 sends each to the best.'),
  heartbeatMs: z.int().min(50).default(2000).describe('The interval of the edgepoints\' heartbeats; three missed and users are sent elsewhere.'),
  cacheFile: z.string().default('').describe('Last-known-good state, written on change and read at start, so that a start without the message cluster answers; empty for none.'),
  tcpConnectionsMax: z.int().min(1).default(1000).describe('TCP connections at once; when full, the one idle for longest is closed.'),
  tcpConnectionsPerClientMax: z.int().min(1).default(100).describe('TCP connections at once from one address.'),
  tcpIdleMs: z.int().min(100).default(10_000).describe('A TCP connection without a whole query for so long is closed.'),
  health: z.string().default('').describe('Where /healthz and /metrics are served: unix:/path or host:port; empty for nowhere.'),
});

export const settings: Settings<typeof schema> = {
  name: 'global-dispatcher',
  about: 'Authoritative DNS server that answers with the best edgepoint for each user.',
  prefix: 'GLOBAL_DISPATCHER',
  schema,
};
export type DispatcherSettings = Readonly<z.output<typeof schema>>;
