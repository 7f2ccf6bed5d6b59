import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@libsql/client';
import t from 'tap';
import { headMigrations, openRecords } from '../../edgepoint/head/records.ts';
import { meteredRecords, storedAtStart } from '../../edgepoint/head/stored.ts';
import type { ReleaseFacts, ReleaseOrder } from '../../edgepoint/model/app.ts';
import { desiredAppMessage } from '../../kit/wire/desired.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import { encodeMessage } from '../../kit/wire/version.ts';

const orderOf = (app: string, release: number, more: Partial<ReleaseOrder> = {}): ReleaseOrder => ({
  owner: { provider: 'p', scope: 'main', app }, release, artefactDigest: `sha256:${'0'.repeat(64)}`,
  manifest: manifestSchema.parse({ app, command: ['serve'], port: 80, state: 'template' }), hosts: [`${app}.edge.test`], uidSlot: 7, deployId: 'd', ...more,
});
const factsOf = (more: Partial<ReleaseFacts> = {}): ReleaseFacts => ({
  wakeBy: 'template', wakeReason: '', staysAwake: '', snapshotPath: '/s/"1"', templateBytes: 5, coldBootMs: 100.5, restoreMs: null, ...more,
});

t.test('all templates at once are what was saved of each', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-records-'));
  const client = createClient({ url: `file:${join(folder, 'head.db')}` });
  t.teardown(() => {
    client.close();
    rmSync(folder, { recursive: true });
  });
  for (const { sql } of headMigrations) await client.batch([...sql], 'write');
  const records = openRecords(client);
  t.strictSame([await records.templates(), await records.stored()], [[], []], 'nothing yet');

  const owner = { provider: 'p', scope: 'main', app: 'b' };
  const manifest = manifestSchema.parse({ app: 'b', command: ['serve'], port: 80, state: 'keep', volume: [{ name: 'data', path: '/data', sizeMb: 8 }] });
  await records.save(orderOf('b', 2, { manifest, sites: ['eu.paris'] }), factsOf({ coldBootMs: null, offDisk: true }), '');
  await records.save(orderOf('b', 1), factsOf({ snapshotPath: '/s/old' }), '');
  await records.save(orderOf('a', 1), factsOf({ snapshotPath: '' }), '');
  await records.save(orderOf('c', 1), null, 'it did not start');
  await records.save(orderOf('a', 3, { sites: ['eu.paris'] }), factsOf({ wakeBy: 'cold', snapshotPath: '/s/a' }), '');
  await records.setServing(owner, 2);
  const wish = { ...orderOf('a', 3), ...orderOf('a', 3).owner, artefactBytes: 1, sites: ['eu.lyon', 'us.denver'] };
  await records.saveDesired('p.main.a', encodeMessage(desiredAppMessage, wish as never));
  const [volume] = manifest.volume;
  t.strictSame(await records.templates(), [
    { app: 'p.main.a', release: 3, serves: false, snapshotPath: '/s/a', bytes: 5, offDisk: false, wakeBy: 'cold', coldBootMs: 100.5, manifest: { state: 'template', volume: [] }, sites: ['eu.lyon', 'us.denver'] },
    { app: 'p.main.b', release: 1, serves: false, snapshotPath: '/s/old', bytes: 5, offDisk: false, wakeBy: 'template', coldBootMs: 100.5, manifest: { state: 'template', volume: [] }, sites: [] },
    { app: 'p.main.b', release: 2, serves: true, snapshotPath: '/s/"1"', bytes: 5, offDisk: true, wakeBy: 'template', coldBootMs: null, manifest: { state: 'keep', volume: [volume] }, sites: ['eu.paris'] },
  ]);

  const stored = { app: 'p.main.b', release: 2, name: 'b'.repeat(64), bytes: 5, sites: ['eu.lyon'], whole: true };
  const cut = { ...stored, name: 'a'.repeat(64), whole: false };
  await records.saveStored(stored);
  await records.saveStored(cut);
  t.strictSame(await records.stored(), [cut, stored]);
  await records.forgetStored(cut.name);
  t.strictSame(await records.stored(), [stored]);

  const told: unknown[] = [];
  const metered = meteredRecords(records, (item) => told.push(item));
  await metered.saveStoredVolume({ owner, volume: 'data', bytes: 7 });
  await metered.saveStoredVolume({ owner, volume: 'data', bytes: 9 });
  await metered.saveStoredVolume({ owner, volume: 'old', bytes: 1 });
  await metered.saveStoredVolume({ owner, volume: 'old', bytes: 0 });
  t.strictSame(await records.storedVolumes(), [{ owner, volume: 'data', bytes: 9 }]);
  const item = { owner, release: 1, item: 'snapshots-data' };
  t.strictSame(told.slice(0, 2), [{ ...item, bytes: 7 }, { ...item, bytes: 9 }], 'what snapshots take in the object store is billed as it changes');
  t.match(told.at(-1), { item: 'snapshots-old', bytes: 0 });
  t.strictSame(storedAtStart(await records.remember()).filter((one) => one.item.startsWith('snapshots-')), [{ ...item, bytes: 9 }], 'and goes on after a restart');
});
