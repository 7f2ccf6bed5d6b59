/** Ranges of IPv4 and IPv6 addresses, handled alike as numbers of 32 and 128 bits. */

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

/** Writes an address as inet_ntop(3) does: for IPv6 the longest run of zeros, from two on, is left out (RFC 5952). */
export function formatAddress(bits: 32 | 128, value: bigint): string {
  if (bits === 32) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 0xffn).join('.');
  const groups = Array.from({ length: 8 }, (_, at) => ((value >> BigInt(112 - 16 * at)) & 0xffffn).toString(16));
  let best = { at: 0, length: 1 };
  for (let at = 0; at < 8; at += 1) {
    let length = 0;
    while (groups[at + length] === '0') length += 1;
    if (length > best.length) best = { at, length };
  }
  if (best.length < 2) return groups.join(':');
  return `${groups.slice(0, best.at).join(':')}::${groups.slice(best.at + best.length).join(':')}`;
}
