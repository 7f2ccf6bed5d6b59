import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openDatabase } from '../../host/database.ts';
import { quietLog as log } from '../host/nats.ts';
import { accessesKept, openAuditStore } from '../../conduit/store/audit.ts';
import { migrations } from '../../conduit/store/migrations.ts';

const owner = { provider: 'ada', scope: 'main', app: 'shop' };
const site = { zone: 'eu', edgepoint: 'paris' };

t.test('the record of accesses', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-audit-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const database = await openDatabase({ url: `file:${folder}/conduit.db`, migrations }, log);
  const audit = openAuditStore(database);
  const begin = (about: Partial<Parameters<typeof audit.begin>[0]> = {}): Promise<number> =>
    audit.begin({ owner, tokenId: 'k1', wish: { kind: 'ssh', session: { command: ['ls', '-l'], terminal: null } }, site, begunWallMs: 1000, ...about });

  const first = await begin();
  t.strictSame(await audit.list(owner, 10), [
    { kind: 'ssh', tokenId: 'k1', port: null, command: ['ls', '-l'], terminal: false, edgepoint: 'eu/paris', instance: '', begunWallMs: 1000, tookMs: null, code: null, exitStatus: null },
  ], 'it is there before anything has happened');
  await audit.opened(first, 'i-1');
  await audit.ended(first, { tookMs: 12, code: '', exitStatus: 3 });
  await begin({ wish: { kind: 'connect', port: 5432 }, site: null });
  await begin({ owner: { ...owner, provider: 'eve' } });
  await audit.endLost();
  t.match(await audit.list(owner, 10), [
    { kind: 'connect', port: 5432, command: [], edgepoint: '', code: 'conduit-lost', tookMs: null },
    { kind: 'ssh', instance: 'i-1', tookMs: 12, code: '', exitStatus: 3 },
  ], 'of this provider alone, the newest first');
  t.equal((await audit.list(owner, 1)).length, 1);

  await database.batch(
    [
      {
        sql: `WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?)
          INSERT INTO accesses (provider, scope, app, tokenId, kind, command, terminal, zone, edgepoint, begunWallMs) SELECT 'ada', 'main', 'shop', 'k1', 'connect', '[]', 0, '', '', x FROM n`,
        args: [accessesKept],
      },
    ],
    'write',
  );
  await begin({ wish: { kind: 'connect', port: 1 } });
  const { rows } = await database.execute("SELECT kind, count(*) AS count FROM accesses WHERE provider = 'ada' GROUP BY kind ORDER BY kind");
  t.strictSame(rows.map((row) => [row['kind'], row['count']]), [['connect', accessesKept], ['ssh', 1]], 'many of one kind push out none of another');
  database.close();
});
