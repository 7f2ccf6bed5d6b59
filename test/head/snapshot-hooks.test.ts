import t from 'tap';
import type { AppEvent } from '../../kit/wire/event.ts';
import type { AppState } from '../../kit/wire/edgepoint-state.ts';
import { type Rig, startRig, until } from './rig.ts';

function appOf(rig: Rig, app: string): AppState | undefined {
  return rig.state()?.apps.find((one) => one.app === app);
}

t.test('a program takes part: asked once before its snapshot, and in each restored instance before anybody else', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { snapshot: { before: '/settle', after: '/renew' }, warmup: [{ path: '/warm' }] });
  t.equal((await rig.ended('shop')).stage, 'ready');
  const prepared = [...rig.machine.asked].find(([instance]) => instance.startsWith('p-'))?.[1];
  t.strictSame(prepared?.slice(-2), ['/warm', '/settle'], 'before the snapshot, after the warm-up');
  const trial = [...rig.machine.asked].find(([instance]) => instance.startsWith('t-'))?.[1];
  t.strictSame(trial, ['/renew'], 'the trial proves it');
  t.equal((await rig.dispatcher.ask('shop')).status, 200);
  t.strictSame(rig.machine.serving()[0]?.asked, ['/renew', '/'], 'first the program, then the end user');
});

t.test('one that cannot settle cannot be deployed', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { snapshot: { before: '/failing' }, probe: { timeoutSeconds: 1 } });
  const failed = (): AppEvent | undefined => rig.events.find((event) => event.stage === 'failed');
  await until('it fails', () => failed() !== undefined, 40_000);
  t.match(failed(), { code: 'hook-failed', text: /GET \/failing, which the manifest names as `snapshot.before`/ });
});

t.test('one that cannot renew itself is booted', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { snapshot: { after: '/failing' }, probe: { timeoutSeconds: 1 } });
  t.equal((await rig.ended('shop')).stage, 'ready');
  await until('its state is told', () => appOf(rig, 'shop')?.status === 'ready');
  t.match(appOf(rig, 'shop'), { wakeBy: 'cold', wakeReason: /its snapshot does not restore/ });
});

t.test('a program without the clone guard is not cloned unless its manifest answers for it', async (t) => {
  const rig = await startRig(t);
  rig.machine.unguarded = ['server (linked statically)'];
  await rig.deploy('static', {});
  t.equal((await rig.ended('static')).stage, 'ready');
  await until('its state is told', () => appOf(rig, 'static')?.status === 'ready');
  t.match(appOf(rig, 'static'), { wakeBy: 'cold', wakeReason: /server \(linked statically\)/, templateBytes: 0 });
  await rig.deploy('kernel', { snapshot: { randomness: 'own' } });
  t.equal((await rig.ended('kernel')).stage, 'ready');
  await until('its state is told', () => appOf(rig, 'kernel')?.status === 'ready');
  t.match(appOf(rig, 'kernel'), { wakeBy: 'template', wakeReason: '' });
});

t.test('a program whose environment differs from instance to instance is booted, not cloned', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('own', { env: { NODE_NAME: 'node-{instance}' } });
  t.equal((await rig.ended('own')).stage, 'ready');
  await until('its state is told', () => appOf(rig, 'own')?.status === 'ready');
  t.match(appOf(rig, 'own'), { wakeBy: 'cold', wakeReason: /its variable NODE_NAME differs/, templateBytes: 0 });
  await rig.deploy('same', { env: { NODE_NAME: '{app}-{release}' } });
  t.equal((await rig.ended('same')).stage, 'ready');
  await until('its state is told', () => appOf(rig, 'same')?.status === 'ready');
  t.match(appOf(rig, 'same'), { wakeBy: 'template' });
});
