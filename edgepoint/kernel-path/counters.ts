import { instanceIpv6 } from '../model/instance-address.ts';
import { protocols } from './elements.ts';

/** What the kernel counted in one direction: IP packets, and their bytes with all headers. */
export interface Counted {
  readonly packets: number;
  readonly bytes: number;
}

/** By set and key, as `elementsOf` names them. */
export type Counters = ReadonlyMap<string, Counted>;

/** Reads what nft(8) lists of the sets `in4` to `out6`. */
export function parseCounters(text: string): Counters {
  const counters = new Map<string, Counted>();
  let set = '';
  for (const line of text.split('\n')) {
    set = /^\s*set (\w+) \{/.exec(line)?.[1] ?? set;
    for (const [, key = '', packets, bytes] of line.matchAll(/([0-9a-f.:]+ \. (?:tcp|udp)) counter packets (\d+) bytes (\d+)/g)) {
      counters.set(`${set} ${key}`, { packets: Number(packets), bytes: Number(bytes) });
    }
  }
  return counters;
}

/** Bytes of headers: IPv4 20, IPv6 40; UDP 8, TCP 20 and the 12 of its timestamps (RFC 7323), which everybody sends. */
const headerBytes = { in4: { tcp: 52, udp: 28 }, in6: { tcp: 72, udp: 48 }, out4: { tcp: 52, udp: 28 }, out6: { tcp: 72, udp: 48 } } as const;

export interface InstanceTraffic {
  /** Packets that were sent to it: what it says unasked, or again and again to somebody who has gone, is no use of it. */
  readonly packetsIn: number;
  /** Without headers, as the shared address counts. */
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** All of an instance's traffic by its app's own address. */
export function trafficOf(counters: Counters, address: string): InstanceTraffic {
  let packetsIn = 0;
  const bytes = { in: 0, out: 0 };
  for (const direction of ['in', 'out'] as const) {
    for (const [family, inside] of [['4', address], ['6', instanceIpv6(address)]] as const) {
      for (const protocol of protocols) {
        const counted = counters.get(`${direction}${family} ${inside} . ${protocol}`);
        if (counted === undefined) continue;
        if (direction === 'in') packetsIn += counted.packets;
        bytes[direction] += Math.max(0, counted.bytes - counted.packets * headerBytes[`${direction}${family}`][protocol]);
      }
    }
  }
  return { packetsIn, bytesIn: bytes.in, bytesOut: bytes.out };
}
