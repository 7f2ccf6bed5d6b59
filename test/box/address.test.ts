import fc from 'fast-check';
import t from 'tap';
import { chooseAddress, gatewayOf, hardwareAddressOf, parseSubnet } from '../../edgepoint/box/address.ts';

/** The slow obvious version: every address of the subnet in order, but network, gateway and broadcast. */
function usableAddresses(text: string): string[] {
  const [address = '', length = ''] = text.split('/');
  const bits = address.split('.').map((part) => Number(part).toString(2).padStart(8, '0')).join('');
  const network = bits.slice(0, Number(length));
  const all = Array.from({ length: 2 ** (32 - Number(length)) }, (_, host) => network + host.toString(2).padStart(32 - Number(length), '0'));
  const texts = all.map((one) => [0, 8, 16, 24].map((from) => Number.parseInt(one.slice(from, from + 8), 2)).join('.'));
  return texts.slice(2, -1);
}

const subnets = fc
  .tuple(fc.integer({ min: 1, max: 254 }), fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 255 }), fc.integer({ min: 24, max: 28 }))
  .map(([a, b, c, d, length]) => `${a}.${b}.${c}.${d}/${length}`);

t.test('the next free address after the last, like the dumb twin says', async () => {
  fc.assert(
    fc.property(subnets, fc.infiniteStream(fc.boolean()), fc.nat(), fc.boolean(), (text, coins, lastAt, hasLast) => {
      const usable = usableAddresses(text);
      const taken = new Set(usable.filter(() => coins.next().value));
      const last = hasLast ? (usable[lastAt % usable.length] as string) : null;
      const from = last === null ? 0 : usable.indexOf(last) + 1;
      const expected = [...usable.slice(from), ...usable.slice(0, from)].find((address) => !taken.has(address)) ?? null;
      const chosen = chooseAddress(parseSubnet(text), taken, last);
      if (chosen !== expected) throw new Error(`${text} after ${last}: ${chosen}, the twin says ${expected}`);
    }),
    { numRuns: 300 },
  );
});

t.test('null only when all are taken; taking one after the other gives each once', async (t) => {
  for (const text of ['10.1.2.0/28', '10.1.2.77/26']) {
    const subnet = parseSubnet(text);
    const taken = new Set<string>();
    let last: string | null = null;
    for (let next = chooseAddress(subnet, taken, last); next !== null; next = chooseAddress(subnet, taken, last)) taken.add((last = next));
    t.same([...taken], usableAddresses(text), text);
    const freed = usableAddresses(text)[3] as string;
    taken.delete(freed);
    t.equal(chooseAddress(subnet, taken, last), freed, 'a freed one is found');
  }
});

t.test('an address rests: the one just freed is the last to come again', async (t) => {
  const subnet = parseSubnet('10.1.2.0/28');
  t.not(chooseAddress(subnet, new Set(), '10.1.2.5'), '10.1.2.5');
  t.equal(chooseAddress(subnet, new Set(), '10.1.2.14'), '10.1.2.2', 'the end wraps to the first, past the gateway');
});

t.test('subnets', async (t) => {
  t.same(parseSubnet('10.1.18.7/20'), { first: 10 * 2 ** 24 + 2 ** 16 + 16 * 256, size: 4096, prefixLength: 20 }, 'host bits do not matter');
  t.equal(gatewayOf(parseSubnet('10.1.18.7/20')), '10.1.16.1');
  t.equal(gatewayOf(parseSubnet('200.0.0.0/8')), '200.0.0.1', 'addresses above 128 do not turn negative');
  t.equal(hardwareAddressOf('10.77.0.255'), '02:45:0a:4d:00:ff');
  for (const bad of ['10.1.2.0', '10.1.2.0/7', '10.1.2.0/29', '10.1.2.0/x', '10.1.2/24', '10.1.2.256/24', '10.1.2.-1/24', '10.1.2.1.5/24', '/24']) {
    t.throws(() => parseSubnet(bad), { code: 'bad-subnet' }, bad);
  }
});
