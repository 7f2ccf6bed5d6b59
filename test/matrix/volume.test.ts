import { join } from 'node:path';
import t from 'tap';
import { makeArtefact } from '../restored/app.ts';
import { openEngine } from '../restored/engine.ts';
import { runtimesRoot } from './application.ts';
import { postgres } from './applications.ts';

t.test('a database on a volume keeps its rows across sleeps, and across a crash and a cold boot too', { timeout: 60_000 }, async (t) => {
  const engine = await openEngine(t, { baseRoot: runtimesRoot() });
  const order = engine.order('database', {
    artefactPath: makeArtefact(engine.folder, 'database', postgres.files),
    command: postgres.command,
    offering: postgres.offering,
    ownNetwork: true,
    volumes: [{ name: 'data', imagePath: join(engine.folder, 'data/data.ext4'), sizeBytes: 256 * 2 ** 20, mountPath: '/var/data' }],
  });
  let instance = await engine.boot(order);
  const { address } = instance;
  const count = (): Promise<number> => postgres.count(() => engine.connect(instance));
  t.equal(await count(), 1);
  for (const sleep of [1, 2, 3]) {
    const snapshotPath = engine.snapshotPath(`nap${sleep}`);
    await engine.snapshot('database', snapshotPath, false);
    instance = await engine.restore({ ...order, address, snapshotPath, continues: true });
    t.equal(await count(), sleep + 1, `after sleep ${sleep}`);
  }
  await engine.stop('database');
  instance = await engine.boot(order);
  t.equal(await count(), 5, 'after a kill and a cold boot');
  await engine.stop('database');
  await engine.nothingRemains(t, 'nothing remains');
});
