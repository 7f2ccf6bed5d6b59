import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { canaryOf } from '../../kit/ids.ts';
import { startRig, until } from './rig.ts';
import type { Rig } from './rig.ts';

const shop = { provider: 'prov', scope: 'main', app: 'shop' };
const manifest = { scale: { idleSeconds: 30 }, ownPort: [{ protocol: 'tcp', port: 7000 }] };
/** Which part of the app's requests goes to its canary; null: none. */
const percent = (rig: Rig): number | null => rig.dispatcher.route('shop')?.canary?.percent ?? null;
const canaryState = (rig: Rig) => rig.state()?.apps.find(({ app, scope }) => app === 'shop' && scope === 'canary');
const told = (rig: Rig, deployId: string, stage: string) => rig.events.find((event) => event.deployId === deployId && event.stage === stage);
const count = (rig: Rig, stage: string): number => rig.events.filter((event) => event.stage === stage && event.scope === 'canary').length;

t.test('a canary is prepared beside its app, which gives it a part of its requests when it is ready', async (t) => {
  const rig = await startRig(t, { settings: { ownIpv6: 'fd00:1::/64' } });
  await rig.deploy('shop', manifest);
  await rig.ended('shop');
  t.ok(rig.dispatcher.route('shop')?.own);
  await rig.deployCanary('shop', manifest, 2, 30);
  await until('it has its part', () => percent(rig) === 30);
  await until('it is told ready', () => told(rig, 'canary-shop-2', 'ready') !== undefined);
  const route = rig.dispatcher.routes.get('prov.canary.shop');
  t.match(route, { hosts: [], status: 'ready' });
  t.equal(route?.own, undefined, 'it has no address of its own');
  await until('it is told', () => canaryState(rig)?.status === 'ready');
  const boots = count(rig, 'boot');
  await rig.deployCanary('shop', manifest, 2, 70, 'again');
  await until('it has another part', () => percent(rig) === 70);
  await until('that is told as a deploy is', () => told(rig, 'again', 'ready') !== undefined);
  t.equal(count(rig, 'boot'), boots, 'and nothing is prepared');
  await rig.deployCanary('shop', { ...manifest, command: ['exit'] }, 3, 50);
  await until('one that does not start has none', () => told(rig, 'canary-shop-3', 'failed') !== undefined && percent(rig) === null);
  t.match(rig.dispatcher.route('shop'), { status: 'ready' });
});

t.test('what is under way in a canary is answered before it goes, and its artefact stays for the app', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { scale: { idleSeconds: 30 } });
  await rig.ended('shop');
  await rig.deployCanary('shop', { scale: { min: 1, idleSeconds: 30 } }, 2, 30);
  await until('it is awake', () => (rig.dispatcher.routes.get('prov.canary.shop')?.instances.length ?? 0) > 0);
  const [instance] = rig.dispatcher.routes.get('prov.canary.shop')?.instances ?? [];
  const finish = rig.dispatcher.begin(canaryOf(shop), instance?.instance ?? '');
  // Promoted: the app is wished first, then the canary goes.
  await rig.deploy('shop', { scale: { idleSeconds: 30 } }, 2);
  await rig.remove('shop', 'canary');
  await until('it takes nothing new', () => percent(rig) === null && rig.dispatcher.routes.get('prov.canary.shop')?.status === 'failed');
  t.equal((await rig.ended('shop', 2)).stage, 'ready');
  t.ok(rig.machine.instances.has(instance?.instance ?? ''), 'what it does is waited for');
  finish();
  await until('then it is gone', () => rig.dispatcher.routes.get('prov.canary.shop') === undefined && !existsSync(join(rig.folder, 'data/snapshots/prov.canary.shop')));
  t.equal((await rig.dispatcher.ask('shop')).status, 200);
  await until('the artefact of the app stays', () => readdirSync(join(rig.folder, 'data/artefacts')).length === 2);
});

