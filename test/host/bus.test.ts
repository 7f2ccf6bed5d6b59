import t from 'tap';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { startNats, until } from './nats.ts';

t.test('what the conduit writes reaches the edgepoint it is for', async (t) => {
  const nats = await startNats(t);
  const conduit = await nats.bus('conduit');
  const north = await nats.bus('north.one');
  await conduit.putKv('desired', 'north.one.p.main.a', 'first');
  const seen: string[] = [];
  const watch = await north.watchKv('desired', 'north.one.>', (key, text) => void seen.push(`${key}=${text}`));
  await watch.ready;
  t.strictSame(seen, ['north.one.p.main.a=first']);
  await conduit.putKv('desired', 'north.one.p.main.b', 'second');
  await conduit.deleteKv('desired', 'north.one.p.main.a');
  await until('both changes are told', () => seen.length === 3);
  t.strictSame(seen.slice(1), ['north.one.p.main.b=second', 'north.one.p.main.a=null']);
  t.equal(await conduit.getKv('desired', 'north.one.p.main.b'), 'second');
  t.equal(await conduit.getKv('desired', 'north.one.p.main.a'), null);
  const content = new Uint8Array(3_000_000).map((_, place) => (place * 7 + (place >> 8)) & 255);
  await conduit.putObject('artefacts_north_one', 'sha256:abc', content);
  const stream = await north.getObject('artefacts_north_one', 'sha256:abc');
  t.ok(stream);
  t.ok(Buffer.from(content).equals(Buffer.from(await new Response(stream).arrayBuffer())), 'the object comes whole');
  await conduit.deleteObject('artefacts_north_one', 'sha256:abc');
  t.equal(await north.getObject('artefacts_north_one', 'sha256:abc'), null);

  const blobs = north.blobs('volumes_north_one');
  const about = { bytes: content.length, digest: createHash('sha256').update(content).digest('hex') };
  await blobs.put('p.main.a.data.1.0', new Uint8Array(5_000_000));
  await blobs.put('p.main.a.data.1.0', content);
  t.ok(Buffer.from(content).equals(Buffer.from(await blobs.get('p.main.a.data.1.0', about))), 'what is put last is there, whole');
  await t.rejects(blobs.get('p.main.a.data.1.0', { ...about, digest: '0'.repeat(64) }), { code: 'object-broken' }, 'of another digest it is refused');
  await t.rejects(blobs.get('p.main.a.data.1.0', { ...about, bytes: about.bytes + 1 }), { code: 'object-broken' }, 'and of another length');
  await blobs.drop('p.main.a.data.1.0');
  await blobs.drop('p.main.a.data.1.1');
  await t.rejects(blobs.get('p.main.a.data.1.0', about), { code: 'object-broken' });
  t.equal(await blobs.note('p.main.a.data.catalogue'), null);
  await blobs.putNote('p.main.a.data.catalogue', 'one');
  await blobs.putNote('p.main.a.data.catalogue', 'two');
  t.equal(await blobs.note('p.main.a.data.catalogue'), 'two');
  await blobs.drop('p.main.a.data.catalogue');
  t.equal(await blobs.note('p.main.a.data.catalogue'), null);

  const metering = await nats.bus('metering');
  const used: string[] = [];
  const consumer = await metering.consume('USAGE', { durable: 'metering', from: 'all' }, async (subject, text) => void used.push(`${subject} ${text}`));
  await north.append('usage.north.one.p.main.a', 'one', 'i/1');
  await north.append('usage.north.one.p.main.a', 'one again', 'i/1');
  await north.append('usage.north.one.p.main.a', 'two', 'i/2');
  await until('two records are consumed', () => used.length === 2);
  t.strictSame(used, ['usage.north.one.p.main.a one', 'usage.north.one.p.main.a two']);
  consumer.stop();
  await north.append('event.north.one.p.main.a', 'e1', 'e1');
  const events: string[] = [];
  const follow = await conduit.consume('EVENTS', { filter: 'event.*.*.p.main.a', from: 'all' }, async (_subject, text) => void events.push(text));
  await until('the event is there', () => events.length === 1);
  await north.append('event.north.one.p.main.a', 'e2', 'e2');
  await until('the event is there', () => events.length === 2);
  follow.stop();
  metering.reply('metering.query', async (text) => `answer to ${text}`);
  await until('metering answers', async () => (await conduit.request('metering.query', 'x', 1000).catch(() => '')) === 'answer to x');
  const beats: string[] = [];
  (await nats.bus('global-dispatcher')).subscribe('heartbeat.>', (subject, text) => void beats.push(`${subject} ${text}`));
  await until('a heartbeat is heard', () => {
    north.publish('heartbeat.north.one', 'b');
    return beats.length > 0;
  });
  await north.putKv('state', 'north.one', 'state!');
  t.equal(await conduit.getKv('state', 'north.one'), 'state!');
  t.equal(await north.placeOfKv('state', 'north.one.p.main.a'), null);
  const put = await north.putKv('state', 'north.one.p.main.a', 'asleep');
  t.equal(await north.placeOfKv('state', 'north.one.p.main.a'), put);
  const deleted = await north.deleteKv('state', 'north.one.p.main.a');
  t.ok(deleted > put, 'each has a later place than the one before');
  t.equal(await north.placeOfKv('state', 'north.one.p.main.a'), deleted, 'a deletion has a place too');
});

