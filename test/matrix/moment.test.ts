import { readFileSync } from 'node:fs';
import t from 'tap';
import { makeArtefact } from '../restored/app.ts';
import { openEngine, until } from '../restored/engine.ts';
import { compiled } from './applications.ts';

t.test('a timer for a moment never comes before it, however often the program slept meanwhile', async (t) => {
  const engine = await openEngine(t);
  const artefactPath = makeArtefact(engine.folder, 'moment', { moment: compiled('moment.c') });
  const order = engine.order('moment', { artefactPath, command: ['/app/moment'], ownNetwork: true });
  let instance = await engine.boot(order);
  const { address } = instance;
  const said = (): string => readFileSync(engine.place.path(instance.logPath), 'utf8');
  await until('it is set', () => said().includes('set'));
  for (const sleep of [1, 2, 3]) {
    const snapshotPath = engine.snapshotPath(`nap${sleep}`);
    await engine.snapshot('moment', snapshotPath, false);
    instance = await engine.restore({ ...order, address, snapshotPath, continues: true });
  }
  const late = await until('it comes', () => /late by (-?\d+) ms/.exec(said()));
  t.ok(Number(late[1]) >= 0, late[0]);
});