t.test('a canary that fails more often than the release beside it is stopped, also for a restarted head', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', manifest);
  await rig.ended('shop');
  await rig.deployCanary('shop', manifest, 2, 30);
  await until('it has its part', () => percent(rig) === 30);
  rig.dispatcher.answered(shop, { answered: 0, failed: 0 });
  rig.dispatcher.answered(canaryOf(shop), { answered: 0, failed: 0 });
  rig.dispatcher.answered(shop, { answered: 100, failed: 0 });
  rig.dispatcher.answered(canaryOf(shop), { answered: 40, failed: 10 });
  await until('it has none any more', () => percent(rig) === null);
  await until('that is told', () => told(rig, 'canary-shop-2', 'failed') !== undefined);
  t.match(told(rig, 'canary-shop-2', 'failed'), {
    code: 'canary-stopped',
    text: 'Release 2 gets no request here any more: 10 of 40 (25.0 %) failed; of the release that serves, 0 of 100 (0.0 %)',
    figures: { answered: 40, failed: 10, servingAnswered: 100, servingFailed: 0 },
  });
  await until('and stands in its state', () => canaryState(rig)?.status === 'failed');
  t.match(rig.dispatcher.routes.get('prov.canary.shop'), { status: 'failed', reason: /^10 of 40/ });
  await rig.killHead('SIGKILL');
  await rig.startHead();
  await until('the state is told anew', () => canaryState(rig)?.status === 'failed');
  t.equal(percent(rig), null, 'a restarted head knows it');
  await rig.deployCanary('shop', manifest, 2, 5, 'again');
  await until('asked for again it is tried again', () => percent(rig) === 5);
  await until('and told ready', () => told(rig, 'again', 'ready') !== undefined);
});

t.test('a plain deploy that fails at once is taken back: the release before serves again, also for a restarted head', async (t) => {
  const rig = await startRig(t);
  const current = { scale: { min: 1, idleSeconds: 30 } };
  await rig.deploy('shop', current);
  await rig.ended('shop');
  rig.dispatcher.answered(shop, { answered: 0, failed: 0 });
  rig.dispatcher.answered(shop, { answered: 100, failed: 0 });
  await rig.deploy('shop', current, 2);
  t.equal((await rig.ended('shop', 2)).stage, 'ready');
  const instanceOf = (release: number): string | undefined => {
    const [listed] = rig.dispatcher.route('shop')?.instances ?? [];
    return listed === undefined ? undefined : rig.machine.instances.get(listed.instance)?.order.release === release ? listed.instance : undefined;
  };
  await until('release 2 has its instance', () => instanceOf(2) !== undefined);
  // As the real one does whenever a route changes.
  rig.dispatcher.answered(shop, { answered: 100, failed: 0 });
  rig.dispatcher.answered(shop, { answered: 140, failed: 20 });
  await until('that it is taken back is told', () => rig.events.some(({ code }) => code === 'release-taken-back'));
  t.match(rig.events.find(({ code }) => code === 'release-taken-back'), {
    release: 2,
    stage: 'failed',
    text: /^Release 2 is taken back here, and release 1 serves again: 20 of \d+ \(\d+\.\d %\) failed; of the release before, 0 of 100 \(0\.0 %\)$/,
  });
  await until('release 1 has an instance', () => instanceOf(1) !== undefined);
  t.equal((await rig.dispatcher.ask('shop')).status, 200);
  await until('the state says so', () => rig.state()?.apps[0]?.release === 1 && rig.state()?.apps[0]?.status === 'ready' && /^20 of \d+/.test(rig.state()?.apps[0]?.reason ?? ''));
  await rig.killHead('SIGKILL');
  await rig.startHead();
  await until('a restarted head has release 1 serve', () => instanceOf(1) !== undefined && rig.state()?.apps[0]?.release === 1);
  await rig.deploy('shop', current, 2, undefined, 'again');
  await until('asked for again it is tried again', () => rig.events.some(({ deployId, stage }) => deployId === 'again' && stage === 'ready'));
});
