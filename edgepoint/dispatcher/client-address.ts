import type { Socket } from 'bun';
import type { Endpoints } from '../model/proxy-protocol.ts';
import type { ClientFacts } from './forward.ts';

/** Who asks on an accepted socket. */
export class SocketFacts implements ClientFacts {
  readonly address: string;
  readonly scheme: 'http' | 'https';
  private readonly socket: SocketEnds;

  constructor(socket: SocketEnds, scheme: 'http' | 'https') {
    this.address = plainAddress(socket.remoteAddress);
    this.scheme = scheme;
    this.socket = socket;
  }

  endpoints(): Endpoints {
    const { remotePort, localAddress, localPort } = this.socket;
    return { source: { address: this.address, port: remotePort }, destination: { address: plainAddress(localAddress), port: localPort } };
  }
}

type SocketEnds = Pick<Socket<unknown>, 'remoteAddress' | 'remotePort' | 'localAddress' | 'localPort'>;

/** `::ffff:192.0.2.1` is `192.0.2.1`. */
export const plainAddress = (address: string | undefined): string => {
  if (address === undefined) return '0.0.0.0';
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice('::ffff:'.length) : address;
};

/** Whom addresses of one kind belong to: an IPv4 address, or the /64 that one host of IPv6 may have for itself (RFC 6177). */
export function networkOf(address: string): string {
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? 0 : tail.split(':').length;
  if (tail !== undefined) for (let missing = 8 - groups.length - after; missing > 0; missing -= 1) groups.push('0');
  if (tail !== undefined && tail !== '') groups.push(...tail.split(':'));
  return groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16)).join(':');
}
