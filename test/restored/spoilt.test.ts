import { cpSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openEngine } from './engine.ts';

t.test('a snapshot that is cut or altered does not start, says so, and leaves nothing', async (t) => {
  const engine = await openEngine(t);
  const instance = await engine.boot(engine.order('first'));
  await engine.run(instance, 'return 1');
  const good = engine.snapshotPath('good');
  await engine.snapshot('first', good);
  const images = readdirSync(join(good, 'images'));
  const pages = images.find((name) => /^pages-\d/.test(name)) as string;
  const core = images.find((name) => name.startsWith('core-')) as string;
  const table: Readonly<Record<string, (path: string) => void>> = {
    'pages cut in half': (path) => truncateSync(join(path, 'images', pages), Math.floor(statSync(join(path, 'images', pages)).size / 2)),
    'no pages': (path) => rmSync(join(path, 'images', pages)),
    'an empty core': (path) => truncateSync(join(path, 'images', core), 0),
    'noise for a core': (path) => writeFileSync(join(path, 'images', core), Buffer.alloc(500, 0xa5)),
    'no inventory': (path) => rmSync(join(path, 'images/inventory.img')),
    'no images': (path) => rmSync(join(path, 'images'), { recursive: true }),
    'no disk': (path) => rmSync(join(path, 'disk'), { recursive: true }),
    'nothing at all': (path) => rmSync(path, { recursive: true }),
  };
  for (const [label, spoil] of Object.entries(table)) {
    const path = engine.snapshotPath('spoilt');
    rmSync(path, { recursive: true, force: true });
    cpSync(good, path, { recursive: true, verbatimSymlinks: true });
    spoil(path);
    await t.rejects(engine.restore({ ...engine.order('bad'), snapshotPath: path, continues: false }), { code: 'cannot-restore', message: /./ }, label);
    t.same((await engine.list()).map((one) => one.instance), ['first'], `${label}: no instance`);
    await engine.nothingRemains(t, `${label}: nothing remains`);
  }
  const clone = await engine.restore({ ...engine.order('clone'), snapshotPath: good, continues: false });
  t.equal(await engine.run(clone, 'return 2'), 2, 'the good one still starts');
});
