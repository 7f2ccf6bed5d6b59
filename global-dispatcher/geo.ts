import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Reader } from 'mmdb-lib';
import { codeOf, Failure, messageOf } from '../kit/errors.ts';
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
  if (!('Bun' in globalThis)) return readFileSync(file);
  try {
    const bytes = Bun.mmap(file, { shared: true });
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  } catch (thrown) {
    // Bun.mmap opens for writing too, which a file that is only readable to this user refuses.
    const code = codeOf(thrown);
    if (code !== 'EACCES' && code !== 'EROFS') throw thrown;
    return readFileSync(file);
  }
}
