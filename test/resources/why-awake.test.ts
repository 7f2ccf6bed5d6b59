import t from 'tap';
import { addInstance, appEntry, moveInstance, openState } from '../../edgepoint/resources/state.ts';
import type { InstanceEntry } from '../../edgepoint/resources/state.ts';
import { noteSurplus, viewApp } from '../../edgepoint/resources/views.ts';
import { whyAwake, whyAwakeChangesAt } from '../../edgepoint/resources/why-awake.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';

const second = 1e9;
const nowNs = 1000 * second;
const owner = { provider: 'p', scope: 'main', app: 'a' };
const facts = { wakeBy: 'template' as const, wakeReason: '', staysAwake: '', snapshotPath: '/s', templateBytes: 1, coldBootMs: 100, restoreMs: 20 };

function warmApp(manifest: Record<string, unknown>, entryIs: Partial<InstanceEntry>): { app: ReturnType<typeof appEntry>; entry: InstanceEntry } {
  const order = { owner, release: 1, artefactDigest: 'sha256:0', manifest: manifestSchema.parse({ app: 'a', command: ['serve'], port: 80, ...manifest }), hosts: ['a.edge.test'], uidSlot: 7, deployId: 'first' };
  const state = openState(1, () => ({ zramBytes: null, pagerBytes: null }));
  const app = appEntry(state, owner);
  app.serving = { order, facts };
  app.status = 'ready';
  const entry = addInstance(state, app, { id: 'i', order, purpose: 'serve', mode: 'cold', nowBootNs: 0, reason: '' });
  moveInstance(entry, 'booting', 0, '');
  moveInstance(entry, 'warm', 0, '');
  Object.assign(entry, entryIs);
  return { app, entry };
}

t.test('what keeps an instance awake is said, as far as it lasts', (t) => {
  const work = { scale: { backgroundSeconds: 60 } };
  const table: [story: string, manifest: Record<string, unknown>, entry: Partial<InstanceEntry>, says: RegExp][] = [
    ['it waits for its idle time', {}, {}, /^$/],
    ['a request is under way', {}, { outstanding: 1, busySinceBootNs: nowNs - 59 * second }, /^$/],
    ['one after the other for a minute, or one long one', {}, { outstanding: 1, busySinceBootNs: nowNs - 60 * second }, /for more than a minute without a break/],
    ['a WebSocket', {}, { tunnels: 2 }, /^upgraded connections/],
    ['a WebSocket that sleeps with its app', { state: 'keep' }, { tunnels: 2 }, /^$/],
    ['conduit connect', {}, { accessed: true }, /^its provider is connected/],
    ['it is to stay', { scale: { min: 2 } }, {}, /^its manifest wants at least 2/],
    ['it works', work, { work: 'goes on computing' }, /^it goes on computing, and may for 60 s after its last request/],
    ['it worked', work, { work: '' }, /^$/],
    ['it works, and that does not count', {}, { work: 'goes on computing' }, /^$/],
  ];
  for (const [story, manifest, entryIs, says] of table) t.match(whyAwake(warmApp(manifest, entryIs).app, nowNs), says, story);
  const { app, entry } = warmApp({}, { busySinceBootNs: nowNs - 20 * second });
  t.equal(whyAwakeChangesAt(app, nowNs), nowNs + 40 * second);
  moveInstance(entry, 'draining', nowNs, '');
  t.equal(whyAwake(app, nowNs + 100 * second), '', 'it goes');
  t.equal(whyAwakeChangesAt(app, nowNs), null);
  t.end();
});

t.test('its own work is use, for as long as its manifest says', (t) => {
  const used = nowNs - 30 * second;
  const activeNs = (backgroundSeconds: number, workedBootNs: number): number | undefined =>
    viewApp(warmApp({ scale: { backgroundSeconds } }, { lastActiveBootNs: used, workedBootNs }).app).instances[0]?.lastActiveBootNs;
  t.equal(activeNs(0, nowNs), used, 'not at all');
  t.equal(activeNs(60, nowNs), nowNs, 'within that time');
  t.equal(activeNs(10, nowNs), used + 10 * second, 'for longer than that');
  t.equal(activeNs(60, used - second), used, 'before its last request');
  const surplusSince = (backgroundSeconds: number, work: string): number | null => {
    const { app } = warmApp({ scale: { backgroundSeconds } }, { lastActiveBootNs: used, work });
    noteSurplus(app, nowNs);
    return app.surplusSinceBootNs;
  };
  t.equal(surplusSince(60, 'goes on computing'), null, 'it is none too many');
  t.equal(surplusSince(60, ''), nowNs, 'it has done its work');
  t.equal(surplusSince(10, 'goes on computing'), nowNs, 'it has had its time');
  const { app } = warmApp({ scale: { backgroundSeconds: 60 } }, { lastActiveBootNs: used });
  const { order } = app.serving ?? {};
  if (order === undefined) return t.fail('it serves');
  const runs = addInstance(openState(1, () => ({ zramBytes: null, pagerBytes: null })), app, { id: 'r', order, purpose: 'prepare', mode: 'cold', nowBootNs: 0, reason: '' });
  moveInstance(runs, 'booting', 0, '');
  moveInstance(runs, 'warm', 0, '');
  Object.assign(runs, { work: 'goes on computing', lastActiveBootNs: nowNs });
  noteSurplus(app, nowNs);
  t.equal(app.surplusSinceBootNs, nowNs, 'nobody is served by a one-off command');
  t.end();
});
