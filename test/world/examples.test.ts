import { request } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { WebSocket } from 'ws';
import { exampleApp } from '../../images/host/example-apps.ts';
import { ask, asleep, openFaultWorld, until } from './faults/fault-world.ts';
import type { FaultWorld, Provider } from './faults/fault-world.ts';

t.setTimeout(400_000);

/** Each app of `examples/` that no other test deploys: it is deployed as it is, used, sleeps, and is used again. */
t.test('the examples do what they say', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  const apps = { notes, chat, site, tasks, pages };
  for (const [name, use] of Object.entries(apps)) {
    await t.test(name, async (t) => {
      await ada.deploy(name === 'pages' ? join(import.meta.dirname, '../../examples/pages') : exampleApp(name));
      await asleep(world);
      await use(t, { world, ada, host: await hostOf(world, ada, name) });
      t.equal((await ada.conduit(['delete', name, '--yes'])).exitCode, 0);
    });
  }
  await world.stop(t);
});

interface Deployed {
  readonly world: FaultWorld;
  readonly ada: Provider;
  /** The address of an edgepoint that hosts it. */
  readonly host: string;
}

async function hostOf(world: FaultWorld, ada: Provider, app: string): Promise<string> {
  const { sites } = await ada.status(app);
  return world.edgepoints.find(({ edgepoint }) => edgepoint === sites[0]?.edgepoint)?.ipv4 ?? '';
}

async function notes(t: Test, { world, ada, host }: Deployed): Promise<void> {
  const name = 'notes.edge.test';
  t.match(await post(host, name, '/notes', '{"text":"milk"}'), { status: 201, body: '{"id":1,"text":"milk"}\n' });
  t.match(await post(host, name, '/notes', '{"text":"bread"}'), { status: 201 });
  t.match(await post(host, name, '/notes', 'bread'), { status: 400 });
  await asleep(world);
  const both = { status: 200, body: '[{"id":1,"text":"milk"},{"id":2,"text":"bread"}]\n' };
  t.match(await ask({ host, name, path: '/notes' }), both, 'after a sleep');
  await ada.deploy(exampleApp('notes'));
  t.match(await ask({ host, name, path: '/notes' }), both, 'after another release');
  await asleep(world);
}

async function chat(t: Test, { world, host }: Deployed): Promise<void> {
  t.match((await ask({ host, name: 'chat.edge.test', path: '/' })).body, '<title>chat</title>');
  const [ann, ben] = [await enter(t, host), await enter(t, host)];
  ann.say('hello');
  await until('both hear it', () => [ann, ben].every(({ heard }) => heard.includes('hello')));
  await asleep(world);
  ben.say('still here?');
  await until('both hear it, on the same connections, after a sleep', () => [ann, ben].every(({ heard }) => heard.includes('still here?')));
  const cat = await enter(t, host);
  await until('who comes later hears what was said', () => cat.heard.length === 2);
  t.same(cat.heard, ['hello', 'still here?']);
  t.same(ann.heard, ['hello', 'still here?'], 'nothing twice');
  for (const guest of [ann, ben, cat]) guest.leave();
  await asleep(world);
}

async function site(t: Test, { world, host }: Deployed): Promise<void> {
  const name = 'site.edge.test';
  const page = await fetchPage(host, name, '/', {});
  t.match(page, { status: 200, type: /^text\/html/, body: '<h1>A static site</h1>' });
  t.match(await fetchPage(host, name, '/', { 'if-none-match': page.etag }), { status: 304 });
  t.match(await fetchPage(host, name, '/style.css', {}), { status: 200, type: /^text\/css/ });
  t.match(await fetchPage(host, name, '/nothing', {}), { status: 404 });
  await asleep(world);
  t.match(await fetchPage(host, name, '/', { 'if-none-match': page.etag }), { status: 304 }, 'the same page after a sleep');
}

/** Its dependencies come from the npm registry, in the box of its build. */
async function pages(t: Test, { world, host }: Deployed): Promise<void> {
  const name = 'pages.edge.test';
  t.match(await fetchPage(host, name, '/', {}), { status: 200, type: /^text\/html/, body: '<h1>Pages</h1>\n<p>This page was <strong>written</strong> as Markdown' });
  await asleep(world);
  t.match(await fetchPage(host, name, '/', {}), { status: 200 }, 'after a sleep');
}

async function tasks(t: Test, { world, host }: Deployed): Promise<void> {
  const primes = async (limit: number): Promise<{ primes: number; asked: number }> => JSON.parse((await ask({ host, name: 'tasks.edge.test', path: `/primes/${limit}` })).body) as { primes: number; asked: number };
  for (const wake of ['first', 'second']) {
    t.match(await primes(100_000), { primes: 9592, asked: 2 }, `the ${wake} wake begins from the template, in which both were asked once`);
    t.match(await primes(10), { primes: 4 });
    await asleep(world);
  }
}

function post(host: string, name: string, path: string, text: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host, port: 80, path, method: 'POST', headers: { host: name, connection: 'close', 'content-length': Buffer.byteLength(text) } }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    outgoing.once('error', reject).end(text);
  });
}

function fetchPage(host: string, name: string, path: string, headers: Record<string, string>): Promise<{ status: number; type: string; etag: string; body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host, port: 80, path, headers: { host: name, connection: 'close', ...headers } }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.once('end', () => resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', etag: response.headers.etag ?? '', body }));
    });
    outgoing.once('error', reject).end();
  });
}

async function enter(t: Test, host: string): Promise<{ heard: string[]; say(words: string): void; leave(): void }> {
  const socket = new WebSocket(`ws://${host}/rooms/lobby`, { headers: { host: 'chat.edge.test' } });
  t.teardown(() => socket.terminate());
  const heard: string[] = [];
  socket.on('message', (data: Buffer) => heard.push(data.toString()));
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  return { heard, say: (words) => socket.send(words), leave: () => socket.close() };
}
