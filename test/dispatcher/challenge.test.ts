import { request } from 'node:http';
import t from 'tap';
import { openCertificates } from './certificates.ts';
import { openRig, until } from './rig.ts';

const token = 'evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ';
const answer = `${token}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI`;
const path = `/.well-known/acme-challenge/${token}`;

t.test('an authority is answered without any app being asked, and without a certificate', async (t) => {
  const certificates = openCertificates(t);
  certificates.put('shop.pem', ['shop.test']);
  const rig = await openRig(t, { certificates: certificates.folder });
  // Asleep: whatever is meant for it is held.
  await rig.route([], { hosts: ['shop.test', 'other.test'], holdMs: 300 });
  const ask = (host: string, target: string, method = 'GET'): Promise<{ status: number; body: string }> =>
    new Promise((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port: rig.port, path: target, method, headers: { host }, agent: false }, (response) => {
        let body = '';
        response.on('data', (bytes: Buffer) => (body += bytes.toString('latin1')));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      sent.on('error', reject).end();
    });
  const held = 503;
  t.equal((await ask('other.test', path)).status, held, 'nobody has ordered anything');
  await rig.head.order('challenge', { key: 'http.0', challenge: { host: 'new.example', token, answer } });
  await rig.head.order('challenge', { key: 'http.1', challenge: { host: 'shop.test', token, answer } });
  const before = rig.head.demands.length;
  t.same(await ask('new.example', path), { status: 200, body: answer }, 'a host that no app has yet');
  t.same(await ask('shop.test', path), { status: 200, body: answer }, 'one with a certificate: it is not sent to https');
  t.same(await ask('SHOP.test:80', path), { status: 200, body: answer });
  t.same(await ask('shop.test', path, 'HEAD'), { status: 200, body: '' });
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.same(rig.head.demands.slice(before).filter(({ waiting }) => waiting > 0), [], 'no app was wanted');
  for (const [host, target] of [['other.test', path], ['shop.test', `${path}x`], ['shop.test', path.slice(0, -1)], ['shop.test', `${path}?a`], ['shop.test', path.toUpperCase()]] as const) {
    t.notMatch(await ask(host, target), { body: answer }, `${host} ${target}`);
  }
  await rig.head.order('challenge', { key: 'http.1', challenge: null });
  t.equal((await ask('shop.test', path)).status, held, 'taken back');
  for (let place = 0; place < 200; place += 1) await rig.head.order('challenge', { key: `http.${place}`, challenge: { host: `${place}.example`, token, answer } });
  t.equal((await ask('199.example', path)).status, 404, 'few are kept at once');
  await until('all is well', () => rig.dispatcher().exitCode === null);
});
