import t from 'tap';
import { networkOf, plainAddress } from '../../edgepoint/dispatcher/client-address.ts';
import { CertificateTable, covers, readCertificate } from '../../edgepoint/dispatcher/tls/certificates.ts';
import { HandshakeGate } from '../../edgepoint/dispatcher/tls/handshake-gate.ts';
import { httpsUrl } from '../../edgepoint/dispatcher/redirect.ts';
import { openCertificates } from './certificates.ts';

t.test('a PEM text is a certificate with its key, or says why not, and never what it holds', async (t) => {
  const { put, authority } = openCertificates(t);
  const shop = put('shop.pem', ['shop.test', '*.Zone.test']);
  const other = put('other.pem', ['other.test']);
  const read = readCertificate('shop.pem', shop);
  if (typeof read === 'string') return t.fail(read);
  t.same(read.names, ['shop.test', '*.zone.test']);
  t.ok(read.notAfterMs > Date.now());
  const key = (pem: string): string => pem.slice(0, pem.indexOf('-----BEGIN CERT'));
  const chain = (pem: string): string => pem.slice(pem.indexOf('-----BEGIN CERT'));
  t.type(readCertificate('x', chain(shop) + key(shop)), 'object', 'in any order');
  const rows: readonly (readonly [string, string, RegExp])[] = [
    ['empty', '', /no private key/],
    ['no key', chain(shop), /no private key/],
    ['no certificate', key(shop), /no certificate/],
    ["another's key", key(other) + chain(shop), /not that of its first certificate/],
    ['an authority without names', key(shop) + authority, /not that of|names no host/],
    ['cut', key(shop) + chain(shop).slice(0, 100) + '\n-----END CERTIFICATE-----', /cannot be read/],
    ['a spoilt key', `-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n${chain(shop)}`, /cannot be read/],
  ];
  for (const [name, pem, reason] of rows) {
    const refused = readCertificate('x', pem);
    t.match(refused, reason, name);
    for (const line of pem.split('\n').filter((each) => each.length > 20 && !each.startsWith('-'))) t.notMatch(`${refused as string}`, line, `${name}: nothing of it is told`);
  }
});

t.test('which certificate answers for which name', async (t) => {
  const one = (label: string, names: readonly string[], notAfterMs = 1000) => ({ label, names, notAfterMs, chain: '', key: '' });
  const table = new CertificateTable([one('zone', ['*.zone.test']), one('exact', ['a.zone.test']), one('old', ['b.test'], 10), one('new', ['b.test'], 20)]);
  const rows = [
    ['a.zone.test', 'exact'],
    ['c.zone.test', 'zone'],
    ['zone.test', null],
    ['a.b.zone.test', null],
    ['.zone.test', null],
    ['*.zone.test', 'zone'],
    ['b.test', 'new'],
    ['', null],
    ['test', null],
  ] as const;
  for (const [name, label] of rows) t.equal(table.find(name)?.label ?? null, label, name);
  t.ok(covers(one('', ['*.zone.test']), 'a.zone.test'));
  t.notOk(covers(one('', ['*.zone.test']), 'zone.test'));
  t.notOk(covers(one('', ['a.test']), 'b.test'));
});

t.test('handshakes are let in by network, and a flood keeps only itself out', async (t) => {
  const gate = new HandshakeGate({ inAll: 10, perNetwork: 4, burst: 6, perSecond: 2, networks: 3 });
  const enter = (network: string, nowMs: number): string => gate.enter(network, nowMs);
  t.same([1, 2, 3, 4, 5].map(() => enter('a', 0)), ['', '', '', '', 'under-way']);
  t.equal(enter('b', 0), '', 'another is not touched');
  for (let index = 0; index < 4; index += 1) gate.leave('a');
  t.same([enter('a', 0), enter('a', 0), enter('a', 0)], ['', '', 'rate'], 'a burst of six');
  t.equal(enter('a', 400), 'rate');
  t.equal(enter('a', 500), '', 'two a second afterwards');
  for (const network of ['c', 'd', 'e', 'f', 'g']) enter(network, 600);
  t.equal(gate.size, 3, 'few networks are remembered');
  t.equal(gate.underWay, 9, 'and all that is under way is counted');
  t.equal(enter('h', 600), '');
  t.equal(enter('i', 600), 'all');
  t.same([networkOf('192.0.2.1'), networkOf('2001:db8:1:2:3:4:5:6'), networkOf('2001:DB8::1'), networkOf('::1'), networkOf('fe80::')], ['192.0.2.1', '2001:db8:1:2', '2001:db8:0:0', '0:0:0:0', 'fe80:0:0:0']);
  t.same([plainAddress('::ffff:192.0.2.1'), plainAddress('2001:db8::1'), plainAddress(undefined)], ['192.0.2.1', '2001:db8::1', '0.0.0.0']);
});

t.test('what is sent to https, and where', async (t) => {
  const https = { port: 443, always: false, has: (name: string) => name === 'shop.test' };
  const at = (target: string, hostName = 'shop.test', upgrade = '') => ({ hostName, target, upgrade });
  const only = { httpsOnly: true };
  t.equal(httpsUrl(at('/a?b=c'), only, https), 'https://shop.test/a?b=c');
  t.equal(httpsUrl(at('/a'), only, { ...https, port: 8443 }), 'https://shop.test:8443/a');
  const always = { ...https, always: true };
  t.equal(httpsUrl(at('/a'), {}, https), null, 'the app does not ask for it');
  t.equal(httpsUrl(at('/a'), {}, always), 'https://shop.test/a', 'the edgepoint does');
  t.equal(httpsUrl(at('/a'), { httpsOnly: false }, always), null, 'but the app says otherwise');
  t.equal(httpsUrl(at('/a', 'shop.test', 'websocket'), {}, always), null, 'a WebSocket follows no redirect');
  t.equal(httpsUrl(at('/a', 'shop.test', 'websocket'), only, always), 'https://shop.test/a', 'unless the app wants it');
  t.equal(httpsUrl(at('/a', 'other.test'), only, https), null, 'no certificate');
  t.equal(httpsUrl(at('*'), only, https), null, 'OPTIONS *');
  t.equal(httpsUrl(at('/.well-known/acme-challenge/x'), only, https), null, 'a challenge');
  t.equal(httpsUrl(at('/\xe9\xff'), only, https), 'https://shop.test/%E9%FF');
});
