import type { Location } from './choose.ts';
import type { Located } from './location.ts';

/** The bytes of a file, wherever they lie. */
export interface FileBytes {
  readonly size: number;
  /** 0 to 255; a RangeError outside of the file. */
  byteAt(offset: number): number;
  /** Four bytes from there on, the highest first; as byteAt. */
  uint32At(offset: number): number;
}

/** Where networks are, out of one file. */
export interface CityFile {
  /** A file of IPv6 has IPv4 too. */
  readonly ipVersion: 4 | 6;
  /** `address` has 4 bytes, or 16. A record that cannot be read is no location. */
  locate(address: Uint8Array): Located;
}

/** A value in the data section: of pointers `size` is where they lead, and `at` stands behind them. */
interface Value {
  readonly type: number;
  readonly size: number;
  readonly at: number;
}

// Types of values (MaxMind DB File Format Specification 2.0, "Output Data Section").
const [extended, pointer, text, double, uint16, uint32, map, array, boolean, float] = [0, 1, 2, 3, 5, 6, 7, 11, 14, 15];
/** "\xab\xcd\xefMaxMind.com", behind which the metadata stands, in the last 128 KiB of a file. */
const metadataMark = [0xab, 0xcd, 0xef, ...new TextEncoder().encode('MaxMind.com')];
const metadataBytesMax = 128 * 1024;
const separatorBytes = 16;

/**
 * Reads a MaxMind-format file where it lies, of which it takes coordinates alone: flat (DB-IP as ip-location-db packs it) or in `location`
 * (MaxMind's own form). It is read byte by byte through `FileBytes`, and so need not be a buffer of the runtime: that would count a mapped
 * file as memory that lives, and let as much garbage gather before it collects (decision 152). An Error when it is no such file.
 */
export function openCityFile(bytes: FileBytes): CityFile {
  const metadata = readerOf(bytes, metadataAt(bytes));
  const about = (name: string): number => metadata.number(metadata.find(metadata.base, name)) ?? Number.NaN;
  const [nodeCount, recordBits, ipVersion] = [about('node_count'), about('record_size'), about('ip_version')];
  if (![24, 28, 32].includes(recordBits)) throw new Error(`records of ${recordBits} bits are not known`);
  if (ipVersion !== 4 && ipVersion !== 6) throw new Error(`IP version ${ipVersion} is not known`);
  const treeBytes = (nodeCount * recordBits) / 4;
  if (!(treeBytes + separatorBytes < bytes.size)) throw new Error(`a tree of ${nodeCount} nodes does not fit into it`);

  const records = readerOf(bytes, treeBytes + separatorBytes);
  const child = childOf(bytes, recordBits);
  let ipv4Root = 0;
  for (let depth = 0; ipVersion === 6 && depth < 96 && ipv4Root < nodeCount; depth += 1) ipv4Root = child(ipv4Root, 0);

  return {
    ipVersion,
    locate: (address) => {
      let node = address.length === 4 ? ipv4Root : 0;
      let prefixBits = 0;
      for (; prefixBits < address.length * 8 && node < nodeCount; prefixBits += 1) {
        node = child(node, ((address[prefixBits >> 3] ?? 0) >> (7 - (prefixBits & 7))) & 1);
      }
      return { location: node > nodeCount ? locationAt(records, node - nodeCount + treeBytes) : null, prefixBits };
    },
  };
}

/** The node, or (from their count on) the record, on one side of a node; read in one piece, for there are some forty on a way. */
function childOf({ uint32At }: FileBytes, recordBits: number): (node: number, side: number) => number {
  if (recordBits === 24) return (node, side) => (side === 0 ? uint32At(node * 6) >>> 8 : uint32At(node * 6 + 2) & 0xff_ffff);
  if (recordBits === 32) return (node, side) => uint32At(node * 8 + side * 4);
  // The fourth byte has the highest four bits of both sides.
  return (node, side) => {
    if (side === 1) return uint32At(node * 7 + 3) & 0xfff_ffff;
    const word = uint32At(node * 7);
    return (word >>> 8) | ((word & 0xf0) << 20);
  };
}

