import { X509Certificate } from 'node:crypto';
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { siteA, siteB, until } from '../host/nats.ts';
import { openCertifierWorld, openReceiver } from './rig.ts';

const zone = 'edge.test';

t.test('an authority that is away costs nothing that is there', { timeout: 120_000 }, async (t) => {
  const lifetimeSeconds = 20;
  const world = await openCertifierWorld(t, { pebble: { lifetimeSeconds, noncesRefused: 40 } });
  const one = await openReceiver(t, world.nats, siteA);
  await world.start();
  await until('it is said that the authority is away', async () => (await world.issued(zone))?.code === 'authority-away');
  t.match((await world.issued(zone))?.text, 'does not answer');
  t.equal(one.pem(zone), '');

  await world.pebble.start();
  await until('it is there', () => one.pem(zone) !== '', 30_000);
  const first = one.pem(zone);
  const certificate = new X509Certificate(first.slice(first.indexOf('-----BEGIN CERTIFICATE')));
  t.same(certificate.subjectAltName?.split(', ').sort(), ['DNS:*.edge.test', 'DNS:edge.test']);
  t.equal((await world.issued(zone))?.code, '', 'all is well');
  const two = await openReceiver(t, world.nats, siteB);
  await until('an edgepoint that comes later gets the same', () => two.pem(zone) === first || one.pem(zone) !== first);

  await until('it is renewed by itself', () => one.pem(zone) !== first, 30_000);
  t.match(world.log(), 'two thirds of its lifetime have passed');
  const renewed = one.pem(zone);
  await world.pebble.kill();
  await until('there is a warning before it ends', () => world.log().includes('"code":"certificate-ends-soon"'), 40_000);
  t.match((await world.health())['warnings'], [{ name: zone }], 'which its health tells too');
  t.equal(one.pem(zone), renewed, 'the old one stays in use');
  t.match(await world.issued(zone), { code: 'authority-away', notAfterMs: Number }, 'and providers are told why it is not renewed');
  // It has lost its accounts.
  await world.pebble.start();
  await until(`it goes on when the authority is back`, () => one.pem(zone) !== renewed, 60_000);
  await until('and all is well again', async () => (await world.issued(zone))?.code === '');
  t.same(one.refused, []);
  t.notMatch(world.log(), /PRIVATE KEY/);
});

t.test('keys are sealed wherever they lie, and a certifier that was killed goes on', { timeout: 100_000 }, async (t) => {
  const world = await openCertifierWorld(t, {});
  await world.pebble.start();
  const one = await openReceiver(t, world.nats, siteA);
  await world.start();
  await until('it is there', () => one.pem(zone) !== '');
  await until('it is told', async () => ((await world.issued(zone))?.notAfterMs ?? 0) > 0);
  await world.end('SIGKILL');
  const key = one.pem(zone).split('\n').find((line) => line.length > 40) ?? '';
  for (const name of readdirSync(world.folder)) {
    if (statSync(join(world.folder, name)).isFile()) t.notMatch(readFileSync(join(world.folder, name), 'latin1'), /PRIVATE KEY/, name);
  }
  const bus = await world.nats.bus('certificates');
  const shared = (await bus.getKv('certificates', `north.one.${zone}`)) ?? '';
  t.notMatch(shared, key, 'nor on the bus');
  t.match(shared, '"sealed"');

  await world.start();
  await until('it is up', async () => (await world.health().catch(() => null))?.['certificates'] === 1);
  t.equal(world.pebble.log().match(/Issued certificate serial/g)?.length, 1, 'it orders no other');
  const late = await openReceiver(t, world.nats, siteB);
  await until('and gives what it has to who comes', () => late.pem(zone) === one.pem(zone));
  await world.end('SIGTERM');

  chmodSync(join(world.folder, 'key'), 0o644);
  await world.start();
  t.equal(await world.exited(), 1);
  t.match(world.log(), /"code":"key-exposed".*chmod 600/, 'a key that others may read is not used');
  writeFileSync(join(world.folder, 'key'), Buffer.alloc(32, 7));
  chmodSync(join(world.folder, 'key'), 0o600);
  await world.start();
  const more = await openReceiver(t, world.nats, siteA);
  await until('a wrong key is told', () => /does not open with the key/.test(world.log()));
  t.equal(more.pem(zone), '', 'and gives nothing');
});

t.test('an authority that wants to know its customers is shown who asks', { timeout: 100_000 }, async (t) => {
  const binding = { kid: 'kid-1', hmacKey: 'zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W' };
  const world = await openCertifierWorld(t, { pebble: { binding }, settings: { bindingKeyId: binding.kid, bindingKeyFile: '/dev/stdin' } });
  const keyFile = join(world.folder, 'binding');
  writeFileSync(keyFile, binding.hmacKey);
  const config = join(world.folder, 'config.json');
  const settings = JSON.parse(readFileSync(config, 'utf8')) as Record<string, unknown>;
  await world.pebble.start();
  writeFileSync(config, JSON.stringify({ ...settings, bindingKeyId: '', bindingKeyFile: '' }));
  await world.start();
  await until('it refuses who does not say', async () => (await world.issued(zone))?.code === 'authority-refused');
  t.match((await world.issued(zone))?.text, /externalAccountBinding/, 'in its own words');
  await world.end('SIGTERM');
  writeFileSync(config, JSON.stringify({ ...settings, bindingKeyFile: keyFile }));
  await world.start();
  await until(`it gives one\n${world.log()}`, async () => ((await world.issued(zone))?.notAfterMs ?? 0) > 0, 30_000);
});

t.test('what is on the bus and is not for this edgepoint, or of no use, changes nothing', { timeout: 100_000 }, async (t) => {
  const world = await openCertifierWorld(t, {});
  await world.pebble.start();
  const one = await openReceiver(t, world.nats, siteA);
  const two = await openReceiver(t, world.nats, siteB);
  await world.start();
  await until('both have it', () => one.pem(zone) !== '' && two.pem(zone) !== '');
  await world.end('SIGKILL');
  const good = one.pem(zone);
  const bus = await world.nats.bus('certificates');
  const ofTwo = (await bus.getKv('certificates', `south.two.${zone}`)) ?? '';
  await bus.putKv('certificates', `north.one.${zone}`, ofTwo);
  await until('it is refused', () => one.refused.some((line) => line.includes('not sealed for this dispatcher')));
  await bus.putKv('certificates', `north.one.${zone}`, '{"v":"1.0"}');
  await until('it is refused too', () => one.refused.some((line) => line.includes('cannot be understood')));
  await one.reconnect();
  await until('all was told again', () => one.refused.length >= 3);
  t.equal(one.pem(zone), good);
  writeFileSync(join(one.folder, 'own.pem'), 'of the operator');
  await bus.deleteKv('certificates', `north.one.${zone}`);
  await until('what is taken back goes', () => one.pem(zone) === '');
  writeFileSync(join(one.folder, 'acme-old.example.pem'), 'taken back while nobody could tell');
  await one.reconnect();
  await until('also later', () => !readdirSync(one.folder).includes('acme-old.example.pem'));
  t.ok(readdirSync(one.folder).includes('own.pem'), "the operator's own files stay");
});
