import { closeSync, fstatSync, openSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type * as ffi from 'bun:ffi';
import { Reader } from 'mmdb-lib';
import { Failure, messageOf } from '../kit/errors.ts';
import { familyOf, formatAddress } from './address.ts';
import type { Family } from './address.ts';
import { nowhere } from './location.ts';
import type { LocationSource } from './location.ts';

/** The fields that a city database has of a network: flat (DB-IP as ip-location-db packs it) or nested (MaxMind's own form). */
interface CityRecord {
  readonly latitude?: number;
  readonly longitude?: number;
  readonly location?: { readonly latitude?: number; readonly longitude?: number };
}

/**
 * Locations from MaxMind-format files: `path` is one file, or a folder whose `.mmdb` files are all opened, one for each family;
 * empty means none. The files are mapped, not read, under Bun: replace them by renaming, never in place.
 */
export function openLocationFile(path: string): LocationSource {
  if (path === '') return nowhere;
  const readers = new Map<Family, Reader<never>>();
  try {
    const files = statSync(path).isDirectory() ? readdirSync(path).filter((file) => file.endsWith('.mmdb')).sort().map((file) => join(path, file)) : [path];
    for (const file of files) {
      const reader = new Reader<never>(openBytes(file));
      readers.set(reader.metadata.ipVersion === 4 ? 4 : 6, reader);
    }
  } catch (thrown) {
    throw new Failure('bad-location-file', `the location file ${path} cannot be used: ${messageOf(thrown)}`, {
      remedy: 'Name a MaxMind-format city file (.mmdb), a folder of them, or nothing.',
      cause: thrown,
    });
  }
  if (readers.size === 0) throw new Failure('bad-location-file', `${path} holds no .mmdb file`, { remedy: 'Name a MaxMind-format city file or a folder of them.' });
  return (address) => {
    // A file of IPv6 holds IPv4 too, in its first 32 bits, and counts its depth from there.
    const reader = readers.get(familyOf(address)) ?? readers.get(6);
    if (reader === undefined) return nowhere(address);
    const [record, prefixBits] = reader.getWithPrefixLength(formatAddress(address)) as [CityRecord | null, number];
    const { latitude, longitude } = record?.location ?? record ?? {};
    const known = typeof latitude === 'number' && typeof longitude === 'number';
    return { location: known ? { latitude, longitude } : null, prefixBits };
  };
}

function openBytes(file: string): Buffer {
  return 'Bun' in globalThis ? mapFile(file) : readFileSync(file);
}

/** Maps a file that may be readable only (Bun.mmap opens for writing too); for the life of the process. */
function mapFile(file: string): Buffer {
  const { dlopen, toArrayBuffer } = createRequire(import.meta.url)('bun:ffi') as typeof ffi;
  const { mmap } = dlopen('libc.so.6', { mmap: { args: ['ptr', 'u64', 'i32', 'i32', 'i32', 'i64'], returns: 'ptr' } }).symbols;
  // sys/mman.h
  const [protRead, mapShared] = [1, 1];
  const descriptor = openSync(file, 'r');
  try {
    const { size } = fstatSync(descriptor);
    const address = mmap(null, size, protRead, mapShared, descriptor, 0);
    // MAP_FAILED is all ones.
    if (address === null || address >= 2 ** 63) throw new Error(`mmap of ${size} bytes is refused`);
    return Buffer.from(toArrayBuffer(address, 0, size));
  } finally {
    closeSync(descriptor);
  }
}
