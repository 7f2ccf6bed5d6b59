import t from 'tap';
import { ask, asleep, openFaultWorld, writeApp } from './faults/fault-world.ts';

/** Answers after a while with what its worker says, who it is by the file of the manifest, and where `self` leads. */
const web = `import { readFileSync, readdirSync } from 'node:fs';
import { lookup } from 'node:dns/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
const bootedMs = Date.now();
while (Date.now() - bootedMs < 300);
const askWorker = () => new Promise((resolve, reject) => connect('/run/worker.sock').on('error', reject).on('data', (text) => resolve(JSON.parse(text))));
createServer(async (request, response) => {
  try {
    const worker = await askWorker();
    await new Promise((resolve) => setTimeout(resolve, Number(new URL(request.url, 'http://app').searchParams.get('ms') ?? 0)));
    const processes = readdirSync('/proc').filter((name) => Number(name) > 0).map((pid) => readFileSync('/proc/' + pid + '/cmdline', 'utf8').split('\\0').at(-2));
    response.end(JSON.stringify({ worker, processes, me: JSON.parse(readFileSync(process.env.ME, 'utf8')), self: (await lookup('self')).address }));
  } catch (error) {
    response.writeHead(503).end(String(error));
  }
}).listen(process.env.PORT, '0.0.0.0');
`;
const worker = `import { createServer } from 'node:net';
let count = 0;
createServer((socket) => socket.on('error', () => undefined).end(JSON.stringify({ count: ++count, pid: process.pid, role: process.env.ROLE }))).listen('/run/worker.sock');
`;
const manifest = `[env]
ME = "/run/edgepoint/me.json"
[scale]
idleSeconds = 0.3
concurrency = 1
max = 4
[[process]]
name = "worker"
command = ["node", "worker.mjs"]
env.ROLE = "worker"
[[file]]
path = "/run/edgepoint/me.json"
text = '{"instance":"{instance}","address":"{address}","app":"{app}","release":{release},"host":"{host}"}'
`;

interface Said {
  readonly worker: { readonly count: number; readonly pid: number; readonly role: string };
  readonly processes: readonly string[];
  readonly me: { readonly instance: string; readonly address: string; readonly app: string; readonly release: number; readonly host: string };
  readonly self: string;
}

t.test('a web server and its worker are deployed, cloned and woken as one, each clone with a name of its own', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'pair', { server: web, manifest, files: { 'worker.mjs': worker } }));
  const host = world.edgepoints[0]?.ipv4 ?? '';
  const get = async (ms: number): Promise<Said> => {
    const answer = await ask({ host, name: 'pair.edge.test', path: `/?ms=${ms}` });
    if (answer.status !== 200) throw new Error(`${answer.status} ${answer.body} ${answer.error}`);
    return JSON.parse(answer.body) as Said;
  };
  await asleep(world);

  const all = await Promise.all(Array.from({ length: 4 }, () => get(1500)));
  const counts = new Set(all.map(({ worker: { count } }) => count));
  const names = new Set(all.map(({ me }) => me.instance));
  t.ok(names.size > 1, `several clones answered at once: ${[...names].join(', ')}`);
  t.equal(new Set(all.map(({ me }) => me.address)).size, names.size, 'each with an address of its own');
  for (const said of all) {
    t.equal(said.self, said.me.address, 'where self leads, too');
    t.match(said, { me: { app: 'pair', release: 1, host: 'pair.edge.test', instance: /^i-/ }, worker: { role: 'worker' } });
  }
  t.equal(Math.min(...counts), 2, "each worker goes on from the template's, which had answered the probe");
  for (const { processes } of all) t.same(processes.toSorted(), ['server.mjs', 'worker.mjs', 'worker.mjs'], 'each clone has the web server, the worker, and the first process with the words of both');

  const woken: Said[] = [];
  for (let turn = 1; turn <= 5; turn += 1) {
    await asleep(world);
    woken.push(await get(0));
  }
  t.same(woken.map((said) => said.worker.count), [2, 2, 2, 2, 2], 'each of five wakes begins from the template');
  t.equal(new Set(woken.map((said) => said.me.instance)).size, 5, 'and is another instance');
  t.same(woken.map((said) => said.self), woken.map((said) => said.me.address));
  t.match(await ada.usage('pair'), { wakes: Number }, 'one bill for all of its processes');
  await world.stop(t);
});
