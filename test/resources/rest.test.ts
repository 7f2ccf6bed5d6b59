import t from 'tap';
import { PackedTexts } from '../../host/packed-texts.ts';
import { addInstance, appEntry, dropInstance, openState } from '../../edgepoint/resources/state.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';

const owner = { provider: 'p', scope: 'main', app: 'a' };
const order = (deployId: string) => ({
  owner, release: 1, artefactDigest: 'sha256:0', manifest: manifestSchema.parse({ app: 'a', command: ['serve'], port: 80 }), hosts: ['a.edge.test'], uidSlot: 7, deployId,
});
const facts = { wakeBy: 'template' as const, wakeReason: '', staysAwake: '', snapshotPath: '/s', templateBytes: 1, coldBootMs: 100.5, restoreMs: null };

t.test('an app at rest means what it meant, and only one that sleeps rests', (t) => {
  const state = openState(1, () => ({ zramBytes: null, pagerBytes: null }), new PackedTexts());
  const app = appEntry(state, owner);
  app.restIfAsleep();
  t.strictSame([app.desired, app.serving], [null, null], 'one that has nothing yet');

  const serving = { order: order('first'), facts };
  app.desired = order('again');
  app.serving = serving;
  const isHeld = (): boolean => app.serving === serving;
  app.restIfAsleep();
  t.ok(isHeld(), 'it is being prepared');
  app.status = 'ready';
  app.waiting = 1;
  app.restIfAsleep();
  t.ok(isHeld(), 'somebody waits for it');
  app.waiting = 0;
  addInstance(state, app, { id: 'i', order: serving.order, purpose: 'serve', mode: 'cold', nowBootNs: 0, reason: '' });
  app.restIfAsleep();
  t.ok(isHeld(), 'an instance of it runs');
  dropInstance(state, 'i');

  app.restIfAsleep();
  app.restIfAsleep();
  t.notOk(isHeld());
  t.strictSame([app.desired, app.serving], [order('again'), serving]);
  t.equal(app.serving, app.serving, 'while it is in use it stays the same object');
  app.restIfAsleep();
  app.desired = null;
  t.strictSame([app.desired, app.serving], [null, serving]);
  t.end();
});

t.test('what is wanted may differ from what serves in any way', (t) => {
  const served = { ...order('first'), sites: ['eu.paris'] };
  const { sites: _, ...without } = served;
  const rows = [
    { about: 'the very same', desired: served },
    { about: 'another release', desired: { ...served, release: 2, deployId: 'second', manifest: { ...served.manifest, port: 81 } } },
    { about: 'a field less', desired: without },
    { about: 'nothing', desired: null },
  ];
  const packed = new PackedTexts();
  for (const { about, desired } of rows) {
    const app = appEntry(openState(1, () => ({ zramBytes: null, pagerBytes: null }), packed), owner);
    app.desired = desired;
    app.serving = { order: served, facts };
    app.status = 'ready';
    app.restIfAsleep();
    t.strictSame([app.desired, app.serving], [desired, { order: served, facts }], about);
    app.desired = served;
    t.equal(app.desired, served, `${about}, and set again`);
  }
  t.end();
});
