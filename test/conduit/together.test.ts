import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import t from 'tap';
import { openPlaces } from '../../conduit/places.ts';
import { siteA, until } from '../host/nats.ts';
import { rawTarGz } from './archives.ts';
import { plainManifest, startConduit, startEdgepoint } from './rig.ts';

const archive = (app: string, text: string): Uint8Array<ArrayBuffer> => new Uint8Array(rawTarGz([{ path: 'edgepoint.toml', content: plainManifest(app) }, { path: 'a', content: text }]));

t.test('many at once: one name has one owner, releases have no gaps, no two apps share a uid slot', async (t) => {
  const world = await startConduit(t, { uploadsMax: 32 });
  const edgepoint = await startEdgepoint(t, world.nats, siteA, { silent: true });
  const tokens = [await world.token('ada'), await world.token('bob')];
  const send = async (token: string, app: string, text: string) => {
    const response = await world.ask(token, `/apps/${app}/releases`, { method: 'POST', body: archive(app, text) });
    return { token, app, status: response.status, ...((await response.json()) as { release?: number; code?: string }) };
  };
  const answers = await Promise.all(Array.from({ length: 24 }, (_, index) => send(tokens[index % 2] ?? '', index < 16 ? 'same' : `own-${index}`, `${index}`)));
  const won = answers.filter(({ app, status }) => app === 'same' && status === 201);
  t.equal(new Set(won.map(({ token }) => token)).size, 1, 'one provider has the name');
  t.same(won.map(({ release }) => release).toSorted(), [1, 2, 3, 4, 5, 6, 7, 8], 'and all its releases, each once');
  t.equal(answers.filter(({ code }) => code === 'name-taken').length, 8);
  await until('all are told', () => edgepoint.desired.size === 9 && edgepoint.desired.get('same')?.release === 8);
  const slots = [...edgepoint.desired.values()].map(({ uidSlot }) => uidSlot);
  t.equal(new Set(slots).size, 9, `uid slots ${slots.join()}`);

  const gone = [...edgepoint.desired.values()].find(({ app }) => app === 'own-16');
  t.equal((await world.ask(tokens[0] ?? '', '/apps/own-16', { method: 'DELETE' })).status, 200);
  await send(tokens[0] ?? '', 'own-new', 'x');
  await until('the new one is told', () => edgepoint.desired.has('own-new'));
  t.not(edgepoint.desired.get('own-new')?.uidSlot, gone?.uidSlot, 'a slot is not given again while others were never used');
});

t.test('an upload waits for its turn; when none comes it is sent away, and the door opens again', async (t) => {
  const world = await startConduit(t, { uploadsMax: 2 });
  const token = await world.token('ada');
  const sockets = ['one', 'two'].map((app) => {
    const socket = connect(Number(new URL(world.url).port), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(`POST /v1/apps/${app}/releases HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Length: 1000\r\n\r\nhalf`);
    return socket;
  });
  t.teardown(() => sockets.forEach((socket) => socket.destroy()));
  await until('both are under way', () => readdirSync(world.uploadFolder).filter((name) => name.endsWith('.part')).length === 2);
  const send = (app: string) => world.ask(token, `/apps/${app}/releases`, { method: 'POST', body: archive(app, 'x') });
  // Sixteen wait, eight for each place; one more is too many.
  const waiting = Array.from({ length: 17 }, (_, index) => send(`waiting-${index}`));
  const refused = await Promise.race(waiting);
  t.equal(refused.status, 503);
  t.equal(refused.headers.get('retry-after'), '3');
  t.match(await refused.json(), { code: 'busy', message: '2 uploads are under way already' });
  sockets[0]?.destroy();
  const statuses = (await Promise.all(waiting)).map(({ status }) => status).toSorted();
  t.same(statuses, [...Array.from({ length: 16 }, () => 201), 503], 'those that waited had their turn');
  sockets[1]?.write('x'.repeat(996));
  await until('a place is free again', async () => (await send('late')).status === 201);
});

t.test('a place is given in order, to as many as there are, and not later than asked', async (t) => {
  const places = openPlaces(1);
  t.ok(await places.take(0));
  const order: string[] = [];
  const first = places.take(10_000).then((taken) => order.push(`first ${taken}`));
  const impatient = places.take(10).then((taken) => order.push(`impatient ${taken}`));
  const second = places.take(10_000).then((taken) => order.push(`second ${taken}`));
  await impatient;
  places.free();
  await first;
  places.free();
  await second;
  t.same(order, ['impatient false', 'first true', 'second true']);
  places.free();
  t.ok(await places.take(0), 'nobody holds it any more');
});
