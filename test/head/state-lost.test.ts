import t from 'tap';
import { PublishedStates } from '../../kit/published-states.ts';
import type { AppStateEntry } from '../../kit/wire/edgepoint-state.ts';
import { buckets } from '../../kit/wire/subjects.ts';
import { startRig, until } from './rig.ts';

t.test('a head that finds its published state gone when the bus comes back says all anew, and otherwise nothing', async (t) => {
  const rig = await startRig(t);
  for (const app of ['shop', 'blog']) await rig.deploy(app, {});
  for (const app of ['shop', 'blog']) t.equal((await rig.ended(app)).stage, 'ready');
  const asleep = (): boolean => rig.state()?.complete === true && rig.state()?.apps.filter((app) => app.status === 'ready' && Object.keys(app.instances).length === 0).length === 2;
  await until('both are published', asleep);
  const epoch = rig.state()?.epoch;

  await rig.nats.kill('SIGKILL');
  await rig.nats.start();
  await until('the bus is back', () => rig.conduit.up);
  // Whatever it has to say now comes behind what it is asked for here.
  await rig.deploy('third', {});
  t.equal((await rig.ended('third')).stage, 'ready');
  await until('the third is published', () => rig.state()?.apps.length === 3);
  t.equal(rig.state()?.epoch, epoch, 'nothing was lost, so nothing began anew');

  const operator = await rig.nats.bus('operator');
  t.notMatch(await operator.request(`$JS.API.STREAM.PURGE.KV_${buckets.state}`, '', 5000), '"error"');
  await rig.nats.kill('SIGKILL');
  await rig.nats.start();
  await until('all is said anew', () => rig.state()?.complete === true && rig.state()?.epoch !== epoch && rig.state()?.apps.length === 3);
  const late = new PublishedStates<AppStateEntry>((entry) => entry);
  const watch = await rig.conduit.watchKv(buckets.state, '>', (key, text) => void late.take(key, text));
  t.teardown(() => watch.stop());
  await watch.ready;
  t.strictSame([...late.apps('north.one')].map(([, { app }]) => app).toSorted(), ['blog', 'shop', 'third'], 'for those who come late too');
});
