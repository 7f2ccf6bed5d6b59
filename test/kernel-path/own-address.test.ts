import fc from 'fast-check';
import t from 'tap';
import { formatAddress, parseRange } from '../../kit/address-range.ts';
import { allocateOwn } from '../../edgepoint/model/own-address.ts';
import type { OwnAddress } from '../../edgepoint/model/calls.ts';

const ranges = { ipv4: '192.0.2.16/28', ipv6: '2001:db8:1::/64' };

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
        const own = allocateOwn(ranges, app, { before: null, taken });
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
  const own = allocateOwn(ranges, 'ada.main.echo', { before: null, taken: [] });
  t.strictSame(allocateOwn(ranges, 'ada.main.echo', { before: null, taken: [] }), own);
  t.strictSame(allocateOwn(ranges, 'ada.main.echo', { before: own, taken: [own, { ipv4: '192.0.2.17', ipv6: '' }] }), own);
  const moved = allocateOwn({ ...ranges, ipv4: '198.51.100.0/24' }, 'ada.main.echo', { before: own, taken: [own] });
  t.match(moved.ipv4, /^198\.51\.100\./, 'in another range it gets another');
  t.equal(moved.ipv6, own.ipv6);
  t.strictSame(allocateOwn({ ipv4: '', ipv6: '' }, 'ada.main.echo', { before: own, taken: [] }), { ipv4: '', ipv6: '' });
});

t.test('small ranges', async (t) => {
  t.strictSame(allocateOwn({ ipv4: '192.0.2.1/32', ipv6: '' }, 'a', { before: null, taken: [] }).ipv4, '192.0.2.1');
  t.strictSame(allocateOwn({ ipv4: '192.0.2.1/32', ipv6: '' }, 'b', { before: null, taken: [{ ipv4: '192.0.2.1', ipv6: '' }] }).ipv4, '');
});
