import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { startRig, until } from './rig.ts';

const keeps = { state: 'keep', scale: { idleSeconds: 0.3 } };

t.test('an app that keeps its state sleeps with it and goes on where it was, under the same name and address', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('diary', keeps);
  t.equal((await rig.ended('diary')).stage, 'ready');
  const first = await rig.dispatcher.ask('diary');
  t.equal(first.body, '2', 'the first wake comes from the template, after its probe');
  const address = rig.machine.instances.get(first.instance)?.running.address;
  await until('it sleeps', () => rig.machine.instances.size === 0);
  const second = await rig.dispatcher.ask('diary');
  t.equal(second.body, '3');
  t.equal(second.instance, first.instance);
  t.equal(rig.machine.instances.get(second.instance)?.running.address, address);
  await until('it sleeps again', () => rig.machine.instances.size === 0);
  await until('only the newest snapshot is kept', () => readdirSync(join(rig.folder, 'data/kept', first.instance)).join() === '2');
  await until('its state says so', () => rig.state()?.apps[0]?.wakeBy === 'keep' && rig.state()?.apps[0]?.state === 'keep');

  await rig.killHead('SIGKILL');
  await rig.startHead();
  t.equal((await rig.dispatcher.ask('diary')).body, '4', 'also after the head was killed');
});

t.test('a request that arrives during its snapshot is answered after it, with nothing forgotten', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('diary', keeps);
  await rig.ended('diary');
  const { instance } = await rig.dispatcher.ask('diary');
  let release = (): void => {};
  rig.machine.holdSnapshot = new Promise((resolve) => (release = resolve));
  await until('the snapshot has begun', () => rig.machine.count(`snapshot ${instance} and sleeps`) === 1);
  const held = rig.dispatcher.ask('diary');
  release();
  const answer = await held;
  t.equal(answer.body, '3');
  t.equal(answer.instance, instance);
});

t.test('kill -9 of the head during the snapshot: the new state counts, not the one before', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('diary', keeps);
  await rig.ended('diary');
  const { instance } = await rig.dispatcher.ask('diary');
  let release = (): void => {};
  rig.machine.holdSnapshot = new Promise((resolve) => (release = resolve));
  await until('the snapshot has begun', () => rig.machine.count(`snapshot ${instance} and sleeps`) === 1);
  await rig.killHead('SIGKILL');
  release();
  await until('it is complete', () => !rig.machine.instances.has(instance));
  await rig.startHead();
  t.equal((await rig.dispatcher.ask('diary')).body, '3');
});

t.test('a snapshot that fails lets it serve on and is not tried again at once', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('diary', keeps);
  await rig.ended('diary');
  rig.machine.failSnapshot = 'the disk of the edgepoint is full';
  const { instance } = await rig.dispatcher.ask('diary');
  await until('the fault is told', () => rig.events.some((event) => event.kind === 'fault' && /could not be put to sleep: the disk/.test(event.text)));
  rig.machine.failSnapshot = '';
  const answer = await rig.dispatcher.ask('diary');
  t.equal(answer.instance, instance);
  t.equal(answer.body, '3');
  t.equal(rig.machine.count(`snapshot ${instance}`), 1);
});

t.test('one that cannot be snapshotted at all stays awake rather than forget', async (t) => {
  const rig = await startRig(t);
  rig.machine.failSnapshot = 'it holds a device open';
  await rig.deploy('diary', keeps);
  t.match((await rig.ended('diary')).text, /it cannot be snapshotted: it holds a device open/);
  const { instance } = await rig.dispatcher.ask('diary');
  await until('its state says why', () => /its state cannot be kept/.test(rig.state()?.apps[0]?.reason ?? ''));
  await new Promise((resolve) => setTimeout(resolve, 600)); // twice its idle time
  t.ok(rig.machine.instances.has(instance));
});
