import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { startRig, until } from './rig.ts';

t.test('the old release serves until the new one is ready, and no request is lost in between', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { scale: { idleSeconds: 30 } });
  await rig.ended('shop');
  const old = (await rig.dispatcher.ask('shop')).instance;
  let asking = true;
  const statuses = new Map<number, number>();
  const served = new Set<number>();
  const load = (async () => {
    while (asking) {
      const answer = await rig.dispatcher.ask('shop');
      statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
      served.add(rig.machine.instances.get(answer.instance)?.running.release ?? 0);
    }
  })();
  await rig.deploy('shop', { scale: { idleSeconds: 30 } }, 2);
  t.equal((await rig.ended('shop', 2)).stage, 'ready');
  await until('the old one is gone', () => !rig.machine.instances.has(old));
  asking = false;
  await load;
  t.strictSame([...statuses.keys()], [200]);
  t.ok(served.has(1) && served.has(2));

  await rig.deploy('shop', { command: ['exit'] }, 3);
  t.equal((await rig.ended('shop', 3)).code, 'app-exited');
  t.equal((await rig.dispatcher.ask('shop')).status, 200, 'a release that fails leaves the one that serves alone');
  await rig.deploy('shop', { scale: { idleSeconds: 30 } }, 4);
  t.equal((await rig.ended('shop', 4)).stage, 'ready');
  await until('one older template is kept', () => readdirSync(join(rig.folder, 'data/snapshots/prov.main.shop')).toSorted().join() === '2,4');
});

t.test('a release that served before serves again at once, and no request is lost in between', async (t) => {
  const rig = await startRig(t);
  const manifest = { scale: { idleSeconds: 30 } };
  for (const release of [1, 2]) {
    await rig.deploy('shop', manifest, release);
    t.equal((await rig.ended('shop', release)).stage, 'ready');
  }
  t.equal(rig.machine.instances.get((await rig.dispatcher.ask('shop')).instance)?.running.release, 2);
  let asking = true;
  const statuses = new Set<number>();
  const served: number[] = [];
  const load = (async () => {
    while (asking) {
      const answer = await rig.dispatcher.ask('shop');
      statuses.add(answer.status);
      served.push(rig.machine.instances.get(answer.instance)?.running.release ?? 0);
    }
  })();
  const booted = rig.events.filter((event) => event.stage === 'boot').length;
  for (const [release, deployId] of [[1, 'back'], [2, 'forward'], [1, 'back again']] as const) {
    await rig.deploy('shop', manifest, release, [], deployId);
    await until(`release ${release} is told ready`, () => rig.events.some((event) => event.deployId === deployId && event.stage === 'ready'));
    await until(`release ${release} serves`, () => served.at(-1) === release);
  }
  asking = false;
  await load;
  t.strictSame([...statuses], [200]);
  t.equal(rig.events.filter((event) => event.stage === 'boot').length, booted, 'nothing was prepared anew');
  t.strictSame(readdirSync(join(rig.folder, 'data/snapshots/prov.main.shop')).toSorted(), ['1', '2'], 'both templates stay');
  await rig.deploy('shop', manifest, 3);
  t.equal((await rig.ended('shop', 3)).stage, 'ready');
  await until('that of the release that served before stays', () => readdirSync(join(rig.folder, 'data/snapshots/prov.main.shop')).toSorted().join() === '1,3');
});

t.test('a release on a volume of its own waits for the old one to leave it; requests are held', async (t) => {
  const rig = await startRig(t);
  const manifest = { volume: [{ name: 'data', path: '/data', sizeMegabytes: 8 }], scale: { idleSeconds: 30 } };
  await rig.deploy('store', manifest);
  await rig.ended('store');
  const old = (await rig.dispatcher.ask('store')).instance;
  const together: string[] = [];
  const watch = setInterval(() => {
    if (rig.machine.instances.size > 1) together.push([...rig.machine.instances.keys()].join(' and '));
  }, 1);
  t.teardown(() => clearInterval(watch));
  await rig.deploy('store', manifest, 2);
  await until('the old one has left', () => !rig.machine.instances.has(old));
  const held = await rig.dispatcher.ask('store');
  t.equal(held.status, 200, held.body);
  t.equal(rig.machine.instances.get(held.instance)?.running.release, 2);
  t.strictSame(together, [], 'never two on one volume');
});

