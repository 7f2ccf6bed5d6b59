import { closeSync, fstatSync, openSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { endianness } from 'node:os';
import { join } from 'node:path';
import type * as ffi from 'bun:ffi';
import { Failure, messageOf } from '../kit/errors.ts';
import { familyOf } from './address.ts';
import type { Family } from './address.ts';
import { openCityFile } from './city-file.ts';
import type { CityFile, FileBytes } from './city-file.ts';
import { nowhere } from './location.ts';
import type { LocationSource } from './location.ts';

/**
 * Locations from MaxMind-format files: `path` is one file, or a folder whose `.mmdb` files are all opened, one for each family;
 * empty means none. The files are mapped, not read, under Bun: replace them by renaming, never in place.
 */
export function openLocationFile(path: string): LocationSource {
  if (path === '') return nowhere;
  const opened = new Map<Family, CityFile>();
  try {
    const files = statSync(path).isDirectory() ? readdirSync(path).filter((file) => file.endsWith('.mmdb')).sort().map((file) => join(path, file)) : [path];
    for (const file of files) {
      const city = openCityFile(openBytes(file));
      opened.set(city.ipVersion, city);
    }
  } catch (thrown) {
    throw new Failure('bad-location-file', `the location file ${path} cannot be used: ${messageOf(thrown)}`, {
      remedy: 'Name a MaxMind-format city file (.mmdb), a folder of them, or nothing.',
      cause: thrown,
    });
  }
  if (opened.size === 0) throw new Failure('bad-location-file', `${path} holds no .mmdb file`, { remedy: 'Name a MaxMind-format city file or a folder of them.' });
  // A file of IPv6 holds IPv4 too, in its first 32 bits, and counts its depth from there.
  return (address) => (opened.get(familyOf(address)) ?? opened.get(6))?.locate(address) ?? nowhere(address);
}

function openBytes(file: string): FileBytes {
  return 'Bun' in globalThis ? mapFile(file) : bytesOf(readFileSync(file));
}

function bytesOf(buffer: Buffer): FileBytes {
  return { size: buffer.length, byteAt: (offset) => buffer.readUInt8(offset), uint32At: (offset) => buffer.readUInt32BE(offset) };
}

const isLittleEndian = endianness() === 'LE';

/** Maps a file that may be readable only (Bun.mmap opens for writing too); for the life of the process. */
function mapFile(file: string): FileBytes {
  const { dlopen, read } = createRequire(import.meta.url)('bun:ffi') as typeof ffi;
  const { mmap } = dlopen('libc.so.6', { mmap: { args: ['ptr', 'u64', 'i32', 'i32', 'i32', 'i64'], returns: 'ptr' } }).symbols;
  // sys/mman.h
  const [protRead, mapShared] = [1, 1];
  const descriptor = openSync(file, 'r');
  try {
    const { size } = fstatSync(descriptor);
    const address = mmap(null, size, protRead, mapShared, descriptor, 0);
    // MAP_FAILED is all ones.
    if (address === null || address >= 2 ** 63) throw new Error(`mmap of ${size} bytes is refused`);
    // Reading elsewhere would end the process.
    const inside = (offset: number, width: number): void => {
      if (!(offset >= 0 && offset + width <= size)) throw new RangeError(`the byte ${offset} is outside of ${file}`);
    };
    return {
      size,
      byteAt: (offset) => {
        inside(offset, 1);
        return read.u8(address, offset);
      },
      uint32At: (offset) => {
        inside(offset, 4);
        const word = read.u32(address, offset);
        return isLittleEndian ? ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0 : word;
      },
    };
  } finally {
    closeSync(descriptor);
  }
}
