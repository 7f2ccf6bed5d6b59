import t from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { makeArtefact } from '../restored/app.ts';
import { type Engine, openEngine, until } from '../restored/engine.ts';
import { get, programText } from './application.ts';
import { openOutsideDatabase, type OutsideDatabase } from './outside-database.ts';

interface Said {
  readonly memory: number;
  readonly database: number;
  readonly connections: number;
  readonly closed: number;
}

async function opened(t: Parameters<typeof openEngine>[0]): Promise<{ engine: Engine; database: OutsideDatabase; order: ReturnType<Engine['order']>; count: (instance: RunningInstance) => Promise<Said> }> {
  const engine = await openEngine(t);
  const database = await openOutsideDatabase(engine);
  const artefactPath = makeArtefact(engine.folder, 'reconnects', { 'server.js': programText('reconnects.js') });
  return {
    engine,
    database,
    order: engine.order('first', { artefactPath, env: { DATABASE: database.place } }),
    count: async (instance) => {
      const [memory, database_, connections, closed] = (await get(() => engine.connect(instance))).split(' ').map(Number) as [number, number, number, number];
      return { memory, database: database_, connections, closed };
    },
  };
}

/** Connections of others than redis-cli itself. */
const clients = (database: OutsideDatabase): number => database.command('CLIENT', 'LIST').split('\n').filter((line) => !line.includes(' cmd=client|list ')).length;

t.test('a connection to a database outside goes on across sleeps, and a dead one is seen dead', async (t) => {
  const { engine, database, order: first, count } = await opened(t);
  const order = { ...first, ownNetwork: true };
  const { address, ...booted } = await engine.boot(order);
  let instance: RunningInstance = { address, ...booted };
  t.match(await count(instance), { memory: 1, database: 1, connections: 1, closed: 0 });
  for (const sleep of [1, 2, 3, 4, 5]) {
    const snapshotPath = engine.snapshotPath(`nap${sleep}`);
    await engine.snapshot('first', snapshotPath, false);
    if (sleep === 5) database.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'); // as databases do with those who are idle for long
    instance = await engine.restore({ ...order, address, snapshotPath, continues: true });
    const dead = sleep === 5;
    const said = await count(instance);
    t.match(said, { memory: sleep + 1, connections: dead ? 2 : 1, closed: dead ? 1 : 0 }, dead ? 'closed meanwhile: it reconnects' : `the connection goes on after sleep ${sleep}`);
    t.ok(said.database > sleep, `the database counted ${said.database}`);
  }
  t.equal(Number(database.command('GET', 'asked')), (await count(instance)).database - 1, 'no count was lost or made up');
});

t.test('a clone sees the connections of its template closed, and makes its own', async (t) => {
  const { engine, database, order, count } = await opened(t);
  const instance = await engine.boot(order);
  t.match(await count(instance), { memory: 1, database: 1, connections: 1, closed: 0 });
  const snapshotPath = engine.snapshotPath('template');
  await engine.snapshot('first', snapshotPath);
  t.match(await count(instance), { memory: 2, database: 2, connections: 1, closed: 0 }, 'that of the template goes on');
  for (const wake of [1, 2, 3, 4, 5]) {
    const clone = await engine.restore({ ...order, instance: `clone${wake}`, snapshotPath, continues: false });
    t.match(await count(clone), { memory: 2, database: wake + 2, connections: 2, closed: 1 }, `clone ${wake} counts on from its template, over a connection of its own`);
  }
  await until('the database has a connection with each of the six', () => clients(database) === 6);
});
