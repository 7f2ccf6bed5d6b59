import t from 'tap';
import { gatherMs, openStatePublisher } from '../../edgepoint/head/state-publisher.ts';

t.test('the longer a state is, the less often it is put', (t) => {
  t.equal(gatherMs(0), 100);
  t.equal(gatherMs(50_000), 100, 'some 150 apps');
  t.equal(gatherMs(500_000), 1000);
  t.end();
});

t.test('changes are put together, and nothing is put twice', async (t) => {
  let state = 'one';
  const puts: string[] = [];
  const publisher = openStatePublisher({ describe: () => state, put: async (text) => void puts.push(text), onFault: (failure) => t.fail(String(failure)) });
  for (const next of ['two', 'three']) {
    state = next;
    publisher.changed();
  }
  await publisher.stop();
  await publisher.stop();
  t.same(puts, ['three']);
});
