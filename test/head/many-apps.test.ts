import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { watchEdgepoints } from '../../conduit/edgepoints.ts';
import { orderOf } from '../../edgepoint/head/desired.ts';
import { headMigrations, openRecords } from '../../edgepoint/head/records.ts';
import { dataPaths } from '../../edgepoint/model/paths.ts';
import { openClock } from '../../host/clock.ts';
import { openDatabase } from '../../host/database.ts';
import type { Log } from '../../host/log.ts';
import { ownerKey } from '../../kit/ids.ts';
import { desiredAppMessage, nameEntryMessage } from '../../kit/wire/desired.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import { buckets, desiredKey, namesKey, stateKey } from '../../kit/wire/subjects.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import { makeQuery, readResponse } from '../global-dispatcher/messages.ts';
import { startDispatcher } from '../global-dispatcher/start.ts';
import { siteA } from '../host/nats.ts';
import { startRig, until } from './rig.ts';

/** As a template at rest says it; nothing lies there. */
const facts = { wakeBy: 'template' as const, wakeReason: '', staysAwake: '', snapshotPath: '/nowhere', templateBytes: 4_000_000, coldBootMs: 150.5, restoreMs: 20.25 };
const digest = `sha256:${'0'.repeat(64)}`;
const quiet: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, with: () => quiet };
const apps = 10_000;
const generousMs = 120_000;
t.setTimeout(300_000);
const name = (number: number): string => `sleeper-${number}`;

async function inLanes(count: number, work: (number: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: 128 }, async () => {
      while (next < count) await work((next += 1) - 1);
    }),
  );
}

t.test(`${apps} sleeping apps on one edgepoint are known to the conduit and the global dispatcher, and a change of one costs one entry`, { timeout: 300_000 }, async (t) => {
  const wish = (app: string) => ({
    provider: 'prov', scope: 'main', app, release: 1, artefactDigest: digest, artefactBytes: 1,
    manifest: manifestSchema.parse({ app, command: ['serve', '40'], port: 8080 }), hosts: [`${app}.edge.test`], uidSlot: 7, deployId: `deploy-${app}-1`, sites: [], cronSite: '',
  });
  const rig = await startRig(t, {
    startMs: generousMs,
    before: async ({ conduit, databaseUrl, dataFolder }) => {
      mkdirSync(join(dataPaths(dataFolder).artefact(digest), 'app'), { recursive: true });
      const client = await openDatabase({ url: databaseUrl, migrations: headMigrations }, quiet);
      const transaction = await client.transaction('write');
      const records = openRecords(transaction);
      for (let number = 0; number < apps; number += 1) {
        const app = wish(name(number));
        await records.save(orderOf(app), facts, '');
        await records.setServing(app, 1);
        await records.saveDesired(ownerKey(app), encodeMessage(desiredAppMessage, app));
      }
      await transaction.commit();
      client.close();
      await inLanes(apps, async (number) => {
        const app = wish(name(number));
        await conduit.putKv(buckets.names, namesKey(app), encodeMessage(nameEntryMessage, { provider: app.provider, scope: app.scope, app: app.app, hosts: app.hosts, sites: [stateKey(siteA)] }));
        await conduit.putKv(buckets.desired, desiredKey(siteA, app), encodeMessage(desiredAppMessage, app));
      });
    },
  });
  await until('who follows from the start sees them all', () => rig.state()?.complete === true && rig.state()?.apps.length === apps, generousMs);

  // Those that come late: both read what is stored.
  const late = await watchEdgepoints(await rig.nats.bus('conduit'), openClock(), quiet);
  t.teardown(() => late.stop());
  const asleepAt = (): number => {
    const edgepoint = late.seen().get(stateKey(siteA));
    return Array.from({ length: apps }, (_, number) => edgepoint?.app(wishOwner(name(number)))).filter((app) => app?.status === 'ready').length;
  };
  const dispatcher = startDispatcher(t, { natsUrl: rig.nats.url }, rig.nats.user('global-dispatcher').seed);
  await until('the conduit knows them all', () => asleepAt() === apps, generousMs);
  const addressOf = async (app: string): Promise<number> => {
    const answer = await dispatcher.askUdp(makeQuery({ name: `${app}.edge.test`, type: 1 }), 500);
    return answer === null ? 0 : readResponse(answer).counts[1] ?? 0;
  };
  await until('the global dispatcher knows them all', async () => (await dispatcher.healthy())?.['names'] === apps && (await addressOf(name(apps - 1))) === 1, generousMs);
  t.equal(await addressOf(name(0)), 1);

  const heard: { key: string; bytes: number }[] = [];
  const news = (await rig.nats.bus('global-dispatcher')).subscribe('kv.state.>', (key, text) => void heard.push({ key, bytes: text.length }));
  t.teardown(() => news.stop());
  await rig.remove(name(5));
  await until('one that is removed is gone for everybody', () => rig.state()?.apps.length === apps - 1 && asleepAt() === apps - 1, generousMs);
  t.strictSame([...new Set(heard.map(({ key }) => key))], [`kv.state.${stateKey(siteA)}.prov.main.${name(5)}`], 'nothing else was told');
  t.ok(heard.reduce((sum, { bytes }) => sum + bytes, 0) < 2000, `${JSON.stringify(heard)}`);

  const epoch = rig.state()?.epoch;
  await rig.killHead('SIGKILL');
  await rig.startHead();
  await until('a restarted head says all anew', () => rig.state()?.complete === true && rig.state()?.epoch !== epoch, generousMs);
  t.equal(rig.state()?.apps.length, apps - 1, 'and they are the same');
});

const wishOwner = (app: string) => ({ provider: 'prov', scope: 'main', app });
