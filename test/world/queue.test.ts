import t from 'tap';
import type { QueuesAnswer } from '../../conduit/api/answers.ts';
import { ask, asleep, openFaultWorld, until, writeApp } from './faults/fault-world.ts';

t.setTimeout(400_000); // daemons are killed and come back, on whatever machine

/** Notes each message on its volume before it takes it, boots slowly, and takes none that says `bad`. */
const server = `import { createServer } from 'node:http';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
const bootedMs = Date.now();
while (Date.now() - bootedMs < 300);
createServer((request, response) => {
  if (request.method === 'GET') return response.end(existsSync('/data/seen') ? readFileSync('/data/seen') : '');
  let body = '';
  request.on('data', (bytes) => (body += bytes)).on('end', () => {
    const { 'edgepoint-message': id, 'edgepoint-queue': queue, 'edgepoint-attempt': attempt, 'content-type': type } = request.headers;
    if (id === undefined) response.statusCode = 403;
    else appendFileSync('/data/seen', [request.url, queue, id, attempt, type, body].join(' ') + '\\n');
    if (body === 'bad') response.statusCode = 500;
    response.end();
  });
}).listen(process.env.PORT, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
`;
const manifest = `[scale]
idleSeconds = 1

[[volume]]
name = "data"
path = "/data"
sizeMegabytes = 16

[[queue]]
name = "jobs"
path = "/jobs"
attempts = 2
backoffSeconds = 0.1
`;

t.test('messages wake an app, and none is lost', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'worker', { server, manifest }));
  const home = (await ada.status('worker')).sites[0]?.edgepoint ?? '';
  const host = world.edgepoints.find(({ edgepoint }) => edgepoint === home)?.ipv4 ?? '';
  const api = (path: string, init: RequestInit = {}): Promise<Response> =>
    fetch(`${world.held.description.conduitUrl}/v1/apps/worker/queues${path}`, { ...init, headers: { authorization: `Bearer ${ada.token}`, 'content-type': 'text/plain' } });
  const send = async (body: string): Promise<string> => {
    const answer = await api('/jobs/messages', { method: 'POST', body });
    if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
    return ((await answer.json()) as { id: string }).id;
  };
  let queue: QueuesAnswer['queues'][number] | undefined;
  const untilQueue = (what: string, holds: () => boolean): Promise<void> =>
    until(() => `${what}: ${JSON.stringify(queue)}`, async () => {
      const answer = await api('').catch(() => null);
      queue = answer?.status === 200 ? ((await answer.json()) as QueuesAnswer).queues[0] : undefined;
      return queue !== undefined && holds();
    }, 60_000, 100);
  /** What the app has seen; it is woken for it. */
  const seen = async (): Promise<string[]> => (await ask({ host, name: 'worker.edge.test', path: '/seen' })).body.split('\n').filter((line) => line !== '');
  const empty = (): boolean => queue?.waiting === 0;
  await asleep(world);

  await t.test('a sleeping app is woken by one, takes it, and sleeps again', async (t) => {
    const id = await send('first');
    await untilQueue('it is taken', empty);
    await asleep(world);
    t.same(await seen(), [`/jobs jobs ${id} 1 text/plain first`]);
  });

  await t.test('what was promised comes, whoever is killed', async (t) => {
    const promised: string[] = [];
    const kills = [`${home}-head`, 'conduit', `${home}-dispatcher`, `${home}-head`];
    for (const victim of kills) {
      for (let count = 0; count < 8; count += 1) {
        // Nothing is promised while the conduit is being started again.
        const id = await send(`${victim} ${count}`).catch(() => null);
        if (id !== null) promised.push(id);
        if (count === 3) await world.kill(victim, 'SIGKILL');
      }
      await world.allHealthy();
    }
    t.ok(promised.length > 20, `${promised.length} were promised`);
    await untilQueue('all are taken', empty);
    const lines = await seen();
    const counts = new Map<string, number>();
    for (const line of lines) counts.set(line.split(' ')[2] ?? '', (counts.get(line.split(' ')[2] ?? '') ?? 0) + 1);
    t.same(promised.filter((id) => !counts.has(id)), [], 'none is lost');
    t.comment(`${promised.length} messages were promised under ${kills.length} kills; ${promised.filter((id) => (counts.get(id) ?? 0) > 1).length} came twice`);
  });

  await t.test('one that the app does not take is put aside after its attempts, and can be tried again', async (t) => {
    const id = await send('bad');
    await untilQueue('it is put aside', () => queue?.dead === 1);
    t.match(queue, { waiting: 0, messages: [{ id, attempts: 2, dead: true, reason: 'it answered 500', bytes: 3 }] });
    const tries = async (): Promise<number> => (await seen()).filter((line) => line.includes(id)).length;
    t.equal(await tries(), 2);
    t.equal((await ada.conduit(['queue', 'retry', 'jobs', id, '--app', 'worker'])).exitCode, 0);
    await untilQueue('it is put aside again', () => queue?.dead === 1);
    await until('it was tried again', async () => (await tries()) === 4);
    const listed = await ada.conduit(['queue', 'list', '--app', 'worker']);
    t.match(listed.stdout, new RegExp(`jobs  0 waiting, 1 put aside\n  ${id}  .*put aside, tried 2 times: it answered 500`));
    t.equal((await ada.conduit(['queue', 'delete', 'jobs', id, '--app', 'worker'])).exitCode, 0);
    await untilQueue('it is gone', () => queue?.dead === 0);
    t.match((await ask({ host, name: 'worker.edge.test', path: '/jobs', method: 'POST' })).status, 403, 'nobody else can send one');
  });

  await asleep(world);
  t.equal((await ada.conduit(['delete', 'worker', '--yes'])).exitCode, 0);
  await world.stop(t);
});
