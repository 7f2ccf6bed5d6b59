import { createClient } from '@libsql/client';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openSpending } from '../../conduit/spending/spending.ts';
import { openAppStore } from '../../conduit/store/apps.ts';
import { openCapStore } from '../../conduit/store/caps.ts';
import { migrations } from '../../conduit/store/migrations.ts';
import { spentMessage } from '../../kit/wire/spending.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import { quietLog, until } from '../host/nats.ts';

const turnWallMs = Date.UTC(2026, 11, 1);

t.test('when the month turns, apps are let go by themselves', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-month-'));
  const database = createClient({ url: `file:${join(folder, 'conduit.db')}` });
  t.teardown(() => {
    database.close();
    rmSync(folder, { recursive: true, force: true });
  });
  for (const { sql } of migrations) await database.batch(sql, 'write');
  await database.batch(
    [
      "INSERT INTO providers VALUES ('ada', 0)",
      "INSERT INTO apps (provider, scope, app, uidSlot, release, placementReason, generation, createdWallMs) VALUES ('ada', 'main', 'shop', 1, 1, '', 1, 0)",
    ],
    'write',
  );
  const apps = openAppStore(database);
  const caps = openCapStore(database);
  await caps.set('ada', { app: 'shop', micros: 100 });
  const [app] = await apps.list('ada');
  if (app === undefined) throw new Error('no app');
  const capped = async () => (await caps.cappedOf(app))?.stopped ?? null;
  // Of the wall clock the test says what it is; how long that is from the turn, the process waits for.
  let wallMs = turnWallMs - 200;
  const text = encodeMessage(spentMessage, { provider: 'ada', app: 'shop', month: '2026-11', currency: 'EUR', micros: 100 });
  const spending = await openSpending({
    bus: {
      watchKv: async (_bucket, _filter, onEntry) => {
        await onEntry('ada.shop', text, 1);
        return { ready: Promise.resolve(), stop: () => undefined };
      },
      subscribe: () => ({ stop: () => undefined }),
      publish: () => true,
    },
    apps,
    caps,
    randomBytes: (count) => new Uint8Array(count).map(() => Math.floor(Math.random() * 256)),
    wallMs: () => wallMs,
    log: quietLog,
    onChange: () => undefined,
  });
  t.teardown(() => spending.stop());
  await spending.judge('ada');
  t.match(await capped(), { reason: 'its spending cap for 2026-11 is reached', untilWallMs: turnWallMs });
  const generation = await apps.generation(app.id);
  t.strictSame((await caps.alerts('ada', 10)).map(({ percent, state }) => [percent, state]), [[100, 'kept'], [80, 'kept'], [50, 'kept']]);
  await spending.judge('ada');
  t.equal((await caps.alerts('ada', 10)).length, 3, 'judged again, nothing is told again');
  t.equal(await apps.generation(app.id), generation, 'and no edgepoint is told anew');
  wallMs = turnWallMs;
  await until('it is let go', async () => (await capped()) === null);
  t.equal(await apps.generation(app.id), generation + 1, 'and its edgepoints are told');
});
