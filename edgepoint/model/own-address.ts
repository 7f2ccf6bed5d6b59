import { formatAddress, parseRange } from '../../kit/address-range.ts';
import { fingerprint } from '../../kit/fingerprint.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import type { OwnAddress, OwnPort } from './calls.ts';

/** Where an edgepoint's own addresses lie: prefixes such as `192.0.2.16/28` and `2001:db8:1::/64`; empty for none of that family. */
export interface OwnRanges {
  readonly ipv4: string;
  readonly ipv6: string;
}

/** No more is looked through for a free one: an IPv6 prefix is never that full. */
const triesMax = 2 ** 16;

/**
 * The address of an app: the one it had, as long as it lies in the range; otherwise the first free one from a place that its name
 * decides, so that it gets the same again where it can. Empty where the range is empty, or full.
 */
export function allocateOwn(ranges: OwnRanges, app: string, about: { readonly before: OwnAddress | null; readonly taken: Iterable<OwnAddress> }): OwnAddress {
  const taken = [...about.taken];
  const choose = (family: 'ipv4' | 'ipv6'): string => chooseIn(ranges[family], app, about.before?.[family] ?? '', new Set(taken.map((other) => other[family])));
  return { ipv4: choose('ipv4'), ipv6: choose('ipv6') };
}

function chooseIn(rangeText: string, app: string, before: string, taken: ReadonlySet<string>): string {
  const range = parseRange(rangeText);
  if (rangeText === '' || range === null) return '';
  const size = 2n ** BigInt(range.bits - range.prefixLength);
  // The first and the last of an IPv4 network are not hosts'; the first of an IPv6 one is its routers' (RFC 4291, section 2.6.1).
  const [from, count] = size <= 2n ? [0n, size] : range.bits === 32 ? [1n, size - 2n] : [1n, size - 1n];
  const known = parseRange(before);
  if (known !== null && known.bits === range.bits && known.first >= range.first + from && known.first < range.first + from + count) return before;
  const start = BigInt(fingerprint(app));
  for (let step = 0n; step < count && step < triesMax; step += 1n) {
    const address = formatAddress(range.bits, range.first + from + ((start + step) % count));
    if (!taken.has(address)) return address;
  }
  return '';
}

/** The ports of a manifest's own address; those of a release that was stored before there were any are none. */
export function ownPortsOf(manifest: Manifest): readonly OwnPort[] {
  return (manifest.ownPort ?? []).map(({ protocol, port, targetPort }) => ({ protocol, port, targetPort: targetPort ?? port }));
}
