import t from 'tap';
import { startRig, until } from './rig.ts';

t.test('kill -9 of the head during a held wake: the request is answered, and nothing is left over', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { scale: { idleSeconds: 0.5 } });
  await rig.ended('shop');
  let release = (): void => {};
  rig.machine.holdRestore = new Promise((resolve) => (release = resolve));
  const held = rig.dispatcher.ask('shop');
  const before = rig.machine.count('restore i-');
  await until('the restore has begun', () => rig.machine.count('restore i-') > before);
  await rig.killHead('SIGKILL');
  await rig.startHead();
  release();
  t.equal((await held).status, 200);
  await until('both the old and the new wake are gone in the end', () => rig.machine.instances.size === 0, 14_000);
});

t.test('a restarted head adopts what runs, ends what it does not know, and bills nothing twice', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { scale: { idleSeconds: 30 } });
  await rig.ended('shop');
  const { instance } = await rig.dispatcher.ask('shop');
  await rig.killHead('SIGKILL');
  const orphan = { ...rig.machine.instances.get(instance) };
  t.ok(orphan.running);
  const running = { ...orphan.running, instance: 'i-nobodys', owner: { provider: 'prov', scope: 'main', app: 'gone' } };
  rig.machine.instances.set('i-nobodys', { running, order: orphan.order, server: null, requests: 0 } as never);
  const prepared = { ...orphan.running, instance: 'p-left' };
  rig.machine.instances.set('p-left', { running: prepared, order: orphan.order, server: null, requests: 0 } as never);
  await rig.startHead();
  await until('orphans are ended', () => !rig.machine.instances.has('i-nobodys') && !rig.machine.instances.has('p-left'));
  const again = await rig.dispatcher.ask('shop');
  t.equal(again.instance, instance, 'the same instance serves');
  t.equal(rig.machine.count(`stop ${instance}`), 0);
  t.equal(rig.machine.count('boot p-'), 1, 'the release is not prepared again');

  const usage: { instance: string; totals: { requests: number } }[] = [];
  const metering = await rig.nats.bus('metering');
  const follow = await metering.consume('USAGE', { from: 'all' }, async (_subject, text) => void usage.push(JSON.parse(text)));
  t.teardown(() => follow.stop());
  rig.machine.crash(instance);
  const last = (): number => Math.max(0, ...usage.filter((record) => record.instance === instance).map((record) => record.totals.requests));
  await until('its last record is there', () => last() === 2);
  t.equal(last(), 2, 'two requests, over two lives of the head');
});

t.test('with the message cluster away, a wake works, also for a head that has just started', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { scale: { idleSeconds: 0.3 } });
  await rig.ended('shop');
  await rig.nats.kill('SIGKILL');
  t.equal((await rig.dispatcher.ask('shop')).status, 200);
  await until('it sleeps', () => rig.machine.instances.size === 0);
  await rig.killHead('SIGKILL');
  await rig.startHead();
  t.equal((await rig.dispatcher.ask('shop')).status, 200);
  await rig.nats.start();
  await until('what the living head did meanwhile is told', () => rig.events.some((event) => event.kind === 'wake'), 10_000);
});

t.test('SIGTERM ends the head cleanly and leaves instances running', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { scale: { min: 1 } });
  await rig.ended('shop');
  await until('one runs without being asked for', () => rig.machine.serving().length === 1);
  const head = rig.head();
  await rig.killHead('SIGTERM');
  t.equal(head.exitCode, 0);
  t.equal(rig.machine.serving().length, 1);
});
