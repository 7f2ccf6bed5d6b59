import { request } from 'node:http';
import t from 'tap';
import { isHealthCheck } from '../../edgepoint/dispatcher/health-check.ts';
import { openInstance, openRig, until } from './rig.ts';
import type { Rig } from './rig.ts';

t.test('what is a health check', async (t) => {
  const rows = [
    ['GET', '/healthz', true],
    ['HEAD', '/healthz', true],
    ['GET', '/healthz?from=monitor', true],
    ['POST', '/healthz', false],
    ['GET', '/healthzz', false],
    ['GET', '/healthz/', false],
    ['GET', '/', false],
    ['OPTIONS', '*', false],
  ] as const;
  for (const [method, target, expected] of rows) t.equal(isHealthCheck({ method, target }, '/healthz'), expected, `${method} ${target}`);
});

function ask(rig: Rig, path: string, method = 'GET'): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ port: rig.port, path, method, headers: { host: 'shop.test' }, agent: false }, (response) => {
      let text = '';
      response.on('data', (bytes: Buffer) => (text += bytes.toString())).once('end', () => resolve(`${response.statusCode} ${text}`));
    }).once('error', reject).end();
  });
}

t.test('a sleeping app answers its health check without being woken, and one that is awake is not kept awake', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (asked, response) => void response.end(`shop ${asked.url}`));
  const healthPath = '/healthz';
  await rig.route([], { healthPath });
  t.equal(await ask(rig, '/healthz'), '200 asleep\n');
  t.equal(await ask(rig, '/healthz?x=1', 'HEAD'), '200 ');
  t.ok(rig.head.demands.every(({ waiting }) => waiting === 0), 'nobody waits for it');
  const page = ask(rig, '/');
  await until('another page is waited for', () => rig.head.lastDemand?.waiting === 1);
  t.equal(await ask(rig, '/healthz'), '200 asleep\n', 'also while it wakes');

  await rig.route([shop], { healthPath });
  t.equal(await page, '200 shop /');
  await until('nothing is under way', () => rig.head.lastDemand?.waiting === 0 && rig.head.lastDemand.instances[0]?.outstanding === 0);
  const active = (): number => rig.head.lastDemand?.instances[0]?.lastActiveBootNs ?? 0;
  const before = active();
  const asked = (): number => rig.head.lastDemand?.traffic.find(({ instance }) => instance === 'shop-1')?.requests ?? 0;
  t.equal(await ask(rig, '/healthz'), '200 shop /healthz', 'awake, it answers itself');
  await until('it is told', () => asked() === 2);
  t.equal(active(), before, 'which is no use of it');
  t.equal(await ask(rig, '/'), '200 shop /');
  await until('that is told too', () => asked() === 3);
  t.ok(active() > before, 'as a page is');

  await rig.route([], { healthPath, status: 'failed', reason: 'it does not start' });
  t.match(await ask(rig, '/healthz'), /^503 .*it does not start/s, 'one that cannot be woken is not well');
});
