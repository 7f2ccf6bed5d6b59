import t from 'tap';
import { openLink } from '../../host/bus-link.ts';
import { watchEntries } from '../../host/bus-watch.ts';
import { connectBus } from '../../host/bus.ts';
import { prepareStreams } from '../../host/credentials.ts';
import { quietLog, siteA, siteB, startNats, until } from './nats.ts';

t.test('the server is killed and started again', async (t) => {
  const nats = await startNats(t);
  const conduit = await nats.bus('conduit');
  const north = await nats.bus('north.one');
  const metering = await nats.bus('metering');
  const keys = new Map<string, string | null>();
  const watch = await north.watchKv('desired', 'north.one.>', (key, text) => void keys.set(key, text));
  await watch.ready;
  const used: string[] = [];
  await metering.consume('USAGE', { durable: 'ledger', from: 'all' }, async (_subject, text) => void used.push(text));
  const events: string[] = [];
  await conduit.consume('EVENTS', { from: 'new' }, async (_subject, text) => void events.push(text));
  const beats: string[] = [];
  conduit.subscribe('heartbeat.>', (_subject, text) => void beats.push(text));
  let ups = 0;
  north.onUp(() => void (ups += 1));

  for (const round of [1, 2]) {
    await conduit.putKv('desired', 'north.one.p.main.kept', `before ${round}`);
    await conduit.putKv('desired', `north.one.p.main.gone${round}`, 'x');
    await north.append('usage.north.one.p.main.a', `before ${round}`, `before/${round}`);
    await until('all is there', () => keys.get(`north.one.p.main.gone${round}`) === 'x' && used.includes(`before ${round}`));
    const settled = Promise.allSettled(Array.from({ length: 50 }, (_, place) => north.append('usage.north.one.p.main.a', 'burst', `burst/${round}/${place}`)));
    await nats.kill('SIGKILL');
    const fromMs = performance.now();
    const results = await settled;
    t.ok(performance.now() - fromMs < 2500, 'what was under way does not wait for its timeout of 5 s');
    for (const result of results) if (result.status === 'rejected') t.equal(result.reason.code, 'bus-away');
    await until('it is known to be away', () => !north.up && !conduit.up);
    const refusedMs = performance.now();
    await t.rejects(north.append('usage.north.one.p.main.a', 'x', 'x'), { code: 'bus-away' });
    await t.rejects(conduit.putKv('desired', 'north.one.p.main.kept', 'lost'), { code: 'bus-away' });
    t.ok(performance.now() - refusedMs < 2500, 'refused without waiting for the timeout');
    t.equal(north.publish('heartbeat.north.one', 'lost'), false);

    await nats.start();
    const startedMs = performance.now();
    const took = (what: string): void => t.comment(`${what} ${Math.round(performance.now() - startedMs)} ms after the start`);
    // The conduit may be back before the edgepoint: what it changes meanwhile must not be missed.
    await until('the conduit is back', () => conduit.up);
    await conduit.putKv('desired', 'north.one.p.main.kept', `after ${round}`);
    await conduit.deleteKv('desired', `north.one.p.main.gone${round}`);
    await until('the watch has caught up', () => keys.get('north.one.p.main.kept') === `after ${round}` && keys.get(`north.one.p.main.gone${round}`) === null);
    took('watch');
    await until('appends work', () => north.append('usage.north.one.p.main.a', `after ${round}`, `after/${round}`).then(() => true, () => false));
    took('appends');
    await until('the durable goes on', () => used.includes(`after ${round}`));
    took('durable');
    await until('the follower goes on', async () => {
      await north.append('event.north.one.p.main.a', `event ${round}`, `event/${round}/${events.length}`).catch(() => {});
      return events.includes(`event ${round}`);
    });
    took('follower');
    await until('the subscription is back', () => north.publish('heartbeat.north.one', `beat ${round}`) && beats.includes(`beat ${round}`));
  }
  // A server killed between an acknowledgement and its write to disk delivers that record again: a durable promises at least once,
  // and it is the ledger that counts each record once (test/metering).
  const rounds = [...new Set(used.filter((text) => text.startsWith('after ')))];
  t.same(rounds, rounds.toSorted(), 'everything acknowledged to its writer was consumed, in order');
  t.equal(ups, 3);
});

t.test('a bus that is opened while the server is away', async (t) => {
  const nats = await startNats(t);
  await nats.kill('SIGTERM');
  const { seed } = nats.user('north.one');
  const bus = await connectBus({ url: nats.url, seed, name: 'early' }, quietLog);
  t.teardown(() => bus.close());
  t.notOk(bus.up);
  const keys: string[] = [];
  const watch = await bus.watchKv('desired', 'north.one.>', (key, text) => void keys.push(`${key}=${text}`));
  await t.rejects(bus.putKv('state', 'north.one', 'x'), { code: 'bus-away' });
  await nats.start();
  const conduit = await nats.bus('conduit');
  await conduit.putKv('desired', 'north.one.p.main.a', 'x');
  await watch.ready;
  await until('the watch begins', () => keys.includes('north.one.p.main.a=x'));
  t.ok(bus.up);
});