t.test('the same on Bun, through a restart of the server', async (t) => {
  const nats = await startNats(t);
  const conduit = await nats.bus('conduit');
  await conduit.putKv('desired', 'north.one.p.main.a', 'first');
  const content = randomBytes(5_000_000);
  await conduit.putObject('artefacts_north_one', 'digest', content);
  const child = spawn('node_modules/.bin/bun', ['test/host/bus-peer.ts', nats.url, nats.user('north.one').seed], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout.on('data', (bytes: Buffer) => void (output += bytes.toString()));
  await until('it has done its part', () => output.includes('"runtime"') && output.includes('{"up":true}'), 15_000);
  t.match(output, '{"key":"north.one.p.main.a","text":"first"}');
  t.match(output, createHash('sha256').update(content).digest('hex'));
  t.equal(await conduit.getKv('state', 'north.one'), 'from bun');
  await nats.kill('SIGKILL');
  await nats.start();
  await until('the conduit is back', () => conduit.putKv('desired', 'north.one.p.main.a', 'second').then(() => true, () => false));
  await until('it hears of the change', () => output.includes('"text":"second"'), 15_000);
  t.equal(output.split('{"up":true}').length - 1, 2);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  t.equal(await ended, 0, 'and ends when told');
});

t.test('objects of every size, and a broken one', async (t) => {
  const nats = await startNats(t);
  const conduit = await nats.bus('conduit');
  const north = await nats.bus('north.one');
  const bucket = 'artefacts_north_one';
  const read = async (name: string): Promise<Buffer | null> => {
    const stream = await north.getObject(bucket, name);
    return stream === null ? null : Buffer.from(await new Response(stream).arrayBuffer());
  };
  const chunk = 128 * 1024;
  for (const size of [0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 20 * chunk + 17]) {
    const content = randomBytes(size);
    await conduit.putObject(bucket, `size ${size}`, content);
    t.ok((await read(`size ${size}`))?.equals(content), `${size} bytes at once`);
    let given = 0;
    const pieces = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        if (given >= size) return controller.close();
        controller.enqueue(content.subarray(given, Math.min(size, given + 70_001)));
        given += 70_001;
      },
    });
    await conduit.putObject(bucket, `size ${size}`, pieces);
    t.ok((await read(`size ${size}`))?.equals(content), `${size} bytes in pieces`);
  }
  const both = [randomBytes(30 * chunk), randomBytes(30 * chunk)] as const;
  await Promise.all(both.map((content, place) => conduit.putObject(bucket, `both ${place}`, content)));
  for (const [place, content] of both.entries()) t.ok((await read(`both ${place}`))?.equals(content), 'two uploads at once do not mix');
  const cut = new ReadableStream<Uint8Array>({ pull: (controller) => (controller.enqueue(randomBytes(chunk)), controller.error(new Error('cut'))) });
  await t.rejects(conduit.putObject(bucket, 'cut', cut), /cut/);
  t.equal(await read('cut'), null, 'an upload cut half way is not there');
  await conduit.deleteObject(bucket, 'never was');
  const operator = await nats.bus('operator');
  const { state } = JSON.parse(await operator.request(`$JS.API.STREAM.INFO.OBJ_${bucket}`, '{"subjects_filter":">"}', 2000)) as { state: { subjects: Record<string, number> } };
  const objects = Object.keys(state.subjects).filter((subject) => subject.includes('.M.')).length;
  const contents = Object.keys(state.subjects).filter((subject) => subject.includes('.C.')).length;
  t.equal(contents, objects - 1, 'nothing is left of what was replaced or cut (one object has no bytes)');
  const chunks = Object.keys(state.subjects).find((subject) => subject.includes('.C.') && state.subjects[subject] === 21) ?? '';
  await operator.request(`$JS.API.STREAM.PURGE.OBJ_${bucket}`, JSON.stringify({ filter: chunks, keep: 5 }), 2000);
  await t.rejects(read(`size ${20 * chunk + 17}`), { code: 'object-broken' });
});
