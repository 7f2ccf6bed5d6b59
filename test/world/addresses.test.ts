import { randomInt } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { parseRange } from '../../kit/address-range.ts';
import type { AddressRange } from '../../kit/address-range.ts';
import { chooseRanges, overlaps } from '../../world/addresses.ts';
import { clientAddresses, clientLocations, clientPlaces, planWorld } from '../../world/plan.ts';

const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31));
t.comment(`SEED=${seed}`);
const runs = { seed, numRuns: process.env['LONG'] ? 20_000 : 500 };

const ipv4Range = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255), fc.integer({ min: 1, max: 32 })).map(([a, b, c, d, length]) => `${a}.${b}.${c}.${d}/${length}`);
const privateRange = fc.tuple(fc.nat(255), fc.nat(255), fc.integer({ min: 9, max: 32 })).map(([b, c, length]) => `10.${b}.${c}.0/${length}`);
const group = fc.nat(0xffff).map((value) => value.toString(16));
const ipv6Range = fc.tuple(fc.array(group, { minLength: 8, maxLength: 8 }), fc.integer({ min: 1, max: 128 })).map(([groups, length]) => `${groups.join(':')}/${length}`);
const taken = fc.array(fc.oneof(ipv4Range, privateRange, ipv6Range, fc.constant('default')), { maxLength: 40 });

/** The slow, obvious twin: two ranges overlap when the first or last address of one lies in the other. */
function overlapByEnds(one: AddressRange, other: AddressRange): boolean {
  const last = (range: AddressRange): bigint => range.first + (1n << BigInt(range.bits - range.prefixLength)) - 1n;
  return one.bits === other.bits && one.first <= last(other) && other.first <= last(one);
}

const rangeOf = (text: string): AddressRange => {
  const range = parseRange(text);
  if (range === null) throw new Error(`no range: ${text}`);
  return range;
};

t.test('parsing', async (t) => {
  const rows: [string, { first: bigint; prefixLength: number } | null][] = [
    ['10.1.2.3/16', { first: 0x0a010000n, prefixLength: 16 }],
    ['192.0.2.1', { first: 0xc0000201n, prefixLength: 32 }],
    ['fd00::/64', { first: 0xfd00n << 112n, prefixLength: 64 }],
    ['::1', { first: 1n, prefixLength: 128 }],
    ['::/0', { first: 0n, prefixLength: 0 }],
    ['fd00::1::2/64', null],
    ['1:2:3:4:5:6:7/64', null],
    ['10.1.2', null],
    ['10.1.2.256', null],
    ['10.0.0.0/33', null],
    ['default', null],
    ['', null],
  ];
  for (const [text, wanted] of rows) t.match(parseRange(text), wanted ?? (null as never), text);
});

t.test('overlaps agrees with its slow twin', async () => {
  fc.assert(
    fc.property(fc.oneof(ipv4Range, ipv6Range), fc.oneof(ipv4Range, ipv6Range), (one, other) => overlaps(rangeOf(one), rangeOf(other)) === overlapByEnds(rangeOf(one), rangeOf(other))),
    runs,
  );
});

t.test('chosen ranges meet nothing taken, unless only wider routes do', async () => {
  fc.assert(
    fc.property(fc.nat(36 ** 4), taken, (chosenSeed, routes) => {
      const chosen = chooseRanges(chosenSeed, routes);
      if (!chosen.ok) return chosen.reason !== '';
      const ranges = routes.flatMap((text) => parseRange(text) ?? []);
      const meeting = (ours: string): AddressRange[] => ranges.filter((range) => range.prefixLength > 0 && overlapByEnds(range, rangeOf(ours)));
      const ipv4 = meeting(`${chosen.ranges.ipv4Prefix}.0.0/16`);
      return meeting(`${chosen.ranges.ipv6Prefix}::/48`).length === 0 && ipv4.every((range) => range.prefixLength < 16) && (ipv4.length === 0 || chosen.reason.includes('wider'));
    }),
    runs,
  );
});

t.test('worlds begun one after the other never share a range', async () => {
  fc.assert(
    fc.property(fc.array(fc.nat(36 ** 4), { minLength: 2, maxLength: 30 }), (seeds) => {
      const held: string[] = [];
      for (const chosenSeed of seeds) {
        const chosen = chooseRanges(chosenSeed, held);
        if (!chosen.ok) return false;
        held.push(`${chosen.ranges.ipv4Prefix}.0.0/16`, `${chosen.ranges.ipv6Prefix}::/48`);
      }
      return held.every((one, place) => held.every((other, otherPlace) => place === otherPlace || !overlapByEnds(rangeOf(one), rangeOf(other))));
    }),
    runs,
  );
});

t.test('when every range is in use, that is said', async (t) => {
  const all = Array.from({ length: 256 }, (_, octet) => `10.${octet}.3.0/24`);
  t.match(chooseRanges(7, all), { ok: false, reason: /in use by routes/ });
  t.match(chooseRanges(7, ['10.0.0.0/8']), { ok: true, reason: /more specific one wins/ });
});

t.test('within a world no two parts share an address, and instances’ subnets lie off the segment', async (t) => {
  const plan = planWorld({ id: 'k3f9', ranges: { ipv4Prefix: '10.77', ipv6Prefix: 'fd4d:1:2' }, dataFolder: '/data', conduitHost: '127.0.0.1', conduitPort: 7700, acme: null });
  const clients = clientPlaces.flatMap(({ name }) => [0, 1, 253].map((index) => clientAddresses(plan.ranges, name, index)));
  const members = [{ ipv4: plan.hostIpv4, ipv6: plan.hostIpv6 }, plan.globalDispatcher, ...plan.edgepoints, ...clients];
  for (const family of ['ipv4', 'ipv6'] as const) {
    const firsts = members.map((member) => rangeOf(member[family]).first);
    t.equal(new Set(firsts).size, members.length, family);
    const segment = rangeOf(family === 'ipv4' ? '10.77.0.0/20' : 'fd4d:1:2::/64');
    for (const member of members) t.ok(overlaps(segment, rangeOf(member[family])), `${member[family]} is on the segment`);
  }
  const subnets = plan.edgepoints.map((site) => rangeOf(site.subnet));
  for (const subnet of subnets) t.notOk(overlaps(subnet, rangeOf('10.77.0.0/20')));
  t.notOk(overlaps(subnets[0] as AddressRange, subnets[1] as AddressRange));
  for (const name of [plan.hostLink, ...plan.edgepoints.map((site) => site.netns)]) t.match(name, /^ep-k3f9-/);
  t.ok(plan.hostLink.length <= 15, 'a link’s name fits the kernel');
});

t.test('the global dispatcher knows where each end user is', async (t) => {
  const ranges = { ipv4Prefix: '10.77', ipv6Prefix: 'fd4d:1:2' };
  const places = Object.entries(clientLocations(ranges));
  for (const { name, latitude, longitude } of clientPlaces) {
    const { ipv4, ipv6 } = clientAddresses(ranges, name, 200);
    for (const address of [ipv4, ipv6]) {
      const matching = places.filter(([network]) => overlaps(rangeOf(network), rangeOf(address)));
      t.same(matching.map(([, place]) => place), [{ latitude, longitude }], address);
    }
  }
});
