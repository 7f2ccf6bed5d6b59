import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { Failure } from '../../kit/errors.ts';
import { instanceIpv6, instancePrefixLength } from '../model/instance-address.ts';
import { gatewayOf, hardwareAddressOf, type Subnet } from './address.ts';

/** The edgepoint's side of all instances' links. */
export const bridge = 'instances0';
const netnsFolder = '/run/netns';

async function run(command: readonly string[], input = ''): Promise<string> {
  const child = Bun.spawn([...command], { stdin: new Blob([input]), stdout: 'pipe', stderr: 'pipe' });
  const [status, out, err] = await Promise.all([child.exited, new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if (status !== 0) throw new Failure('network', `${command.join(' ')}: ${err.trim() || `exit status ${status}`}`);
  return out;
}

/** Where the operator has packages from, in a private range: instances may reach it, and so may builds, which are such. */
export interface Mirror {
  /** Dotted IPv4. */
  readonly address: string;
  readonly port: number;
}

/** `ADDRESS:PORT`, several separated by commas; empty: none. */
export function parseMirrors(text: string): readonly Mirror[] {
  return text.split(',').flatMap((part) => {
    const [, address, port] = /^\s*(\d{1,3}(?:\.\d{1,3}){3}):(\d{1,5})\s*$/.exec(part) ?? [];
    if (address !== undefined && Number(port) <= 65_535) return [{ address, port: Number(port) }];
    if (part.trim() === '') return [];
    throw new Failure('bad-setting', `mirrors: ${JSON.stringify(part.trim())} is not of the form ADDRESS:PORT`);
  });
}

/**
 * What an instance may reach: answers to what reached it, and the public internet through the edgepoint's address. Not the
 * edgepoint, not its neighbours (their bridge ports are isolated too), no private range but its mirrors: other sites and hosts live there. Only what
 * came for an app's own address is translated (kernel-path/table.ts) before it gets here.
 */
const ruleset = (subnet: string, mirrors: readonly Mirror[]): string => `
table inet edgepoint-instances
delete table inet edgepoint-instances
table inet edgepoint-instances {
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "${bridge}" ct state established,related accept
    iifname "${bridge}" icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname "${bridge}" drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    iifname != "${bridge}" oifname "${bridge}" ct status dnat accept
    oifname "${bridge}" drop
    iifname "${bridge}" meta nfproto ipv6 drop
${mirrors.map(({ address, port }) => `    iifname "${bridge}" ip daddr ${address} tcp dport ${port} accept\n`).join('')}    iifname "${bridge}" ip daddr { 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3 } drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${subnet} oifname != "${bridge}" masquerade
  }
}
`;

/**
 * Network namespaces made from here on have socket tables of their own, of so many places (ip-sysctl.rst; from Linux 6.1 and 6.3 on). A dump looks
 * through all places of the table for the few sockets of its instance, which takes a millisecond each for the machine's own.
 */
const socketTables = { '/proc/sys/net/ipv4/tcp_child_ehash_entries': '2048', '/proc/sys/net/ipv4/udp_child_hash_entries': '256' } as const;

/**
 * The bridge with its gateway address, and the rules. Idempotent. Its hardware address is set, because a bridge without one takes
 * the lowest of its ports', which come and go: instances would then speak to an address nobody has, until their neighbour entry ages.
 */
export async function prepareBridge(subnet: Subnet, subnetText: string, mirrors: readonly Mirror[] = []): Promise<void> {
  if (!existsSync(`/sys/class/net/${bridge}`) && !(await linkExists(bridge))) {
    await run(
      ['ip', '-batch', '-'],
      `link add ${bridge} address ${hardwareAddressOf(gatewayOf(subnet))} type bridge\naddr add ${gatewayOf(subnet)}/${subnet.prefixLength} dev ${bridge}\nlink set ${bridge} up\n`,
    );
  }
  writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
  for (const [table, entries] of Object.entries(socketTables)) if (existsSync(table)) writeFileSync(table, entries);
  await run(['nft', '-f', '-'], ruleset(subnetText, mirrors));
}

/**
 * Lets packets for the apps' own addresses come here: their ranges are this machine's without an address for each (local routes). Those
 * that carry a mark under `mark` wait in a queue (nfnetlink_queue); iptables puts them there, for not every kernel lets nftables do it.
 * IPv6 is forwarded from now on. Idempotent.
 */
export async function prepareOwnRanges(subnet: Subnet, ranges: { readonly ipv4: string; readonly ipv6: string; readonly ports: string }, hold: { readonly mark: number; readonly queue: number }): Promise<void> {
  const hex = `0x${hold.mark.toString(16).padStart(8, '0')}`;
  for (const [range, program, used] of [[ranges.ipv4, 'iptables-nft', ranges.ipv4 + ranges.ports], [ranges.ipv6, 'ip6tables-nft', ranges.ipv6]] as const) {
    if (used === '') continue;
    if (range !== '') await run(['ip', ...(program === 'ip6tables-nft' ? ['-6'] : []), 'route', 'replace', 'local', range, 'dev', 'lo']);
    const rule = ['PREROUTING', '-m', 'mark', '--mark', `${hex}/0xff000000`, '-j', 'NFQUEUE', '--queue-num', `${hold.queue}`];
    const listed = await run([program, '-t', 'mangle', '-S', 'PREROUTING']);
    if (!listed.includes(`--queue-num ${hold.queue}`)) await run([program, '-t', 'mangle', '-A', ...rule]);
  }
  if (ranges.ipv6 === '') return;
  writeFileSync('/proc/sys/net/ipv6/conf/all/forwarding', '1');
  await run(['ip', '-6', 'addr', 'replace', `${instanceIpv6(gatewayOf(subnet))}/${instancePrefixLength}`, 'dev', bridge, 'nodad']);
}

async function linkExists(name: string): Promise<boolean> {
  const child = Bun.spawn(['ip', 'link', 'show', name], { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' });
  return (await child.exited) === 0;
}

export function netnsPath(name: string): string {
  return `${netnsFolder}/${name}`;
}

/** Names of all network namespaces this mount namespace knows. */
export function netnsNames(): string[] {
  return existsSync(netnsFolder) ? readdirSync(netnsFolder) : [];
}

/**
 * Makes network namespaces, each with an eth0 that is down and has no address (edgepoint-box gives it one) and whose other end
 * `link` is an isolated port of the bridge.
 */
export async function makeNetns(wanted: readonly { readonly name: string; readonly link: string }[]): Promise<void> {
  mkdirSync(netnsFolder, { recursive: true });
  const lines = wanted.flatMap(({ name, link }) => [
    `netns add ${name}`,
    `link add ${link} type veth peer name eth0 netns ${name}`,
    `link set ${link} master ${bridge} up`,
    `link set ${link} type bridge_slave isolated on`,
  ]);
  await run(['ip', '-batch', '-'], `${lines.join('\n')}\n`);
}

/** Removes a namespace and the link into it; absent is success. */
export async function removeNetns(name: string): Promise<void> {
  if (existsSync(netnsPath(name))) await run(['ip', 'netns', 'delete', name]);
}

/** The edgepoint's end of the link of a slot, `<world>-<edgepoint>-<number>`. */
export function linkOf(slotName: string): string {
  return `i${slotName.slice(slotName.lastIndexOf('-') + 1)}`;
}

/** Cuts or joins the instance's link on the edgepoint's side, which leaves addresses and routes inside as they are. */
export async function setLink(slotName: string, up: boolean): Promise<void> {
  await run(['ip', 'link', 'set', linkOf(slotName), up ? 'up' : 'down']);
}
