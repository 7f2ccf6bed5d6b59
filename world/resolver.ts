/** What a caching resolver of end users needs to be told; every address as text, without port (53 is meant). */
export interface ResolverOptions {
  /** Its own addresses, where its clients ask. */
  readonly listen: readonly string[];
  /** Networks whose clients may ask: `10.77.32.0/24`. */
  readonly clientSubnets: readonly string[];
  /** The zone whose names it resolves; all others it refuses, so that it never asks the world outside. */
  readonly zoneName: string;
  /** The addresses of the global dispatcher. */
  readonly dispatchers: readonly string[];
  /** A folder that it may write to. */
  readonly folder: string;
}

/**
 * The config of Debian's unbound as such a resolver: it caches, and tells the dispatcher its client's network (/24 or /56) by
 * EDNS Client Subnet (RFC 7871). Start it with `unbound -d -p -c FILE`; it logs to stderr and changes no user by itself.
 */
export function unboundConfig(options: ResolverOptions): string {
  const { listen, clientSubnets, zoneName, dispatchers, folder } = options;
  const hasIpv6 = [...listen, ...dispatchers].some((address) => address.includes(':'));
  return [
    'server:',
    `  directory: ${quoted(folder)}`,
    '  chroot: ""',
    '  username: ""',
    '  pidfile: ""',
    '  use-syslog: no',
    '  logfile: ""',
    '  num-threads: 1',
    `  do-ip6: ${hasIpv6 ? 'yes' : 'no'}`,
    ...listen.map((address) => `  interface: ${address}`),
    ...clientSubnets.map((subnet) => `  access-control: ${subnet} allow`),
    // Modules in the order in which a query passes them: the cache by client network is in front of the ordinary one.
    '  module-config: "subnetcache iterator"',
    ...dispatchers.map((address) => `  send-client-subnet: ${address}`),
    // Otherwise an answer for everybody in the ordinary cache would hide from a client that its network has one of its own.
    '  client-subnet-always-forward: yes',
    '  max-client-subnet-ipv4: 24',
    '  max-client-subnet-ipv6: 56',
    '  do-not-query-localhost: no',
    '  local-zone: "." refuse',
    // Below .test unbound answers NXDOMAIN by itself unless told otherwise (RFC 6761 6.2).
    `  local-zone: ${quoted(absolute(zoneName))} transparent`,
    // A name that begins to exist while somebody asks for it is seen after seconds.
    '  cache-max-negative-ttl: 5',
    'remote-control:',
    '  control-enable: no',
    'stub-zone:',
    `  name: ${quoted(absolute(zoneName))}`,
    ...dispatchers.map((address) => `  stub-addr: ${address}`),
    '',
  ].join('\n');
}

const absolute = (name: string): string => (name.endsWith('.') ? name : `${name}.`);
const quoted = (text: string): string => `"${text}"`;
