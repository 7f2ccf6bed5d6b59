import { Failure } from '../../kit/errors.ts';

/** An IPv4 subnet: `10.1.16.0/20`. The first address is the gateway; instances get the others. */
export interface Subnet {
  readonly first: number;
  readonly size: number;
  readonly prefixLength: number;
}

function toNumber(address: string): number {
  const parts = address.split('.').map(Number);
  if (parts.length !== 4 || parts.some((part) => !Number.isInteger(part) || part < 0 || part > 255)) {
    throw new Failure('bad-subnet', `${address} is not an IPv4 address`);
  }
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

function toText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

export function parseSubnet(text: string): Subnet {
  const [address = '', length = ''] = text.split('/');
  const prefixLength = Number(length);
  if (!Number.isInteger(prefixLength) || prefixLength < 8 || prefixLength > 28) {
    throw new Failure('bad-subnet', `the subnet ${text} must have a prefix length from 8 to 28`);
  }
  const size = 2 ** (32 - prefixLength);
  const first = Math.floor(toNumber(address) / size) * size;
  return { first, size, prefixLength };
}

export function gatewayOf(subnet: Subnet): string {
  return toText(subnet.first + 1);
}

/** The hardware address that goes with an IPv4 one, for the gateway as for instances (network.c): a locally administered one. */
export function hardwareAddressOf(address: string): string {
  const bytes = [0x02, 0x45, ...address.split('.').map(Number)];
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/**
 * The next free address after `last` (so that an address rests before it is used again), or null when all are taken.
 * `taken` holds the addresses of live instances and of sleeping ones that will need theirs again.
 */
export function chooseAddress(subnet: Subnet, taken: ReadonlySet<string>, last: string | null): string | null {
  const usable = subnet.size - 3; // network, gateway and broadcast addresses are not
  const start = last === null ? 0 : toNumber(last) - subnet.first - 1;
  for (let step = 0; step < usable; step += 1) {
    const candidate = toText(subnet.first + 2 + ((start + step) % usable));
    if (!taken.has(candidate)) return candidate;
  }
  return null;
}
