import { createHash, randomBytes } from 'node:crypto';
import t from 'tap';
import { echo, makeArtefact } from './app.ts';
import { openEngine, until } from './engine.ts';

t.test('an open connection goes on across five sleeps, with every byte once and in order', async (t) => {
  const engine = await openEngine(t);
  const order = engine.order('kept', { artefactPath: makeArtefact(engine.folder, 'echo', { 'server.js': echo }), ownNetwork: true });
  const first = await engine.boot(order);
  const socket = await engine.connect(first);
  let closed = false;
  socket.on('close', () => (closed = true)).on('error', () => (closed = true));
  const sent = createHash('sha256');
  const came = createHash('sha256');
  let sentBytes = 0;
  let cameBytes = 0;
  socket.on('data', (bytes: Buffer) => {
    came.update(bytes);
    cameBytes += bytes.length;
  });
  const send = (): void => {
    const bytes = randomBytes(1000);
    sent.update(bytes);
    sentBytes += bytes.length;
    socket.write(bytes);
  };
  send();
  await until('the first bytes come back', () => cameBytes === sentBytes);
  const ticker = setInterval(send, 2); // it is written to at every moment of a sleep
  t.teardown(() => clearInterval(ticker));
  for (const nap of [1, 2, 3, 4, 5]) {
    const path = engine.snapshotPath(`nap${nap}`);
    await engine.snapshot('kept', path, false);
    const asleepBytes = sentBytes;
    await until('something is written to the sleeper', () => sentBytes > asleepBytes + 5000);
    const awake = await engine.restore({ ...order, address: first.address, snapshotPath: path, continues: true });
    t.equal(awake.address, first.address);
    await until(`bytes come back after nap ${nap}`, () => cameBytes >= asleepBytes + 5000);
    t.notOk(closed, 'the connection is open');
  }
  clearInterval(ticker);
  await until('all bytes come back', () => cameBytes === sentBytes);
  t.equal(came.digest('hex'), sent.digest('hex'), `${sentBytes} bytes, none lost, doubled or out of order`);
  t.equal(engine.exits.filter((exit) => exit.status === 'snapshotted').length, 5, 'each sleep was told once');
  socket.destroy();
  await engine.stop('kept');
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('a clone closes the connections of its template, and keeps listening', async (t) => {
  const engine = await openEngine(t);
  const order = engine.order('first', { artefactPath: makeArtefact(engine.folder, 'echo', { 'server.js': echo }) });
  const first = await engine.boot(order);
  const socket = await engine.connect(first);
  await new Promise((resolve) => socket.once('data', resolve).write('hello'));
  await engine.snapshot('first', engine.snapshotPath('shop'));
  const clone = await engine.restore({ ...order, instance: 'clone', snapshotPath: engine.snapshotPath('shop'), continues: false });
  const other = await engine.connect(clone);
  t.equal(String(await new Promise((resolve) => other.once('data', resolve).write('new'))), 'new', 'the clone answers');
  t.equal(String(await new Promise((resolve) => socket.once('data', resolve).write('on'))), 'on', 'the template\'s own connection goes on');
  socket.destroy();
  other.destroy();
});

t.test('a wake that follows a sleep at once waits for its end, and an address in use is refused', async (t) => {
  const engine = await openEngine(t);
  const order = engine.order('kept', { ownNetwork: true });
  const first = await engine.boot(order);
  await engine.run(first, 'state.count = 40');
  for (const nap of [1, 2, 3, 4]) {
    const path = engine.snapshotPath(`nap${nap}`);
    await engine.snapshot('kept', path, false);
    const awake = await engine.restore({ ...order, address: first.address, snapshotPath: path, continues: true });
    t.not(awake.pid, first.pid);
    t.equal(await engine.run(first, 'return ++state.count'), 40 + nap, 'its memory goes on');
  }
  await t.rejects(engine.boot(engine.order('thief', { address: first.address })), { code: 'address-taken' });
  await engine.nothingRemains(t, 'nothing but the live one');
});
