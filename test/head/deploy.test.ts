import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { startRig, until } from './rig.ts';

t.test('a release is prepared, put to sleep, woken by a request and put to sleep again', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { scale: { idleSeconds: 0.3 }, warmup: [{ path: '/warm' }] });
  const ready = await rig.ended('shop');
  t.equal(ready.stage, 'ready', ready.text);
  t.strictSame(rig.stages('shop'), ['fetch', 'unpack', 'boot', 'probe', 'warm', 'snapshot', 'trial', 'report', 'sleep', 'ready']);
  await until('no process is left', () => rig.machine.instances.size === 0);
  t.equal(rig.dispatcher.route('shop')?.status, 'ready');
  t.strictSame(rig.dispatcher.route('shop')?.hosts, ['shop.edge.test']);

  const answer = await rig.dispatcher.ask('shop');
  t.equal(answer.status, 200);
  t.match(answer.instance, /^i-/);
  t.equal(answer.body, '3', 'it was restored after the probe and the warm-up request');
  t.equal(rig.machine.serving().length, 1);
  await until('it sleeps when idle', () => rig.machine.instances.size === 0);
  await until('the sleep is told', () => rig.events.some((event) => event.kind === 'sleep'));
  const wake = rig.events.find((event) => event.kind === 'wake');
  t.match(wake?.text, /restored from its template in .*1 waiting and none warm/);

  await until('the state is published', () => rig.state()?.apps[0]?.status === 'ready');
  const app = rig.state()?.apps[0];
  t.match(app, { app: 'shop', release: 1, wakeBy: 'template', state: 'template', instances: {}, templateBytes: 1000 });
  t.ok((app?.coldBootMs ?? 0) > (app?.restoreMs ?? Infinity), 'the cold boot was slower');

  await rig.remove('shop');
  await until('the route is gone', () => rig.dispatcher.route('shop') === undefined);
  await until('its template and artefact are gone', () => !existsSync(join(rig.folder, 'data/snapshots/prov.main.shop/1')));
});
