import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { startRig, until } from './rig.ts';
import type { Rig } from './rig.ts';

/** Asks, and has whoever answers die. */
async function askAndCrash(rig: Rig, app: string): Promise<string> {
  const answer = await rig.dispatcher.ask(app);
  if (answer.status !== 200) return answer.body;
  rig.machine.crash(answer.instance);
  await until('its route is empty', () => !rig.dispatcher.route(app)?.instances.some(({ instance }) => instance === answer.instance));
  return '';
}

t.test('an app that ends again and again starts at once the first time, then ever more slowly', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shaky', {});
  await rig.ended('shaky');
  const refusals: string[] = [];
  for (let crash = 0; crash < 12 && refusals.length === 0; crash += 1) {
    const refusal = await askAndCrash(rig, 'shaky');
    if (refusal !== '') refusals.push(refusal);
  }
  t.match(refusals[0], /its instances end by themselves/, 'end users are told, not held for ever');
  await until('it is tried again', () => rig.dispatcher.route('shaky')?.status === 'ready');
  t.equal((await rig.dispatcher.ask('shaky')).status, 200);
});

t.test('a kept state that only ends its instance is given up for the template', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('diary', { state: 'keep', scale: { idleSeconds: 0.3 } });
  await rig.ended('diary');
  const { instance } = await rig.dispatcher.ask('diary');
  await until('it sleeps', () => rig.machine.instances.size === 0);
  t.ok(existsSync(join(rig.folder, 'data/kept', instance)));
  const lost = (): boolean => rig.events.some((event) => event.code === 'state-lost');
  for (let crash = 0; crash < 6 && existsSync(join(rig.folder, 'data/kept', instance)); crash += 1) {
    await askAndCrash(rig, 'diary');
    await until('requests are held again', () => rig.dispatcher.route('diary')?.status === 'ready');
  }
  await until('the provider is told', lost);
  await until('it is gone', () => !existsSync(join(rig.folder, 'data/kept', instance)));
  t.equal((await rig.dispatcher.ask('diary')).body, '2', 'the first state is the template');
});

t.test('an instance nobody can reach is asked once more, and ended when it does not answer', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('deaf', { scale: { idleSeconds: 60 } });
  await rig.ended('deaf');
  const { instance } = await rig.dispatcher.ask('deaf');
  rig.dispatcher.tellSuspect(instance);
  t.equal((await rig.dispatcher.ask('deaf')).instance, instance, 'a false alarm');
  const machine = rig.machine.instances.get(instance);
  machine?.server?.closeAllConnections();
  machine?.server?.close();
  rig.dispatcher.tellSuspect(instance);
  await until('it is ended', () => !rig.machine.instances.has(instance));
  await until('its route is empty', () => !rig.dispatcher.route('deaf')?.instances.some((entry) => entry.instance === instance));
  t.equal((await rig.dispatcher.ask('deaf')).status, 200);
  // Events come over the bus, behind what the dispatcher is told.
  await until('that is told', () => rig.events.some((event) => event.code === 'app-unreachable'));
});
