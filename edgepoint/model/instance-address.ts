/** Where instances have IPv6 addresses: their IPv4 ones behind this prefix, which never leaves the edgepoint (RFC 4193). */
const instancePrefix = 'fd45:6467:6570::';
export const instancePrefixLength = 96;

/** The IPv6 address of an instance, or of their gateway, from its IPv4 one; written as inet_ntop(3) and so nft(8) write it. */
export function instanceIpv6(address: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number);
  return `${instancePrefix}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

/** An IPv4 address as a number: the mark of an instance's flows. */
export function addressNumber(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}
