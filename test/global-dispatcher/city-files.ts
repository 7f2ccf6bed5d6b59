import { bitAt } from '../../global-dispatcher/address.ts';
import type { Prefix } from '../../global-dispatcher/address.ts';

/** What a record may hold here; `uint` is stored as an unsigned number of 32 bits, numbers as doubles. */
export type Value = string | number | boolean | { uint: number } | { float: number } | Value[] | Map<string, Value>;

interface Node {
  readonly sides: [Node | number | null, Node | number | null];
  index: number;
}
const newNode = (): Node => ({ sides: [null, null], index: 0 });

/**
 * A MaxMind-format file (MaxMind DB File Format Specification 2.0), as small as one can be: a record for each prefix, none within another.
 * Every second key of a map that was written before is a pointer to it, as real files have them.
 */
export function cityFile(about: { ipVersion: 4 | 6; recordBits: 24 | 28 | 32; rows: readonly (readonly [Prefix, Value])[] }): Buffer {
  const { ipVersion, recordBits, rows } = about;
  const nodes = [newNode()];
  const data = new DataSection();
  for (const [prefix, value] of rows) {
    const record = data.add(value);
    const offset = ipVersion === 6 && prefix.address.length === 4 ? 96 : 0;
    let node = nodes[0] as Node;
    for (let depth = 0; depth < offset + prefix.bits; depth += 1) {
      const side = depth < offset ? 0 : bitAt(prefix.address, depth - offset);
      if (depth === offset + prefix.bits - 1) node.sides[side] = record;
      else {
        const next = node.sides[side];
        if (typeof next === 'number') throw new Error('a prefix within another');
        if (next === null) nodes.push(newNode());
        node = node.sides[side] = next ?? (nodes.at(-1) as Node);
      }
    }
  }
  nodes.forEach((node, index) => (node.index = index));
  // Behind the nodes' count come 16 bytes of nothing, then the data.
  const pointerTo = (side: Node | number | null): number => (side === null ? nodes.length : typeof side === 'number' ? nodes.length + 16 + side : side.index);
  const tree = nodes.map(({ sides }) => packed(pointerTo(sides[0]), pointerTo(sides[1]), recordBits));
  const metadata = new DataSection();
  metadata.add(new Map<string, Value>([['binary_format_major_version', { uint: 2 }], ['record_size', { uint: recordBits }], ['node_count', { uint: nodes.length }], ['ip_version', { uint: ipVersion }], ['languages', ['en']]]));
  return Buffer.concat([...tree, Buffer.alloc(16), data.bytes(), Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1'), metadata.bytes()]);
}

function packed(left: number, right: number, recordBits: number): Buffer {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  if (recordBits !== 28) return Buffer.from(hex(left, recordBits / 4) + hex(right, recordBits / 4), 'hex');
  return Buffer.from(hex(left % 2 ** 24, 6) + hex(left >>> 24, 1) + hex(right >>> 24, 1) + hex(right % 2 ** 24, 6), 'hex');
}

class DataSection {
  readonly #parts: Buffer[] = [];
  readonly #keys = new Map<string, number>();
  #size = 0;

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  /** Where it stands. */
  add(value: Value): number {
    const at = this.#size;
    if (typeof value === 'string') this.#put(2, Buffer.byteLength(value), Buffer.from(value));
    else if (typeof value === 'number') this.#put(3, 8, doubleOf(value));
    else if (typeof value === 'boolean') this.#put(14, value ? 1 : 0);
    else if (Array.isArray(value)) {
      this.#put(11, value.length);
      for (const each of value) this.add(each);
    } else if (value instanceof Map) {
      this.#put(7, value.size);
      for (const [key, each] of value) {
        this.#key(key);
        this.add(each);
      }
    } else if ('uint' in value) this.#put(6, 4, Buffer.from(value.uint.toString(16).padStart(8, '0'), 'hex'));
    else this.#put(15, 4, floatOf(value.float));
    return at;
  }

  #key(key: string): void {
    const known = this.#keys.get(key);
    if (known === undefined) this.#keys.set(key, this.add(key));
    else if (known < 2048) this.#append(Buffer.from([(1 << 5) | (known >> 8), known & 255]));
    else this.#append(Buffer.from([(1 << 5) | (1 << 3) | ((known - 2048) >> 16), ((known - 2048) >> 8) & 255, (known - 2048) & 255]));
  }

  #put(type: number, size: number, content: Buffer = Buffer.alloc(0)): void {
    const small = size < 29 ? size : size < 285 ? 29 : 30;
    const more = small < 29 ? [] : small === 29 ? [size - 29] : [(size - 285) >> 8, (size - 285) & 255];
    this.#append(Buffer.from(type > 7 ? [small, type - 7, ...more] : [(type << 5) | small, ...more]), content);
  }

  #append(...buffers: Buffer[]): void {
    this.#parts.push(...buffers);
    this.#size += buffers.reduce((sum, { length }) => sum + length, 0);
  }
}

function doubleOf(value: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeDoubleBE(value);
  return buffer;
}

function floatOf(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatBE(value);
  return buffer;
}
