/** Queries as bytes, for tests: small, obvious, and able to be wrong on purpose. */

export interface QueryWords {
  readonly id?: number;
  readonly name: string;
  readonly type: number;
  readonly class?: number;
  /** `10.1.2.0/24`, IPv4 only. */
  readonly subnet?: string;
  /** With EDNS and this size. */
  readonly udpBytes?: number;
  readonly version?: number;
}

const uint16 = (value: number): number[] => [value >> 8, value & 0xff];

export function wireName(name: string): number[] {
  const labels = name === '' ? [] : name.split('.');
  return [...labels.flatMap((label) => [label.length, ...Buffer.from(label)]), 0];
}

export function subnetOption(subnet: string): number[] {
  const [address = '', bits = ''] = subnet.split('/');
  const bytes = address.split('.').map(Number).slice(0, Math.ceil(Number(bits) / 8));
  return [...uint16(8), ...uint16(4 + bytes.length), ...uint16(1), Number(bits), 0, ...bytes];
}

export function makeQuery(words: QueryWords): Uint8Array {
  const options = words.subnet === undefined ? [] : subnetOption(words.subnet);
  const hasEdns = words.udpBytes !== undefined || words.subnet !== undefined || words.version !== undefined;
  const opt = hasEdns ? [0, ...uint16(41), ...uint16(words.udpBytes ?? 1232), 0, words.version ?? 0, 0, 0, ...uint16(options.length), ...options] : [];
  return Uint8Array.from([...uint16(words.id ?? 0x1234), 0, 0, ...uint16(1), 0, 0, 0, 0, ...uint16(hasEdns ? 1 : 0), ...wireName(words.name), ...uint16(words.type), ...uint16(words.class ?? 1), ...opt]);
}

export const fromHex = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));

/** The header of a response, and its ECS scope (null without the option); reads only what our own responses can look like. */
export function readResponse(bytes: Uint8Array): {
  id: number; rcode: number; authoritative: boolean; truncated: boolean; counts: number[]; scope: number | null; extendedRcode: number;
} {
  const buffer = Buffer.from(bytes);
  const flags = buffer.readUInt16BE(2);
  const counts = [4, 6, 8, 10].map((at) => buffer.readUInt16BE(at));
  let at = 12;
  const skipName = (): void => {
    for (let length = buffer.readUInt8(at); length !== 0; length = buffer.readUInt8(at)) {
      if (length >= 0xc0) {
        at += 2;
        return;
      }
      at += 1 + length;
    }
    at += 1;
  };
  for (let index = 0; index < (counts[0] ?? 0); index += 1) {
    skipName();
    at += 4;
  }
  let scope: number | null = null;
  let extendedRcode = flags & 15;
  for (let index = 0; index < (counts[1] ?? 0) + (counts[2] ?? 0) + (counts[3] ?? 0); index += 1) {
    skipName();
    const type = buffer.readUInt16BE(at);
    const dataBytes = buffer.readUInt16BE(at + 8);
    if (type === 41) {
      extendedRcode |= buffer.readUInt8(at + 4) << 4;
      if (dataBytes >= 8) scope = buffer.readUInt8(at + 10 + 7);
    }
    at += 10 + dataBytes;
  }
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes behind the last record`);
  return { id: buffer.readUInt16BE(0), rcode: flags & 15, authoritative: (flags & 0x0400) !== 0, truncated: (flags & 0x0200) !== 0, counts, scope, extendedRcode };
}