function metadataAt({ size, byteAt }: FileBytes): number {
  for (let at = size - metadataMark.length; at >= Math.max(0, size - metadataBytesMax); at -= 1) {
    if (metadataMark.every((byte, index) => byteAt(at + index) === byte)) return at + metadataMark.length;
  }
  throw new Error('it has no metadata of a MaxMind-format file');
}

function locationAt(records: Reader, record: number): Location | null {
  try {
    const place = records.find(record, 'location') ?? record;
    const latitude = records.number(records.find(place, 'latitude'));
    const longitude = records.number(records.find(place, 'longitude'));
    return latitude === null || longitude === null ? null : { latitude, longitude };
  } catch (thrown) {
    if (thrown instanceof RangeError) return null;
    throw thrown;
  }
}

interface Reader {
  /** Where pointers are counted from. */
  readonly base: number;
  /** Where the value of a key of the map at `at` stands; null when it has no such key, or is no map. */
  find(at: number, name: string): number | null;
  number(at: number | null): number | null;
}

function readerOf({ byteAt, uint32At }: FileBytes, base: number): Reader {
  const scratch = new DataView(new ArrayBuffer(8));
  const uint = (at: number, size: number): number => {
    let value = 0;
    for (let index = 0; index < size; index += 1) value = value * 256 + byteAt(at + index);
    return value;
  };
  const valueAt = (at: number): Value => {
    const control = byteAt(at);
    const type = control >> 5;
    const small = control & 31;
    if (type === pointer) {
      const width = small >> 3;
      const target = width === 3 ? uint(at + 1, 4) : (small & 7) * 256 ** (width + 1) + uint(at + 1, width + 1) + ([0, 2048, 526_336][width] ?? 0);
      return { type, size: base + target, at: at + width + 2 };
    }
    const begin = at + (type === extended ? 2 : 1);
    const size = small < 29 ? small : uint(begin, small - 28) + ([29, 285, 65_821][small - 29] ?? 0);
    return { type: type === extended ? byteAt(at + 1) + 7 : type, size, at: begin + Math.max(0, small - 28) };
  };
  /** A pointer leads to no other pointer. */
  const resolved = (at: number): Value => {
    const value = valueAt(at);
    return value.type === pointer ? valueAt(value.size) : value;
  };
  const behind = (at: number): number => {
    const value = valueAt(at);
    if (value.type === pointer || value.type === boolean) return value.at;
    if (value.type !== map && value.type !== array) return value.at + value.size;
    let end = value.at;
    for (let left = value.type === map ? value.size * 2 : value.size; left > 0; left -= 1) end = behind(end);
    return end;
  };
  const says = (key: Value, name: string): boolean => {
    if (key.type !== text || key.size !== name.length) return false;
    for (let index = 0; index < name.length; index += 1) if (byteAt(key.at + index) !== name.charCodeAt(index)) return false;
    return true;
  };
  return {
    base,
    find: (at, name) => {
      const found = resolved(at);
      if (found.type !== map) return null;
      let key = found.at;
      for (let left = found.size; left > 0; left -= 1) {
        const value = behind(key);
        if (says(resolved(key), name)) return value;
        key = behind(value);
      }
      return null;
    },
    number: (at) => {
      if (at === null) return null;
      const { type, size, at: begin } = resolved(at);
      if (type === uint16 || type === uint32) return uint(begin, size);
      if (type !== double && type !== float) return null;
      scratch.setUint32(0, uint32At(begin));
      if (type === double) scratch.setUint32(4, uint32At(begin + 4));
      return type === double ? scratch.getFloat64(0) : scratch.getFloat32(0);
    },
  };
}
