import fc from 'fast-check';
import t from 'tap';
import { bitAt, maskAddress, parseAddress } from '../../global-dispatcher/address.ts';
import type { Prefix } from '../../global-dispatcher/address.ts';
import { UserLocations, locateUser, nowhere } from '../../global-dispatcher/location.ts';
import type { Location } from '../../global-dispatcher/choose.ts';
import { berlin, newYork, rows } from './fixtures.ts';

const at = (text: string): Uint8Array => parseAddress(text) ?? new Uint8Array(0);

t.test('the scope is the largest network of which the same would be said', async (t) => {
  const table = rows({ '10.0.0.0/8': berlin, '10.1.0.0/16': newYork, '10.1.2.128/25': berlin, 'fd00::/16': berlin });
  const file = (): { location: Location; prefixBits: number } => ({ location: newYork, prefixBits: 12 });
  const cases: [string, Location | null, number][] = [
    ['10.2.3.4', berlin, 15], // 10.0/15 would cover 10.1/16, 10.2/15 does not
    ['10.128.0.1', berlin, 9],
    ['10.1.200.1', newYork, 17],
    ['10.1.2.200', newYork, 24], // nothing smaller than /24 is told apart
    ['11.0.0.1', newYork, 12], // the file's own network is smaller than what the rows leave free
    ['10.1.2.1', newYork, 24],
  ];
  for (const [address, location, bits] of cases) t.strictSame(locateUser(at(address), table, file), { location, prefixBits: bits }, address);
  t.strictSame(locateUser(at('128.0.0.1'), table, nowhere), { location: null, prefixBits: 1 }, 'no row and no file: as far as no row begins');
  t.strictSame(locateUser(at('192.0.2.1'), rows({}), nowhere), { location: null, prefixBits: 0 }, 'nothing known of anybody');
  t.strictSame(locateUser(at('fd00:0:0:1234::1'), table, nowhere), { location: berlin, prefixBits: 16 });
});

t.test('every address within the scope told gets the same location, and the tree agrees with a plain search', async () => {
  const prefix = fc.tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.integer({ min: 0, max: 26 })).map(([bytes, bits]): Prefix => {
    // Few distinct first bits, so that prefixes do nest.
    const near = maskAddress(bytes.map((byte, index) => (index < 2 ? byte & 0x81 : byte)), bits);
    return { address: near, bits };
  });
  const seed = Date.now() & 0x7fffffff;
  fc.assert(
    fc.property(fc.array(prefix, { maxLength: 8 }), fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 4, maxLength: 4 }), (prefixes, user, noise) => {
      const table = prefixes.map((each, index): [Prefix, Location] => [each, { latitude: index, longitude: 0 }]);
      const tree = new UserLocations(table);
      const plainly = (address: Uint8Array): Location | null => {
        const inside = table.filter(([{ address: start, bits }]) => Array.from({ length: bits }, (_, index) => bitAt(start, index) === bitAt(address, index)).every(Boolean));
        const longest = Math.max(-1, ...inside.map(([{ bits }]) => bits));
        return inside.findLast(([{ bits }]) => bits === longest)?.[1] ?? null;
      };
      const found = tree.locate(user);
      if (found.location !== plainly(user)) return false;
      const neighbour = user.map((byte, index) => {
        const kept = Math.min(8, Math.max(0, found.prefixBits - index * 8));
        const mask = (0xff << (8 - kept)) & 0xff;
        return (byte & mask) | ((noise[index] ?? 0) & ~mask & 0xff);
      });
      return plainly(neighbour) === found.location;
    }),
    { seed, numRuns: 3000 },
  );
});
