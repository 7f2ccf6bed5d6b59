import t from 'tap';
import type { Test } from 'tap';
import { startRig, until } from './rig.ts';
import type { Rig } from './rig.ts';

/** An app whose wake from disk is slow, for it is big: it is frozen where a small one goes to sleep. */
async function bigShop(t: Test, manifest: Record<string, unknown> = {}): Promise<Rig> {
  const rig = await startRig(t, { zramRoomBytes: 2 ** 40, capacityBytes: 4 * 512 * 2 ** 20 });
  rig.machine.snapshotBytes = 400 * 2 ** 20;
  rig.machine.restoreMs = 200;
  await rig.deploy('shop', { command: ['serve', '500'], scale: { idleSeconds: 0.3 }, ...manifest });
  t.equal((await rig.ended('shop')).stage, 'ready');
  return rig;
}

const isFrozen = (rig: Rig, id: string): boolean => rig.machine.instances.get(id)?.frozen === true && rig.dispatcher.route('shop')?.instances.length === 0;

t.test('a big app is frozen when it is idle, and thawed for a request: no other is started, nothing is forgotten', async (t) => {
  const rig = await bigShop(t);
  const first = await rig.dispatcher.ask('shop');
  await until('it is frozen', () => isFrozen(rig, first.instance));
  await until('that is told', () => rig.events.some((event) => /was frozen and gave back .*: unused for .* a wake from disk takes its next user .* longer/.test(event.text)));
  await until('the state says so', async () => (await rig.state())?.apps[0]?.instances['frozen'] === 1);
  const restores = rig.machine.count('restore i-');
  const answers = await Promise.all([rig.dispatcher.ask('shop'), rig.dispatcher.ask('shop'), rig.dispatcher.ask('shop')]);
  t.same(answers.map((answer) => answer.instance), Array(3).fill(first.instance), 'it answers them all');
  t.same(answers.map((answer) => Number(answer.body)).toSorted(), [1, 2, 3].map((more) => Number(first.body) + more), 'with what it had in memory');
  t.equal(rig.machine.count('restore i-'), restores);
  await until('the thaw is told', () => rig.events.some((event) => event.kind === 'wake' && /was thawed in .*waiting and none warm/.test(event.text)));
  await until('it is frozen again', () => isFrozen(rig, first.instance));
});

t.test('a request that comes while it is frozen is answered by it, and does not wait for its memory to go', async (t) => {
  const rig = await bigShop(t);
  rig.machine.holdFreeze = new Promise(() => undefined);
  const first = await rig.dispatcher.ask('shop');
  await until('the freeze has begun', () => rig.machine.count(`freeze ${first.instance}`) === 1);
  const again = await rig.dispatcher.ask('shop');
  t.equal(again.instance, first.instance);
  t.equal(again.status, 200);
});

t.test('memory that is wanted comes from a frozen one first', async (t) => {
  const rig = await bigShop(t);
  const { instance } = await rig.dispatcher.ask('shop');
  await until('it is frozen', () => isFrozen(rig, instance));
  rig.machine.snapshotBytes = 1000;
  rig.machine.restoreMs = 5;
  await rig.deploy('crowd', { scale: { idleSeconds: 60, min: 4, max: 4 } });
  await until('four of the other run', () => rig.machine.serving().filter(({ running }) => running.owner.app === 'crowd').length === 4, 12_000);
  t.notOk(rig.machine.instances.has(instance), 'it went to sleep for them');
  t.ok(rig.events.some((event) => event.app === 'shop' && /its memory is wanted/.test(event.text)));
});

t.test('one that keeps its state is thawed to be put to sleep with it', async (t) => {
  const rig = await bigShop(t, { state: 'keep' });
  const { instance, body } = await rig.dispatcher.ask('shop');
  await until('it is frozen', () => isFrozen(rig, instance));
  rig.machine.snapshotBytes = 1000;
  await rig.deploy('crowd', { scale: { idleSeconds: 0.3, min: 4, max: 4 } });
  await until('it sleeps', () => !rig.machine.instances.has(instance), 12_000);
  await rig.remove('crowd');
  const after = await rig.dispatcher.ask('shop');
  t.same([after.instance, Number(after.body)], [instance, Number(body) + 1], 'and goes on where it was');
});

t.test('kill -9 of the head: the next one knows that it is frozen', async (t) => {
  const rig = await bigShop(t);
  const { instance } = await rig.dispatcher.ask('shop');
  await until('it is frozen', () => isFrozen(rig, instance));
  await rig.killHead('SIGKILL');
  await rig.startHead();
  await until('the state says so', async () => (await rig.state())?.apps[0]?.instances['frozen'] === 1);
  t.equal((await rig.dispatcher.ask('shop')).instance, instance, 'and thaws it for a request');
  t.equal(rig.machine.count(`stop ${instance}`), 0);
});

t.test('one that ends while it is frozen is replaced; one that cannot be frozen goes to sleep', async (t) => {
  const rig = await bigShop(t);
  const { instance } = await rig.dispatcher.ask('shop');
  await until('it is frozen', () => isFrozen(rig, instance));
  rig.machine.crash(instance);
  const other = await rig.dispatcher.ask('shop');
  t.not(other.instance, instance);
  rig.machine.failFreeze = 'it does not stand still';
  await until('that is told', () => rig.events.some((event) => event.kind === 'fault' && /could not be frozen: it does not stand still/.test(event.text)));
  await until('it sleeps', () => rig.machine.instances.size === 0);
  await rig.remove('shop');
});
