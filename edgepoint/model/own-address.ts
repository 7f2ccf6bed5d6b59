import { formatAddress, parseRange } from '../../kit/address-range.ts';
import { fingerprint } from '../../kit/fingerprint.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import type { OwnAddress, OwnPort } from './calls.ts';

/** Where an edgepoint's own addresses lie: prefixes such as `192.0.2.16/28` and `2001:db8:1::/64`; empty for none of that family. */
export interface OwnRanges {
  readonly ipv4: string;
  readonly ipv6: string;
  /** Where there is no IPv4 range: ports, such as `20000-20999`, of the edgepoint's own IPv4 address; empty for none. */
  readonly ports: string;
  readonly sharedIpv4: string;
}

/** The bounds of a range of ports; null when it is none. */
export function parsePorts(text: string): { readonly from: number; readonly to: number } | null {
  const [, from = 0, to = 0] = (/^(\d{1,5})-(\d{1,5})$/.exec(text) ?? []).map(Number);
  return from >= 1 && from <= to && to <= 65_535 ? { from, to } : null;
}

const portKey = ({ protocol, port }: OwnPort): string => `${protocol}/${port}`;

/** Where end users reach that port by IPv4, when that is a port of the edgepoint's own address. */
export function sharedPortOf(own: OwnAddress, port: OwnPort): number | null {
  return own.shared?.ports[portKey(port)] ?? null;
}

/** No more is looked through for a free one: an IPv6 prefix is never that full. */
const triesMax = 2 ** 16;

/**
 * The address of an app: the one it had, as long as it lies in the range; otherwise the first free one from a place that its name
 * decides, so that it gets the same again where it can. Empty where the range is empty, or full.
 */
export function allocateOwn(ranges: OwnRanges, app: string, about: { readonly before: OwnAddress | null; readonly taken: Iterable<OwnAddress>; readonly ports: readonly OwnPort[] }): OwnAddress {
  const taken = [...about.taken].filter((other) => other !== about.before);
  const choose = (family: 'ipv4' | 'ipv6'): string => chooseIn(ranges[family], app, about.before?.[family] ?? '', new Set(taken.map((other) => other[family])));
  const ipv4 = choose('ipv4');
  const sharedPorts = ipv4 === '' && ranges.sharedIpv4 !== '' ? choosePorts(ranges.ports, app, about.ports, { before: about.before?.shared?.ports ?? {}, taken }) : {};
  return { ipv4, ipv6: choose('ipv6'), ...(Object.keys(sharedPorts).length === 0 ? {} : { shared: { ipv4: ranges.sharedIpv4, ports: sharedPorts } }) };
}

/** A port for each of the app's, TCP and UDP apart; all or none. */
function choosePorts(
  rangeText: string,
  app: string,
  ports: readonly OwnPort[],
  about: { readonly before: Readonly<Record<string, number>>; readonly taken: readonly OwnAddress[] },
): Record<string, number> {
  const range = parsePorts(rangeText);
  if (range === null) return {};
  const count = range.to - range.from + 1;
  const nameOf = (protocol: string, port: number): string => `${protocol} ${port}`;
  const taken = new Set(about.taken.flatMap(({ shared }) => Object.entries(shared?.ports ?? {}).map(([key, port]) => nameOf(key.split('/')[0] ?? '', port))));
  const chosen: Record<string, number> = {};
  for (const port of ports) {
    const key = portKey(port);
    const before = about.before[key] ?? 0;
    const start = before >= range.from && before <= range.to ? before - range.from : fingerprint(`${app} ${key}`) % count;
    const found = Array.from({ length: count }, (_, step) => range.from + ((start + step) % count)).find((candidate) => !taken.has(nameOf(port.protocol, candidate)));
    if (found === undefined) return {};
    chosen[key] = found;
    taken.add(nameOf(port.protocol, found));
  }
  return chosen;
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