t.test('a watch and a consumer that begin before their stream is made', async (t) => {
  const nats = await startNats(t, []);
  await nats.add('north.one', 'edgepoint', siteA);
  const bus = await nats.bus('north.one');
  await until('it is in', () => bus.up);
  const keys: string[] = [];
  const watch = await bus.watchKv('desired', 'north.one.>', (key, text) => void keys.push(`${key}=${text}`));
  await t.rejects(bus.getKv('desired', 'north.one.p.main.a'), { code: 'bus-nobody' });
  await prepareStreams(await nats.bus('operator'), [siteA]);
  const conduit = await nats.bus('conduit');
  await until('the conduit may write', () => conduit.putKv('desired', 'north.one.p.main.a', 'x').then(() => true, () => false));
  await watch.ready;
  await until('it is told', () => keys.includes('north.one.p.main.a=x'));
});

t.test('refusals say what they are', async (t) => {
  const nats = await startNats(t);
  const conduit = await nats.bus('conduit');
  await t.rejects(conduit.putKv('state', 'north.one', 'x'), { code: 'bus-forbidden' });
  await t.rejects(conduit.watchKv('desired', '>', () => {}), { code: 'bus-filter' });
  await t.rejects(conduit.request('metering.query', 'x', 500), { code: 'bus-nobody' });
  const metering = await nats.bus('metering');
  metering.reply('metering.query', async (text) => {
    const { Failure } = await import('../../kit/errors.ts');
    throw new Failure('no-such-provider', `nobody is called ${text}`);
  });
  await until('the failure reaches the asker', () => conduit.request('metering.query', 'x', 500).then(() => false, (thrown: { code: string }) => thrown.code === 'no-such-provider'));
});

t.test('many keys, and a handler that is slow or fails', async (t) => {
  const nats = await startNats(t, [siteA, siteB]);
  const conduit = await nats.bus('conduit');
  for (let place = 0; place < 300; place += 1) await conduit.putKv('names', `p.main.a${place}`, `0`);
  const dispatcher = await nats.bus('global-dispatcher');
  const known = new Map<string, string | null>();
  let underWay = 0;
  let atOnceMax = 0;
  const watch = await dispatcher.watchKv('names', '>', async (key, text) => {
    underWay += 1;
    atOnceMax = Math.max(atOnceMax, underWay);
    await new Promise((resolve) => setImmediate(resolve));
    known.set(key, text);
    underWay -= 1;
    if (key === 'p.main.a7') throw new Error('cannot take it');
  });
  const changing = (async () => {
    for (let round = 1; round <= 5; round += 1) await Promise.all(Array.from({ length: 60 }, (_, place) => conduit.putKv('names', `p.main.a${place * 5}`, `${round}`)));
  })();
  await watch.ready;
  t.equal(known.size, 300, 'ready means that every key was told');
  await changing;
  await until('the last change of each key is told', () => [...known].every(([key, text]) => text === (Number(key.slice(8)) % 5 === 0 ? '5' : '0')));
  t.equal(atOnceMax, 1, 'one entry at a time');
  watch.stop();
  await conduit.putKv('names', 'p.main.late', 'x');
  await conduit.getKv('names', 'p.main.late');
  t.notOk(known.has('p.main.late'), 'nothing after stop');
});

t.test('news that got lost on the way is found by looking', async (t) => {
  const nats = await startNats(t);
  const conduit = await nats.bus('conduit');
  const operator = await nats.bus('operator');
  const link = await openLink({ url: nats.url, seed: nats.user('global-dispatcher').seed, name: 'looker' }, quietLog);
  t.teardown(() => link.close());
  await conduit.putKv('names', 'p.main.a', '1');
  const known = new Map<string, string | null>();
  const watch = watchEntries(link, 'names', '>', (key, text) => void known.set(key, text), 100);
  await watch.ready;
  // The stream tells its news to nobody any more.
  const { config } = JSON.parse(await operator.request('$JS.API.STREAM.INFO.KV_names', '', 2000)) as { config: Record<string, unknown> };
  const { republish: _, ...silent } = config;
  t.notMatch(await operator.request('$JS.API.STREAM.UPDATE.KV_names', JSON.stringify(silent), 2000), '"error"');
  await conduit.putKv('names', 'p.main.a', '2');
  await conduit.putKv('names', 'p.main.b', '1');
  await until('both are found', () => known.get('p.main.a') === '2' && known.get('p.main.b') === '1');
  await conduit.deleteKv('names', 'p.main.a');
  await until('the deletion is found', () => known.get('p.main.a') === null);
  t.notMatch(await operator.request('$JS.API.STREAM.PURGE.KV_names', '', 2000), '"error"');
  await until('a bucket that has been emptied is found so', () => known.get('p.main.b') === null);
});

t.test('a server that lost its store tells what it has now', async (t) => {
  const nats = await startNats(t);
  const conduit = await nats.bus('conduit');
  const dispatcher = await nats.bus('global-dispatcher');
  const known = new Map<string, string | null>();
  await (await dispatcher.watchKv('names', '>', (key, text) => void known.set(key, text))).ready;
  for (const app of ['a', 'b', 'c']) await conduit.putKv('names', `p.main.${app}`, 'old');
  await until('all are known', () => known.size === 3);
  await nats.kill('SIGKILL');
  nats.forgetStore();
  await nats.start();
  const operator = await nats.bus('operator');
  await until('the streams are made again', () => prepareStreams(operator, [siteA, siteB]).then(() => true, () => false));
  await until('a name is written again', () => conduit.putKv('names', 'p.main.b', 'new').then(() => true, () => false));
  await until('what is gone is told as gone', () => known.get('p.main.b') === 'new' && known.get('p.main.a') === null && known.get('p.main.c') === null);
  t.strictSame(Object.fromEntries(known), { 'p.main.a': null, 'p.main.b': 'new', 'p.main.c': null });
});
