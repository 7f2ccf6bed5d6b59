import t from 'tap';
import { routeOf } from '../../edgepoint/resources/routes.ts';
import { addInstance, appEntry, moveInstance, openState } from '../../edgepoint/resources/state.ts';
import type { InstanceMode } from '../../edgepoint/model/instance.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';

const owner = { provider: 'p', scope: 'main', app: 'a' };
const facts = { wakeBy: 'template' as const, wakeReason: '', staysAwake: '', snapshotPath: '/s', templateBytes: 1, coldBootMs: 100, restoreMs: 20 };
const orderOf = (release: number) => ({
  owner, release, artefactDigest: 'sha256:0', manifest: manifestSchema.parse({ app: 'a', command: ['serve'], port: 80 }), hosts: ['a.edge.test'], uidSlot: 7, deployId: `${release}`,
});

t.test('a route lists who is given requests, and says who is leaving', (t) => {
  const state = openState(1, () => ({ zramBytes: null, pagerBytes: null }));
  const app = appEntry(state, owner);
  app.serving = { order: orderOf(2), facts };
  app.status = 'ready';
  const add = (id: string, release: number, ways: readonly InstanceMode[]): void => {
    const entry = addInstance(state, app, { id, order: orderOf(release), purpose: 'serve', mode: 'cold', nowBootNs: 0, reason: '' });
    for (const mode of ways) moveInstance(entry, mode, 0, '');
    entry.facts = { ...entry.facts, address: '10.0.0.1' };
  };
  const listed = (): string[] => (routeOf(app, 0)?.instances ?? []).map(({ instance, draining }) => (draining === true ? `${instance} leaves` : instance));
  add('comes', 2, ['restoring']);
  add('old', 1, ['booting', 'warm']);
  t.same(listed(), ['old'], 'a release before, while none of this one is warm');
  // It became warm when its release had just been replaced, and is let go before the dispatcher has heard of it.
  add('late', 1, ['restoring', 'warm', 'draining']);
  t.same(listed(), ['old', 'late leaves']);
  add('new', 2, ['restoring', 'warm']);
  t.same(listed(), ['new', 'late leaves'], 'one of this release is warm');
  t.end();
});
