import { mkdirSync, readFileSync } from 'node:fs';
import { Failure } from '../kit/errors.ts';
import { must } from './command.ts';
import type { JournalWriter } from './journal.ts';
import { clientAddresses, clientsMax, segmentPrefixLength, worldNames } from './plan.ts';
import type { ClientPlace, NamespacePlan, WorldPlan } from './plan.ts';

/** Every address and route of this machine, as ranges that a new world must keep clear of. */
export async function takenRanges(): Promise<string[]> {
  const tables = await Promise.all(['-4', '-6'].map((family) => must(['ip', '-json', family, 'route', 'show', 'table', 'all'])));
  return tables.flatMap((text) => (JSON.parse(text || '[]') as { dst?: string }[]).flatMap((route) => route.dst ?? []));
}

/** What the first `ip netns add` of a machine does by itself; two firsts at once would meet (ip-netns(8)). Call it with the lock held. */
export async function prepareNetnsFolder(): Promise<void> {
  const folder = '/run/netns';
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  if (readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${folder} `)) return;
  await must(['mount', '--bind', folder, folder]);
  await must(['mount', '--make-shared', folder]);
}

/** IPv6 duplicate address detection would keep a fresh address unusable for seconds; forwarding stays off. */
const namespaceSysctls = 'for k in all default; do echo 0 >/proc/sys/net/ipv6/conf/$k/disable_ipv6; echo 0 >/proc/sys/net/ipv6/conf/$k/accept_dad; echo 0 >/proc/sys/net/ipv6/conf/$k/accept_ra; done';

const bridge = 'bridge';

/** The bridge in its own namespace, the host's link to it, and a namespace for the global dispatcher and for each edgepoint. */
export async function makeNetwork(plan: WorldPlan, journal: JournalWriter): Promise<void> {
  const members = [plan.globalDispatcher, ...plan.edgepoints];
  for (const name of [plan.switchNetns, ...members.map((member) => member.netns)]) journal.write({ made: 'netns', name });
  journal.write({ made: 'link', name: plan.hostLink });
  await must(['ip', '-batch', '-'], { input: [plan.switchNetns, ...members.map((member) => member.netns)].map((name) => `netns add ${name}\n`).join('') });
  await must(['ip', '-n', plan.switchNetns, '-batch', '-'], {
    // Without a querier, multicast snooping would in time stop neighbour discovery.
    input: `link set lo up\nlink add ${bridge} type bridge mcast_snooping 0 forward_delay 0\nlink set ${bridge} up\n`,
  });
  await must(['ip', '-batch', '-'], { input: `link add ${plan.hostLink} type veth peer name host netns ${plan.switchNetns}\n` });
  await must(['ip', '-n', plan.switchNetns, '-batch', '-'], { input: `link set host master ${bridge}\nlink set host up\n` });
  await must(['ip', '-batch', '-'], { input: addressLines(plan.hostLink, { ipv4: plan.hostIpv4, ipv6: plan.hostIpv6 }) });
  await must(['ip', '-6', '-batch', '-'], { input: ownRoutes(plan, plan.hostIpv6) });
  for (const member of members) await joinNamespace(plan, member);
}

/** The prefixes of the apps' own addresses are behind their edgepoints, for everybody else on the bridge. */
function ownRoutes(plan: WorldPlan, of: string): string {
  return plan.edgepoints.flatMap(({ ownIpv6, ipv6 }) => (ipv6 === of ? [] : [`route add ${ownIpv6} via ${ipv6}\n`])).join('');
}

function addressLines(link: string, addresses: { ipv4: string; ipv6: string }): string {
  return [
    `addr add ${addresses.ipv4}/${segmentPrefixLength.ipv4} dev ${link}`,
    `addr add ${addresses.ipv6}/${segmentPrefixLength.ipv6} dev ${link} nodad`,
    `link set ${link} up`,
    '',
  ].join('\n');
}

/** Joins an existing namespace to the bridge: its `eth0` gets the addresses. */
async function joinNamespace(plan: WorldPlan, member: NamespacePlan): Promise<void> {
  const port = member.netns.slice(worldNames.prefix(plan.id).length);
  await must(['ip', 'netns', 'exec', member.netns, 'sh', '-c', namespaceSysctls]);
  await must(['ip', '-n', plan.switchNetns, '-batch', '-'], {
    input: `link add ${port} type veth peer name eth0 netns ${member.netns}\nlink set ${port} master ${bridge}\nlink set ${port} up\n`,
  });
  await must(['ip', '-n', member.netns, '-batch', '-'], {
    input: `link set lo up\n${addressLines('eth0', member)}route add default via ${plan.hostIpv4}\nroute add default via ${plan.hostIpv6}\n${ownRoutes(plan, member.ipv6)}`,
  });
}

/** A namespace for an end user, on the same bridge. `index` counts from 0 within its place. */
export async function addClient(plan: WorldPlan, journal: JournalWriter, client: { name: string; place: ClientPlace; index: number }): Promise<NamespacePlan> {
  const { name, place, index } = client;
  if (!/^[a-z][a-z0-9]{0,10}$/.test(name) || index >= clientsMax) {
    throw new Failure('bad-client', `An end user's namespace cannot be named ${JSON.stringify(name)} (place ${index}).`, { remedy: 'A name has 1 to 11 lower-case letters and digits; a place has 254 addresses.' });
  }
  const member = { netns: `${worldNames.prefix(plan.id)}${name}`, ...clientAddresses(plan.ranges, place, index) };
  journal.write({ made: 'netns', name: member.netns });
  await must(['ip', 'netns', 'add', member.netns]);
  await joinNamespace(plan, member);
  return member;
}
