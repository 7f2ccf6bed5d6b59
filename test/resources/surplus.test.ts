import t from 'tap';
import { noteSurplus } from '../../edgepoint/resources/views.ts';
import { addInstance, appEntry, moveInstance, openState } from '../../edgepoint/resources/state.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';

const owner = { provider: 'p', scope: 'main', app: 'a' };
const manifest = manifestSchema.parse({ app: 'a', command: ['serve'], port: 80, scale: { concurrency: 4 } });
const order = { owner, release: 1, artefactDigest: 'sha256:0', manifest, hosts: ['a.edge.test'], uidSlot: 7, deployId: 'first' };
const facts = { wakeBy: 'template' as const, wakeReason: '', staysAwake: '', snapshotPath: '/s', templateBytes: 1, coldBootMs: 100, restoreMs: 20 };

t.test('two instances of four requests each are one too many only while no moment has wanted both', (t) => {
  const state = openState(1, () => ({ zramBytes: null, pagerBytes: null }));
  const app = appEntry(state, owner);
  app.serving = { order, facts };
  const entries = ['i-1', 'i-2'].map((id) => {
    const entry = addInstance(state, app, { id, order, purpose: 'serve', mode: 'cold', nowBootNs: 0, reason: '' });
    moveInstance(entry, 'booting', 0, '');
    moveInstance(entry, 'warm', 0, '');
    return entry;
  });
  /** Under way at the moment of the plan; under way at most since the plan before; since when there is one too many then. */
  const rows: [story: string, now: number, peak: number, surplusSince: number | null][] = [
    ['quiet', 0, 0, 1],
    ['four at once are one instance’s', 2, 4, 1],
    ['five for a moment, gone when it is told', 0, 5, null],
    ['quiet again: counted anew', 0, 0, 4],
    ['a plan for another reason', 1, 0, 4],
    ['five now', 5, 5, null],
    ['they stay', 5, 0, null],
  ];
  for (const [index, [story, now, peak, surplusSince]] of rows.entries()) {
    for (const [nth, entry] of entries.entries()) entry.outstanding = nth === 0 ? Math.min(now, 4) : Math.max(0, now - 4);
    app.peak = peak;
    noteSurplus(app, index + 1);
    t.equal(app.surplusSinceBootNs, surplusSince, story);
  }
  t.end();
});
