/** Pure arithmetic on the address ranges of worlds. IPv4 and IPv6 ranges are handled alike, as numbers of 32 and 128 bits. */

export interface AddressRange {
  readonly bits: 32 | 128;
  readonly first: bigint;
  readonly prefixLength: number;
}

/** `10.1.0.0/16`, `fd00::/64`, or a single address; null when it is neither (`default`, `unreachable`). */
export function parseRange(text: string): AddressRange | null {
  const [address = '', length] = text.split('/');
  const bits = address.includes(':') ? 128 : 32;
  const value = bits === 128 ? parseIpv6(address) : parseIpv4(address);
  const prefixLength = length === undefined ? bits : Number(length);
  if (value === null || !Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > bits) return null;
  const hostBits = BigInt(bits - prefixLength);
  return { bits, first: (value >> hostBits) << hostBits, prefixLength };
}

function parseIpv4(text: string): bigint | null {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255)) return null;
  return parts.reduce((value, part) => (value << 8n) | BigInt(part), 0n);
}

function parseIpv6(text: string): bigint | null {
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const [head = [], tail = []] = halves.map((half) => (half === '' ? [] : half.split(':')));
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null;
  const groups = [...head, ...Array.from({ length: missing }, () => '0'), ...tail];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return null;
  return groups.reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n);
}

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
