import { readFileSync } from 'node:fs';
import t from 'tap';
import type { BootOrder, RunningInstance } from '../../edgepoint/model/calls.ts';
import { makeArtefact, server } from './app.ts';
import { openEngine, until } from './engine.ts';
import type { Engine } from './engine.ts';

/** Counts in its own memory; asked over a unix socket. Says on SIGTERM that it heard it. */
const worker = `
let count = 0;
require('net').createServer((socket) => {
  socket.on('error', () => {});
  socket.on('data', (text) => {
    if (String(text) === 'end') process.exit(3);
    count += 1;
    socket.end(JSON.stringify({ count, pid: process.pid, colour: process.env.COLOUR, port: process.env.PORT ?? 'none', shared: process.env.SHARED }));
  });
}).listen('/run/worker.sock');
process.on('SIGTERM', () => { console.log('worker heard SIGTERM'); setTimeout(() => process.exit(0), 1000); });
`;
const processes: BootOrder['processes'] = [
  { name: 'worker', command: ['node', 'worker.js'], env: { COLOUR: 'red' }, mustLive: true },
  { name: 'once', command: ['sh', '-c', 'sleep 0.1; exit 4'], env: {}, mustLive: false },
];
const askWorker = (word = 'count'): string =>
  `return new Promise((resolve, reject) => { const socket = require('net').connect('/run/worker.sock'); socket.on('error', reject); socket.write('${word}'); socket.on('data', (text) => resolve(JSON.parse(text))); socket.on('close', () => resolve(null)); })`;

const logOf = (engine: Engine, instance: RunningInstance): string => readFileSync(engine.place.path(instance.logPath), 'utf8');

/** The web server listens before the worker may: asks until there is an answer. */
async function workerAnswers(engine: Engine, instance: RunningInstance): Promise<{ count: number; pid: number; colour: string; port: string; shared: string }> {
  return until('the worker answers', () => engine.run(instance, askWorker()).catch(() => null)) as ReturnType<typeof workerAnswers>;
}

t.test('several processes live, sleep, wake and are cloned as one instance', async (t) => {
  const engine = await openEngine(t);
  const artefactPath = makeArtefact(engine.folder, 'chain', { 'server.js': server, 'worker.js': worker });
  const chain = (name: string, change: Partial<BootOrder> = {}): BootOrder => engine.order(name, { artefactPath, processes, env: { PORT: '8080', SHARED: 'yes' }, ...change });
  const first = await engine.boot(chain('first'));
  t.match(await workerAnswers(engine, first), { count: 1, colour: 'red', port: 'none', shared: 'yes' }, 'the worker has the variables of the instance but PORT, and its own');
  await until('one that may end has ended, and the others have not', () => logOf(engine, first).includes('process once ended with status 4'));
  t.match(await engine.run(first, 'return [process.pid > 1, process.ppid, process.env.PORT]'), [true, 1, '8080']);
  await engine.run(first, `require('child_process').spawn('sh', ['-c', 'sleep 0.05 & exit']); await new Promise((resolve) => setTimeout(resolve, 300))`);
  t.same(await engine.run(first, `const fs = require('fs'); return fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name) && / Z /.test(fs.readFileSync('/proc/' + name + '/stat', 'utf8')))`), [], 'whoever has lost its parent is waited for');

  const path = engine.snapshotPath('chain');
  await engine.snapshot('first', path, true);
  const clones = await Promise.all([1, 2, 3].map((n) => engine.restore({ ...chain(`clone${n}`), snapshotPath: path, continues: false })));
  for (const clone of clones) t.match(await workerAnswers(engine, clone), { count: 2 }, 'each clone has a worker of its own, as the template was');
  await Promise.all([first, ...clones].map(({ instance }) => engine.stop(instance)));
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('it sleeps and wakes five times, and ends with whoever must live', async (t) => {
  const engine = await openEngine(t);
  const artefactPath = makeArtefact(engine.folder, 'chain', { 'server.js': server, 'worker.js': worker });
  const order = engine.order('kept', { artefactPath, processes, ownNetwork: true });
  let running = await engine.boot(order);
  await workerAnswers(engine, running);
  for (let turn = 1; turn <= 5; turn += 1) {
    const path = engine.snapshotPath(`turn${turn}`);
    await engine.snapshot('kept', path, false);
    await until('it sleeps', () => engine.exits.length === turn);
    running = await engine.restore({ ...order, address: running.address, snapshotPath: path, continues: true });
    t.equal(await engine.run(running, 'return ++state.count'), turn, `wake ${turn}: the web server's memory goes on`);
    t.equal((await workerAnswers(engine, running)).count, turn + 1, `wake ${turn}: and the worker's`);
  }
  const fromMs = Date.now();
  await engine.run(running, `setTimeout(() => { ${askWorker('end')} }, 20)`);
  await until('the instance ends with its worker', () => engine.exits.length === 6);
  t.match(engine.exits[5], { instance: 'kept', status: 'ended' });
  t.ok(Date.now() - fromMs < 5000, 'its web server, which has no handler for SIGTERM, is ended by it');

  const polite = await engine.boot(engine.order('polite', { artefactPath, processes }));
  await workerAnswers(engine, polite);
  const log = engine.place.path(polite.logPath);
  const stopped = engine.stop('polite', 4000);
  let heard = '';
  await until('SIGTERM is handed on', () => {
    try {
      heard = readFileSync(log, 'utf8');
    } catch {
      // Its disk has gone; what it wrote before was read.
    }
    return heard.includes('worker heard SIGTERM');
  });
  await stopped;

  await engine.boot(engine.order('wrong', { artefactPath, processes: [{ name: 'typo', command: ['no-such-program'], env: {}, mustLive: true }] }));
  await until('it ends', () => engine.exits.some(({ instance, status }) => instance === 'wrong' && status === 'ended'));
  await engine.nothingRemains(t, 'nothing is left');
});
