import { parseRange } from '../kit/address-range.ts';
import type { AddressRange } from '../kit/address-range.ts';

/** Pure arithmetic on the address ranges of worlds. */
export function overlaps(one: AddressRange, other: AddressRange): boolean {
  if (one.bits !== other.bits) return false;
  const shift = BigInt(one.bits - Math.min(one.prefixLength, other.prefixLength));
  return one.first >> shift === other.first >> shift;
}

/** The two ranges of a world. */
export interface WorldRanges {
  /** `10.77` stands for 10.77.0.0/16. */
  readonly ipv4Prefix: string;
  /** `fd5e:1234:5678` stands for fd5e:1234:5678::/48 (RFC 4193). */
  readonly ipv6Prefix: string;
}

export type ChosenRanges = { readonly ok: true; readonly ranges: WorldRanges; readonly reason: string } | { readonly ok: false; readonly reason: string };

const firstSecondOctet = 64;
const secondOctets = 256 - firstSecondOctet;

/**
 * The first ranges, counted from a place that `seed` (any non-negative integer) decides, that overlap nothing taken. When a wide
 * route covers all of 10.0.0.0/8 (a company's VPN), a range that only such wider routes cover: ours is then the more specific.
 */
export function chooseRanges(seed: number, taken: readonly string[]): ChosenRanges {
  const ranges = taken.flatMap((text) => parseRange(text) ?? []).filter((range) => range.prefixLength > 0);
  const candidates = Array.from({ length: secondOctets }, (_, step) => firstSecondOctet + ((seed + step) % secondOctets));
  const ipv6 = candidates.map((octet) => ipv6PrefixOf(seed, octet)).find((prefix) => isFree(`${prefix}::/48`, ranges, 'any'));
  if (ipv6 === undefined) return { ok: false, reason: 'every private IPv6 range that was tried is in use by a route of this machine' };
  const free = candidates.find((octet) => isFree(`10.${octet}.0.0/16`, ranges, 'any'));
  if (free !== undefined) return { ok: true, ranges: { ipv4Prefix: `10.${free}`, ipv6Prefix: ipv6 }, reason: 'no route overlaps it' };
  const shadowing = candidates.find((octet) => isFree(`10.${octet}.0.0/16`, ranges, 'narrower'));
  if (shadowing !== undefined) {
    return { ok: true, ranges: { ipv4Prefix: `10.${shadowing}`, ipv6Prefix: ipv6 }, reason: 'only wider routes overlap it, and the more specific one wins' };
  }
  return { ok: false, reason: `all of 10.${firstSecondOctet}.0.0/16 to 10.255.0.0/16 is in use by routes of this machine` };
}

function isFree(candidate: string, taken: readonly AddressRange[], against: 'any' | 'narrower'): boolean {
  const range = parseRange(candidate);
  if (range === null) return false;
  return !taken.some((other) => overlaps(range, other) && (against === 'any' || other.prefixLength >= range.prefixLength));
}

/** Not random as RFC 4193 wants for networks that may meet: these never leave the machine, and the seed spreads them. */
function ipv6PrefixOf(seed: number, octet: number): string {
  const group = (value: number): string => (value & 0xffff).toString(16);
  return `fd${octet.toString(16).padStart(2, '0')}:${group(Math.imul(seed, 0x9e37) + octet)}:${group(Math.imul(seed, 0x85eb) ^ (octet << 4))}`;
}
