/** IP addresses as bytes: 4 of them for IPv4, 16 for IPv6. Parsing is ours because the hot path must not depend on a runtime's idea of one. */

export type Family = 4 | 6;
export const bitsOf = (family: Family): number => (family === 4 ? 32 : 128);

/** `192.0.2.1` or `2001:db8::1` (also `::ffff:192.0.2.1`, and a `%scope` is dropped); null when it is neither. */
export function parseAddress(text: string): Uint8Array | null {
  const bare = text.split('%', 1)[0] ?? '';
  return bare.includes(':') ? parseIpv6(bare) : parseIpv4(bare);
}

function parseIpv4(text: string): Uint8Array | null {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255)) return null;
  return Uint8Array.from(parts, Number);
}

function parseIpv6(text: string): Uint8Array | null {
  let groups = text;
  const lastColon = text.lastIndexOf(':');
  if (text.includes('.')) {
    const embedded = parseIpv4(text.slice(lastColon + 1));
    if (embedded === null) return null;
    const [a = 0, b = 0, c = 0, d = 0] = embedded;
    groups = `${text.slice(0, lastColon + 1)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const halves = groups.split('::');
  if (halves.length > 2) return null;
  const head = halves[0] === '' || halves[0] === undefined ? [] : halves[0].split(':');
  const tail = halves[1] === '' || halves[1] === undefined ? [] : halves[1].split(':');
  const gap = 8 - head.length - tail.length;
  if (halves.length === 1 ? gap !== 0 : gap < 1) return null;
  const all = [...head, ...Array.from({ length: gap }, () => '0'), ...tail];
  if (!all.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return null;
  return Uint8Array.from(all.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]));
}

/** An IPv4 address that arrived on an IPv6 socket (RFC 4291 2.5.5.2) counts as the IPv4 address that it is. */
export function unmapped(address: Uint8Array): Uint8Array {
  const mapped = address.length === 16 && address[10] === 0xff && address[11] === 0xff && address.subarray(0, 10).every((byte) => byte === 0);
  return mapped ? address.slice(12) : address;
}

export const familyOf = (address: Uint8Array): Family => (address.length === 4 ? 4 : 6);

/** The address as text; IPv6 in full groups without `::`, which every parser reads. */
export function formatAddress(address: Uint8Array): string {
  if (address.length === 4) return address.join('.');
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2) groups.push((((address[at] ?? 0) << 8) | (address[at + 1] ?? 0)).toString(16));
  return groups.join(':');
}

/** A copy with every bit after `prefixBits` zero. */
export function maskAddress(address: Uint8Array, prefixBits: number): Uint8Array {
  return address.map((byte, at) => {
    const kept = Math.min(8, Math.max(0, prefixBits - at * 8));
    return byte & (0xff << (8 - kept)) & 0xff;
  });
}

/** Bit `at` of the address, counted from the left. */
export const bitAt = (address: Uint8Array, at: number): 0 | 1 => ((((address[at >> 3] ?? 0) >> (7 - (at & 7))) & 1) === 1 ? 1 : 0);

export interface Prefix {
  readonly address: Uint8Array;
  readonly bits: number;
}

/** `10.1.0.0/16`; a bare address is a prefix of all its bits. Null when it is no prefix or has bits set behind its length. */
export function parsePrefix(text: string): Prefix | null {
  const [addressText = '', bitsText, ...rest] = text.split('/');
  const address = parseAddress(addressText);
  if (address === null || rest.length > 0) return null;
  const all = address.length * 8;
  const bits = bitsText === undefined ? all : /^\d{1,3}$/.test(bitsText) ? Number(bitsText) : -1;
  if (bits < 0 || bits > all) return null;
  const masked = maskAddress(address, bits);
  return masked.every((byte, at) => byte === address[at]) ? { address, bits } : null;
}
