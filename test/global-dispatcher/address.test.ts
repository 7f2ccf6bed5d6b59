import fc from 'fast-check';
import net from 'node:net';
import t from 'tap';
import { bitAt, formatAddress, maskAddress, parseAddress, parsePrefix, unmapped } from '../../global-dispatcher/address.ts';

t.test('an address is read exactly when the runtime takes it for one', async (t) => {
  const seed = Date.now() & 0x7fffffff;
  const text = fc.oneof(fc.ipV4(), fc.ipV6(), fc.stringMatching(/^[0-9a-f:.]{0,24}$/), fc.constantFrom('1.2.3', '01.2.3.4', '256.1.1.1', '::', '1::2::3', ':::', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7::', '::ffff:1.2.3.4', '1:2:3:4:5:6:7:8:9'));
  fc.assert(fc.property(text, (each) => (parseAddress(each) !== null) === (net.isIP(each) !== 0)), { seed, numRuns: 2000 });
  fc.assert(fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (each) => {
    const address = parseAddress(each) ?? new Uint8Array(0);
    t.strictSame(parseAddress(formatAddress(address)), address, each);
  }), { seed, numRuns: 300 });
});

t.test('IPv4 in IPv6 clothes is IPv4', async (t) => {
  t.equal(formatAddress(unmapped(parseAddress('::ffff:192.0.2.1') ?? new Uint8Array(0))), '192.0.2.1');
  t.equal(formatAddress(unmapped(parseAddress('2001:db8::1') ?? new Uint8Array(0))), '2001:db8:0:0:0:0:0:1');
});

t.test('masking keeps the bits before the length and no other', async (t) => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.integer({ min: 0, max: 32 }), (address, bits) => {
    const masked = maskAddress(address, bits);
    return Array.from({ length: 32 }, (_, at) => bitAt(masked, at) === (at < bits ? bitAt(address, at) : 0)).every(Boolean);
  }));
  t.strictSame(parsePrefix('10.1.0.0/16'), { address: Uint8Array.of(10, 1, 0, 0), bits: 16 });
  for (const wrong of ['10.1.0.1/16', '10.0.0.0/33', '10.0.0.0/', 'x/8', '10.0.0.0/8/8', 'fd00::1/64', '/8', '10.0.0.0/-1']) t.equal(parsePrefix(wrong), null, wrong);
});
