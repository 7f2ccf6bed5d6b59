/** Versions of the PROXY protocol (haproxy's proxy-protocol.txt) in which an app may be told who its client is. */
export type ProxyVersion = 'v1' | 'v2';

export interface Endpoint {
  /** IPv4 or IPv6 as text, without brackets. */
  readonly address: string;
  readonly port: number;
}

/** A client's connection as it was accepted. */
export interface Endpoints {
  readonly source: Endpoint;
  readonly destination: Endpoint;
}

const signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
const versionTwo = 0x20;
const commandProxy = 0x01;
const familyTcp4 = 0x11;
const familyTcp6 = 0x21;

/**
 * What a connection to the app begins with. `endpoints` null: a connection of our own, such as a probe (`UNKNOWN`, `LOCAL`). So is one
 * whose ends are not of one family.
 */
export function proxyHeader(version: ProxyVersion, endpoints: Endpoints | null): Buffer {
  const source = endpoints === null ? null : addressBytes(endpoints.source.address);
  const destination = endpoints === null ? null : addressBytes(endpoints.destination.address);
  const known = endpoints !== null && source !== null && destination !== null && source.length === destination.length;
  if (version === 'v1') return Buffer.from(known ? lineOf(endpoints, source.length === 4 ? 'TCP4' : 'TCP6') : 'PROXY UNKNOWN\r\n', 'latin1');
  if (!known) return Buffer.from([...signature, versionTwo, 0, 0, 0]);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(endpoints.source.port, 0);
  ports.writeUInt16BE(endpoints.destination.port, 2);
  const length = source.length * 2 + ports.length;
  return Buffer.from([...signature, versionTwo | commandProxy, source.length === 4 ? familyTcp4 : familyTcp6, 0, length, ...source, ...destination, ...ports]);
}

const lineOf = ({ source, destination }: Endpoints, family: string): string =>
  `PROXY ${family} ${source.address} ${destination.address} ${source.port} ${destination.port}\r\n`;

/** 4 or 16 bytes in network order; null when the text is no address. */
export function addressBytes(text: string): readonly number[] | null {
  if (!text.includes(':')) return bytesOfIpv4(text);
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const [before, after] = halves.map(groupBytes);
  if (before === undefined || before === null || after === null) return null;
  const missing = 16 - before.length - (after?.length ?? 0);
  if (after === undefined ? missing !== 0 : missing < 2) return null;
  return [...before, ...Array.from({ length: missing }, () => 0), ...(after ?? [])];
}

/** Of groups between colons, the last of which may be an IPv4 address. */
function groupBytes(text: string): readonly number[] | null {
  const bytes: number[] = [];
  for (const group of text === '' ? [] : text.split(':')) {
    if (group.includes('.')) {
      const embedded = bytesOfIpv4(group);
      if (embedded === null) return null;
      bytes.push(...embedded);
    } else if (/^[0-9a-f]{1,4}$/i.test(group)) {
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 255);
    } else return null;
  }
  return bytes;
}

function bytesOfIpv4(text: string): readonly number[] | null {
  const parts = text.split('.');
  const bytes = parts.map((part) => (/^\d{1,3}$/.test(part) ? Number(part) : 256));
  return bytes.length === 4 && bytes.every((byte) => byte < 256) ? bytes : null;
}
