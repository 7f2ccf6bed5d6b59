import fc from 'fast-check';
import t from 'tap';
import { formatAddress, parseRange } from '../../kit/address-range.ts';
import { allocateOwn, parsePorts } from '../../edgepoint/model/own-address.ts';
import type { OwnAddress } from '../../edgepoint/model/calls.ts';

const ranges = { ipv4: '192.0.2.16/28', ipv6: '2001:db8:1::/64', ports: '', sharedIpv4: '198.51.100.1' };
const none = { before: null, taken: [], ports: [] };

t.test('an address is written as it is read, in the short form', async (t) => {
  fc.assert(fc.property(fc.bigInt(0n, 2n ** 128n - 1n), (value) => parseRange(formatAddress(128, value))?.first === value));
  fc.assert(fc.property(fc.bigInt(0n, 2n ** 32n - 1n), (value) => parseRange(formatAddress(32, value))?.first === value));
  const forms = ['::', '::1', '1::', '2001:db8::1', '1:0:2::3:4', '1:2:3:4:5:6:7:8', 'fd45:6467:6570::a01:1002', '0:1:2:3:4:5:6:7'];
  for (const text of forms) t.equal(formatAddress(128, parseRange(text)?.first ?? 0n), text);
});

t.test('every app gets an address of its own, in the range, as long as there are any', async (t) => {
  t.doesNotThrow(() => fc.assert(
    fc.property(fc.uniqueArray(fc.string({ minLength: 1 }), { maxLength: 20 }), (apps) => {
      const taken: OwnAddress[] = [];
      for (const app of apps) {
        const own = allocateOwn(ranges, app, { before: null, taken, ports: [] });
        const host = Number(own.ipv4.split('.')[3]);
        if (taken.length < 14 ? !(own.ipv4.startsWith('192.0.2.') && host > 16 && host < 31) : own.ipv4 !== '') return false;
        const ipv6 = parseRange(own.ipv6)?.first ?? 0n;
        if (ipv6 >> 64n !== 0x20010db800010000n || (ipv6 & (2n ** 64n - 1n)) === 0n) return false;
        if (taken.some((other) => other.ipv6 === own.ipv6 || (own.ipv4 !== '' && other.ipv4 === own.ipv4))) return false;
        taken.push(own);
      }
      return true;
    }),
  ));
});

t.test('it stays the same, whatever comes and goes, and is the same again', async (t) => {
  const own = allocateOwn(ranges, 'ada.main.echo', none);
  t.strictSame(allocateOwn(ranges, 'ada.main.echo', none), own);
  t.strictSame(allocateOwn(ranges, 'ada.main.echo', { before: own, taken: [own, { ipv4: '192.0.2.17', ipv6: '' }], ports: [] }), own);
  const moved = allocateOwn({ ...ranges, ipv4: '198.51.100.0/24' }, 'ada.main.echo', { before: own, taken: [own], ports: [] });
  t.match(moved.ipv4, /^198\.51\.100\./, 'in another range it gets another');
  t.equal(moved.ipv6, own.ipv6);
  t.strictSame(allocateOwn({ ...ranges, ipv4: '', ipv6: '' }, 'ada.main.echo', { before: own, taken: [], ports: [] }), { ipv4: '', ipv6: '' });
});

t.test('small ranges', async (t) => {
  t.strictSame(allocateOwn({ ...ranges, ipv4: '192.0.2.1/32', ipv6: '' }, 'a', none).ipv4, '192.0.2.1');
  t.strictSame(allocateOwn({ ...ranges, ipv4: '192.0.2.1/32', ipv6: '' }, 'b', { ...none, taken: [{ ipv4: '192.0.2.1', ipv6: '' }] }).ipv4, '');
});

t.test('where there is no IPv4 range, each port has one of the edgepoint’s own', async (t) => {
  const few = { ...ranges, ipv4: '', ports: '20000-20003' };
  const ports = [{ protocol: 'tcp', port: 7000, targetPort: 7000 }, { protocol: 'udp', port: 7000, targetPort: 7001 }, { protocol: 'tcp', port: 9, targetPort: 9 }] as const;
  const one = allocateOwn(few, 'one', { before: null, taken: [], ports });
  t.match(one, { ipv4: '', shared: { ipv4: '198.51.100.1' } });
  t.strictSame(Object.keys(one.shared?.ports ?? {}), ['tcp/7000', 'udp/7000', 'tcp/9']);
  t.not(one.shared?.ports['tcp/7000'], one.shared?.ports['tcp/9']);
  t.strictSame(allocateOwn(few, 'one', { before: one, taken: [one], ports }), one, 'they stay');
  t.strictSame(allocateOwn(few, 'one', { before: one, taken: [one], ports: ports.slice(1) }).shared?.ports['tcp/9'], one.shared?.ports['tcp/9'], 'also when another goes');
  const two = allocateOwn(few, 'two', { before: null, taken: [one], ports: ports.slice(0, 1) });
  t.notOk([one.shared?.ports['tcp/7000'], one.shared?.ports['tcp/9']].includes(two.shared?.ports['tcp/7000']), 'nobody shares one');
  t.equal(allocateOwn(few, 'three', { before: null, taken: [one, two], ports }).shared, undefined, 'all or none');
  t.equal(allocateOwn({ ...few, sharedIpv4: '' }, 'one', { before: null, taken: [], ports }).shared, undefined);
  for (const text of ['', '5', '9-5', '0-9', '1-70000', 'a-b']) t.equal(parsePorts(text), null, text);
});
