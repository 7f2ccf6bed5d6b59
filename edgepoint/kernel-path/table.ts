import type { OwnRanges } from '../model/own-address.ts';

export const tableName = 'edgepoint-own';
/** Marks of packets to be held carry this in their first byte, and the app's number in the others. */
export const heldMark = 0x0e000000;
export const appNumberMax = 0x00ffffff;
/** Where held packets wait (nfnetlink_queue). */
export const heldQueue = 45;
/** Several instances share their app's new flows by a number that runs through so many places: divisible by most small counts. */
export const slots = 60;
/** Where the local dispatcher listens: an app's name leads to its own address, so its HTTP does too. */
const sharedPorts = '{ 80, 443 }';

/** The maps and sets, whose elements are all that changes. */
export const changingSets = ['one4', 'one6', 'many4', 'many6', 'held4', 'held6', 'mark4', 'mark6', 'in4', 'in6', 'out4', 'out6'] as const;
export type ChangingSet = (typeof changingSets)[number];
/** Takes away all elements. */
export const emptyTable = changingSets.map((set) => `flush ${/^(in|out)/.test(set) ? 'set' : 'map'} inet ${tableName} ${set}`).join('\n');

/**
 * The rules, which never change: what an app's address leads to stands in the maps (decision 145). New flows only look into them; the
 * packets of the others follow what connection tracking remembers. Running this text again keeps the elements.
 *
 * `one`: the app has one instance. `many`: several. `held`: the app's number, for a packet that nobody can take yet. `mark`: what the flows
 * of an instance are marked with. `in` and `out`: what each instance was sent and has sent, by protocol. A packet for an own address that leads nowhere is this machine's: it is refused but
 * for the ports of the shared address, so that nothing else that listens here is reached by those addresses.
 */
export function ruleset(ranges: OwnRanges, bridge: string): string {
  const { ipv6 } = ranges;
  const usesPorts = ranges.ports !== '' && ranges.sharedIpv4 !== '';
  const family = (name: '4' | '6'): string => {
    const [addr, type] = name === '4' ? ['ip', 'ipv4_addr'] : ['ip6', 'ipv6_addr'];
    return `
  map one${name} { type ${type} . inet_proto . inet_service : ${type} . inet_service; }
  map many${name} { type ${type} . inet_proto . inet_service . mark : ${type} . inet_service; }
  map held${name} { type ${type} . inet_proto . inet_service : mark; }
  map mark${name} { type ${type} : mark; }
  set in${name} { type ${type} . inet_proto; counter; }
  set out${name} { type ${type} . inet_proto; counter; }
  chain new${name} {
    iifname "${bridge}" drop
    ${addr} daddr . meta l4proto . th dport @one${name} accept
    meta mark set numgen inc mod ${slots}
    ${addr} daddr . meta l4proto . th dport . meta mark @many${name} accept
    meta mark set 0
    tcp flags & (fin | syn | rst | ack) != syn accept
    meta mark set ${addr} daddr . meta l4proto . th dport map @held${name}
  }`;
  };
  /** What is ours: the ranges, and the ports of the edgepoint's own address. */
  const ours: ['ip' | 'ip6', '4' | '6', string, string][] = [
    ...(ranges.ipv4 === '' ? [] : [['ip', '4', `ip daddr ${ranges.ipv4}`, `tcp dport ${sharedPorts} accept`] as ['ip', '4', string, string]]),
    ...(usesPorts ? [['ip', '4', `ip daddr ${ranges.sharedIpv4} meta l4proto { tcp, udp } th dport ${ranges.ports}`, ''] as ['ip', '4', string, string]] : []),
    ...(ipv6 === '' ? [] : [['ip6', '6', `ip6 daddr ${ipv6}`, `tcp dport ${sharedPorts} accept`] as ['ip6', '6', string, string]]),
  ];
  const each = (rule: (addr: 'ip' | 'ip6', name: '4' | '6', match: string, allowed: string) => string): string => ours.map((one) => rule(...one)).join('\n    ');
  const both = (rule: (addr: 'ip' | 'ip6', name: '4' | '6') => string): string =>
    [...(ours.some(([addr]) => addr === 'ip') ? [rule('ip', '4')] : []), ...(ipv6 === '' ? [] : [rule('ip6', '6')])].join('\n    ');
  return `
table inet ${tableName} {${family('4')}${family('6')}
  chain choose { type filter hook prerouting priority mangle - 1; policy accept; }
  chain translate { type nat hook prerouting priority dstnat - 1; policy accept; }
  chain count { type filter hook forward priority filter - 1; policy accept; }
  chain refuse { type filter hook input priority filter - 1; policy accept; }
}
${['choose', 'translate', 'count', 'refuse', 'new4', 'new6'].map((chain) => `flush chain inet ${tableName} ${chain}`).join('\n')}
table inet ${tableName} {${family('4').replace(/\n {2}(map|set) .*/g, '')}${family('6').replace(/\n {2}(map|set) .*/g, '')}
  chain choose {
    ${each((_addr, name, match) => `${match} ct state vmap { new : jump new${name}, invalid : drop }`)}
  }
  chain translate {
    ${each(
      (addr, name, match) => `${match} dnat ${addr} to ${addr} daddr . meta l4proto . th dport map @one${name}
    ${match} dnat ${addr} to ${addr} daddr . meta l4proto . th dport . meta mark map @many${name}`,
    )}
  }
  chain count {
    ${both(
      (addr, name) => `ct direction reply ${addr} saddr . meta l4proto @out${name} accept
    ct direction original ct state established ${addr} daddr . meta l4proto @in${name} accept`,
    )}
    iifname "${bridge}" ct state invalid drop
    ${both(
      (addr, name) => `ct state new ct status dnat ct mark set ${addr} daddr map @mark${name}
    ct state new ct status dnat ${addr} daddr . meta l4proto @in${name}`,
    )}
  }
  chain refuse {
    ${each(
      (_addr, _name, match, allowed) => `${allowed === '' ? '' : `${match} ${allowed}\n    `}${match} ct state new meta l4proto tcp reject with tcp reset
    ${match} ct state new meta l4proto udp reject`,
    )}
  }
}
`;
}