t.test('an app is removed while its release is being prepared', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('slow', { command: ['silent'], probe: { timeoutSeconds: 60 } });
  await until('it is being probed', () => rig.stages('slow').includes('probe'));
  await rig.remove('slow');
  await until('nothing of it runs', () => rig.machine.instances.size === 0 && rig.dispatcher.route('slow') === undefined);
  await until('nothing of it lies about', () => readdirSync(join(rig.folder, 'data/artefacts')).length === 0);
  t.notOk(rig.events.some((event) => event.stage === 'failed'));
});

t.test('a full edgepoint puts the unused to sleep, then refuses, and serves again when it may', async (t) => {
  const rig = await startRig(t, { capacityBytes: 2 * 512 * 1024 * 1024 });
  for (const app of ['one', 'two', 'three']) {
    await rig.deploy(app, { scale: { idleSeconds: 60, max: 1 } });
    t.equal((await rig.ended(app)).stage, 'ready');
  }
  const one = await rig.dispatcher.ask('one');
  t.equal((await rig.dispatcher.ask('two')).status, 200);
  t.equal((await rig.dispatcher.ask('three')).status, 200);
  t.notOk(rig.machine.instances.has(one.instance), 'the one unused longest made room');
  t.equal(rig.machine.serving().length, 2);
  t.equal((await rig.dispatcher.ask('one')).status, 200, 'and comes back when it is asked for');
});

t.test('what was wished while the head was away is done, and what was taken back is removed', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('stays', {});
  await rig.deploy('goes', {});
  await rig.ended('stays');
  await rig.ended('goes');
  await rig.killHead('SIGKILL');
  await rig.remove('goes');
  await rig.deploy('comes', {});
  await rig.startHead();
  t.equal((await rig.ended('comes')).stage, 'ready');
  await until('what was taken back is gone', () => rig.dispatcher.route('goes') === undefined && !existsSync(join(rig.folder, 'data/snapshots/prov.main.goes')));
  t.equal((await rig.dispatcher.ask('stays')).status, 200);
  t.equal((await rig.dispatcher.ask('goes')).status, 404);
});

t.test('requests wait for memory that others use, and get it when those are done', async (t) => {
  const rig = await startRig(t, { capacityBytes: 2 * 512 * 1024 * 1024 });
  const apps = Array.from({ length: 12 }, (_, index) => `app-${index}`);
  for (const app of apps) {
    await rig.deploy(app, { scale: { idleSeconds: 60, max: 1 } });
    await rig.ended(app);
  }
  // All at once, and two have room: nobody is refused for it.
  const answers = await Promise.all(apps.map((app) => rig.dispatcher.ask(app)));
  t.same(answers.map(({ status }) => status), apps.map(() => 200));
  t.ok(rig.machine.serving().length <= 2);
});

t.test('the head hands secrets on as they came: to each boot and restore, also after it was killed', async (t) => {
  const rig = await startRig(t);
  await until('it tells for which key they are to be wrapped', () => rig.state()?.opens === 'the key of this machine');
  const secretsOf = (wrapped: string) => ({ digest: createHash('sha256').update(wrapped).digest('hex'), wrapped });
  const [one, two] = [secretsOf('one'), secretsOf('two')];
  await rig.deploy('shop', { scale: { idleSeconds: 0.2 } }, 1, [], 'd1', { secrets: one });
  await rig.ended('shop');
  await rig.dispatcher.ask('shop');
  t.ok(rig.machine.orders.length >= 3, 'a boot, a trial restore and a wake');
  t.strictSame(new Set(rig.machine.orders.map(({ secrets }) => secrets?.wrapped)), new Set(['one']));
  await until('it sleeps', () => rig.machine.instances.size === 0);
  await rig.killHead('SIGKILL');
  await rig.startHead();
  const before = rig.machine.orders.length;
  await rig.dispatcher.ask('shop');
  t.strictSame(rig.machine.orders.slice(before).map(({ secrets }) => secrets?.wrapped), ['one']);
  await rig.deploy('shop', { scale: { idleSeconds: 0.2 } }, 1, [], 'd1', { secrets: { ...one, wrapped: 'one for another key' } });
  await until('what is wrapped anew is what the next wake gets', async () => {
    await until('it sleeps', () => rig.machine.instances.size === 0);
    await rig.dispatcher.ask('shop');
    return rig.machine.orders.at(-1)?.secrets?.wrapped === 'one for another key';
  });
  await rig.deploy('shop', { scale: { idleSeconds: 0.2 } }, 2, [], 'd2', { secrets: two });
  t.equal((await rig.ended('shop', 2)).stage, 'ready');
  await rig.dispatcher.ask('shop');
  t.equal(rig.machine.orders.at(-1)?.secrets?.wrapped, 'two');
});
