import t from 'tap';
import type { Test } from 'tap';
import { startRig, until } from './rig.ts';
import type { Rig } from './rig.ts';

/** An app whose wake from disk is slow, for it is big: it is frozen where a small one goes to sleep. */
async function bigShop(t: Test, manifest: Record<string, unknown> = {}): Promise<Rig> {
  const rig = await startRig(t, { frozenRoomBytes: 2 ** 40, capacityBytes: 2 * 512 * 2 ** 20 });
  rig.machine.snapshotBytes = 400 * 2 ** 20;
  rig.machine.restoreMs = 200;
  await rig.deploy('shop', { command: ['serve', '500'], scale: { idleSeconds: 0.3 }, ...manifest });
  t.equal((await rig.ended('shop')).stage, 'ready');
  return rig;
}

const isFrozen = (rig: Rig, id: string): boolean => rig.machine.instances.get(id)?.frozen === true && rig.dispatcher.route('shop')?.instances.length === 0;
const saysFrozen = (rig: Rig): boolean => rig.state()?.apps[0]?.instances['frozen'] === 1;

t.test('a big app is frozen when it is idle, and thawed for a request', async (t) => {
  const rig = await bigShop(t);
  const first = await rig.dispatcher.ask('shop');
  await until('it is frozen', () => isFrozen(rig, first.instance));
  await until('that is told', () => rig.events.some((event) => /was frozen and gave back .*: unused for .* a wake from disk takes its next user .* longer/.test(event.text)));
  await until('the state says so', () => saysFrozen(rig));
  const restores = rig.machine.count('restore i-');
  const answers = await Promise.all([rig.dispatcher.ask('shop'), rig.dispatcher.ask('shop'), rig.dispatcher.ask('shop')]);
  t.same(answers.map((answer) => answer.instance), Array(3).fill(first.instance), 'it answers them all');
  t.same(answers.map((answer) => Number(answer.body)).toSorted(), [1, 2, 3].map((more) => Number(first.body) + more), 'with what it had in memory');
  t.equal(rig.machine.count('restore i-'), restores, 'no other was started');
  await until('the thaw is told', () => rig.events.some((event) => event.kind === 'wake' && /was thawed in .*waiting and none warm/.test(event.text)));

  await until('it is frozen again', () => isFrozen(rig, first.instance));
  await rig.killHead('SIGKILL');
  await rig.startHead();
  await until('a head that comes after a kill -9 knows that it is frozen', () => saysFrozen(rig));
  rig.machine.holdFreeze = new Promise(() => undefined);
  t.equal((await rig.dispatcher.ask('shop')).instance, first.instance, 'and thaws it for a request');
  const freezes = rig.machine.count('freeze');
  await until('the next freeze has begun, and does not end', () => rig.machine.count('freeze') > freezes);
  t.match(await rig.dispatcher.ask('shop'), { status: 200, instance: first.instance }, 'a request in the middle of it does not wait for its end');
  rig.machine.holdFreeze = Promise.resolve();

  await until('it is frozen once more', () => isFrozen(rig, first.instance));
  rig.machine.crash(first.instance);
  const other = await rig.dispatcher.ask('shop');
  t.not(other.instance, first.instance, 'one that ends while it is frozen is replaced');
  rig.machine.failFreeze = 'it does not stand still';
  await until('one that cannot be frozen says so', () => rig.events.some((event) => event.kind === 'fault' && /could not be frozen: it does not stand still/.test(event.text)));
  await until('and is put to sleep', () => rig.machine.instances.size === 0);
});

t.test('memory that is wanted comes from a frozen one first, and what it keeps is kept', async (t) => {
  const rig = await bigShop(t, { state: 'keep' });
  const { instance, body } = await rig.dispatcher.ask('shop');
  await until('it is frozen', () => isFrozen(rig, instance));
  rig.machine.snapshotBytes = 1000;
  rig.machine.restoreMs = 5;
  await rig.deploy('crowd', { scale: { idleSeconds: 60, min: 2, max: 2 } });
  await until('it went to sleep for them', () => !rig.machine.instances.has(instance), 12_000);
  await until('that is told', () => rig.events.some((event) => event.app === 'shop' && /went to sleep with its state .*its memory is wanted for prov\.main\.crowd/.test(event.text)));
  t.ok(rig.machine.count(`thaw ${instance}`) > 0, 'thawed first, for what stands still cannot be snapshotted');
  await rig.remove('crowd');
  const after = await rig.dispatcher.ask('shop');
  t.same([after.instance, Number(after.body)], [instance, Number(body) + 1], 'and goes on where it was');
});

t.test('holding one that a pager takes is worth longer than on zram', async (t) => {
  const rig = await bigShop(t);
  /* What it waited for is measured, so the seconds are not the same each time; the quotient is: memory of 1/4 and 32 MiB in place of 1/2 and 32 MiB. */
  const worth = (): number[] => rig.events.flatMap((event) => {
    const [, minutes, seconds] = /was frozen .* worth (?:(\d+) min )?([\d.]+) s/.exec(event.text) ?? [];
    return seconds === undefined ? [] : [Number(minutes ?? 0) * 60 + Number(seconds)];
  });
  await rig.dispatcher.ask('shop');
  await until('it is frozen', () => worth().length > 0);
  const onZram = worth().at(-1) ?? 0;
  rig.machine.tellPagersHold({ heldBytes: 0, heldBytesMax: 2 ** 40 });
  await rig.dispatcher.ask('shop');
  await until('it is frozen again, which is worth more now', () => Math.abs((worth().at(-1) ?? 0) / onZram - 232 / 132) < 0.02);
});
