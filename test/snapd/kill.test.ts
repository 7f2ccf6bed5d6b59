import { existsSync } from 'node:fs';
import t from 'tap';
import { chance, moment, rounds } from '../restored/chance.ts';
import { openEngine, unfinished, until } from '../restored/engine.ts';

t.setTimeout(rounds(110_000, 900_000));

t.test('snapd killed at any moment of a snapshot: the instance answers, or sleeps whole', { timeout: 600_000 }, async (t) => {
  const random = chance(t);
  const engine = await openEngine(t);
  const order = engine.order('kept', { ownNetwork: true });
  let instance = await engine.boot(order);
  await engine.run(instance, `require('fs').writeFileSync('/var/much', Buffer.alloc(4 << 20, 'x'))`);
  const outcomes = new Map<string, number>();
  for (let round = 0; round < rounds(14, 150); round += 1) {
    const keepRunning = round % 2 === 0;
    const waitMs = random() * 200;
    const count = Number(await engine.run(instance, 'return ++state.count'));
    const path = engine.snapshotPath(`round${round}`);
    const label = `round ${round}: to ${keepRunning ? 'run on' : 'sleep'}, killed after ${waitMs.toFixed(1)} ms`;
    const taken = engine.snapshot('kept', path, keepRunning).then((result) => result, () => null);
    await moment(waitMs);
    await engine.killDaemon('snapd');
    const answered = await taken;
    if (answered) t.ok(existsSync(path), `${label}: what was answered is there`);
    await engine.startDaemon('snapd');
    const again = await engine.snapshot('kept', path, keepRunning).catch((error: { code: string }) => error.code);
    if (keepRunning) t.ok(again === 'exists' || typeof again === 'object', `${label}: the order repeated finds it or takes it (${JSON.stringify(again)})`);
    else t.equal(typeof again, 'object', `${label}: the order repeated succeeds (${JSON.stringify(again)})`);
    t.ok(existsSync(`${path}/snapshot.json`), `${label}: there is a whole snapshot`);
    t.same(unfinished(`${engine.folder}/data`), [], `${label}: and nothing unfinished`);
    const outcome = `${keepRunning ? 'run on' : 'sleep'}, ${answered ? 'answered' : 'not answered'}`;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    if (keepRunning) {
      t.equal(await engine.run(instance, 'return ++state.count'), count + 1, `${label}: it runs on`);
      const clone = await engine.restore({ ...order, instance: 'clone', address: null, snapshotPath: path, continues: false });
      t.equal(await engine.run(clone, 'return state.count'), count, `${label}: a clone has its state`);
      await engine.stop('clone');
    } else {
      instance = await engine.restore({ ...order, address: instance.address, snapshotPath: path, continues: true });
      t.equal(await engine.run(instance, 'return state.count'), count, `${label}: it wakes with its state`);
    }
    await engine.snapd.call('discard', { snapshotPath: path });
    await engine.nothingRemains(t, `${label}: nothing else is left`);
  }
  t.comment(JSON.stringify(Object.fromEntries(outcomes)));
  t.equal(engine.exits.filter((exit) => exit.status !== 'snapshotted').length, 0, 'it never ended but to sleep');
});

t.test('without anybody repeating the order, too', { timeout: 600_000 }, async (t) => {
  const random = chance(t);
  const engine = await openEngine(t);
  const order = engine.order('kept', { ownNetwork: true });
  let instance = await engine.boot(order);
  for (let round = 0; round < rounds(8, 100); round += 1) {
    const waitMs = random() * 100;
    const count = Number(await engine.run(instance, 'return ++state.count'));
    const path = engine.snapshotPath(`round${round}`);
    const label = `round ${round}, killed after ${waitMs.toFixed(1)} ms`;
    const taken = engine.snapshot('kept', path, false).catch(() => null);
    await moment(waitMs);
    await engine.killDaemon('snapd');
    await taken;
    await engine.startDaemon('snapd');
    await until('all is settled', () => engine.place.settled(engine.runFolder));
    t.same(unfinished(`${engine.folder}/data`), [], `${label}: nothing is unfinished`);
    const asleep = existsSync(`${path}/snapshot.json`);
    if (asleep) {
      await until('its end is known', async () => (await engine.list()).length === 0);
      instance = await engine.restore({ ...order, address: instance.address, snapshotPath: path, continues: true });
    }
    t.equal(await engine.run(instance, 'return state.count'), count, `${label}: ${asleep ? 'it slept whole' : 'it runs on'}`);
    await engine.nothingRemains(t, `${label}: nothing else is left`);
  }
});

t.test('what a loss of power left unfinished is removed at the next start', async (t) => {
  const engine = await openEngine(t);
  const instance = await engine.boot(engine.order('first'));
  await engine.run(instance, 'return 1');
  await engine.snapshot('first', engine.snapshotPath('whole'));
  await engine.killDaemon('snapd');
  engine.place.copy(engine.snapshotPath('whole'), `${engine.snapshotPath('half')}.part`);
  await engine.startDaemon('snapd');
  await until('it is removed', () => unfinished(`${engine.folder}/data`).length === 0);
  t.notOk(existsSync(engine.snapshotPath('half')), 'it is not taken for a snapshot');
  t.ok(existsSync(engine.snapshotPath('whole')), 'a whole one stays');
});
