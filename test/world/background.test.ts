import t from 'tap';
import { ask, instanceProcesses, openFaultWorld, printTable, until, writeApp } from './faults/fault-world.ts';
import type { Provider } from './faults/fault-world.ts';

t.setTimeout(300_000);

/**
 * GET /compute?seconds=N and /send?seconds=N are answered at once, and done afterwards; its log says what is done. It computes by
 * the clock of its own processor time, so that a busy machine makes it take longer and not do less.
 */
const server = `import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';
const compute = (seconds, from = process.cpuUsage()) => {
  const used = () => { const { user, system } = process.cpuUsage(from); return (user + system) / 1e6; };
  const step = () => {
    const until = used() + 0.05;
    while (used() < until);
    if (used() < seconds) setTimeout(step, 20);
    else console.log('it has computed');
  };
  step();
};
/** To an address that nobody has: what counts is what leaves. */
const sendFor = (socket, untilMs) => {
  if (Date.now() > untilMs) return console.log('it has sent');
  for (let count = 0; count < 4; count += 1) socket.send(Buffer.alloc(1200), 9, '203.0.113.9', () => undefined);
  setTimeout(sendFor, 50, socket, untilMs);
};
createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://self');
  const seconds = Number(searchParams.get('seconds'));
  if (pathname === '/compute') setTimeout(compute, 50, seconds);
  if (pathname === '/send') setTimeout(sendFor, 50, createSocket('udp4').on('error', () => undefined), Date.now() + seconds * 1000);
  response.end();
}).listen(process.env.PORT, '0.0.0.0');
`;

const reasonOf = async (ada: Provider, app: string): Promise<string> => (await ada.status(app)).sites.map(({ state }) => state?.reason ?? '').join('');

t.test('an app that goes on working after its answer', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  const address = world.edgepoints[0]?.ipv4 ?? '';
  const rows: string[][] = [];
  const deploy = (app: string, scale: string): Promise<void> => ada.deploy(writeApp(world.folder, app, { server, manifest: `[scale]\nidleSeconds = 1\n${scale}` }));
  const to = (app: string, path: string) => ask({ host: address, name: `${app}.edge.test`, path });
  await deploy('patient', 'backgroundSeconds = 600\n');
  await deploy('hasty', '');
  await deploy('bounded', 'backgroundSeconds = 4\n');
  const says = async (app: string, text: string): Promise<boolean> => (await ada.conduit(['logs', app])).stdout.includes(text);
  /** The log of what has ended may come a moment later. */
  const hasDone = (app: string, text: string): Promise<void> => until(`${app} says: ${text}`, () => says(app, text), 200_000);
  /** Milliseconds from its answer until nothing of it runs. */
  const asleepAfterMs = async (): Promise<number> => {
    const fromMs = performance.now();
    await until('nothing of it runs', () => instanceProcesses(world.id).length === 0, 120_000);
    return performance.now() - fromMs;
  };

  await t.test('has the time for it that its manifest gives, and then sleeps', async (t) => {
    const fromMs = performance.now();
    t.equal((await to('patient', '/compute?seconds=2')).status, 200);
    await until('status says why it is awake', async () => (await reasonOf(ada, 'patient')).startsWith('it goes on computing, and may for 600 s'));
    t.match((await ada.conduit(['status', 'patient'])).stdout, /awake +it goes on computing/);
    await hasDone('patient', 'it has computed');
    await asleepAfterMs();
    const tookMs = performance.now() - fromMs;
    rows.push(['computes for 2 s, may for 600', `${(tookMs / 1000).toFixed(1)} s`]);
    await until('asleep, it says nothing', async () => (await reasonOf(ada, 'patient')) === '');
  });

  await t.test('does not without that: what it did ends with its sleep', async (t) => {
    t.equal((await to('hasty', '/compute?seconds=60')).status, 200);
    const tookMs = await asleepAfterMs();
    rows.push(['computes for 60 s, no word of it', `${(tookMs / 1000).toFixed(1)} s`]);
    t.notOk(await says('hasty', 'it has computed'), 'it was not done');
  });

  await t.test('sleeps in the end although it never rests', async (t) => {
    t.equal((await to('bounded', '/compute?seconds=600')).status, 200);
    const tookMs = await asleepAfterMs();
    rows.push(['computes for ever, may for 4', `${(tookMs / 1000).toFixed(1)} s`]);
    t.ok(tookMs > 3000, `${tookMs} ms are more than its idle time`);
    t.notOk(await says('bounded', 'it has computed'), 'it was not done');
  });

  await t.test('by what it sends, too', async (t) => {
    const fromMs = performance.now();
    t.equal((await to('patient', '/send?seconds=6')).status, 200);
    await until('status says why it is awake', async () => (await reasonOf(ada, 'patient')).startsWith('it goes on sending or receiving, and may for 600 s'));
    await asleepAfterMs();
    const tookMs = performance.now() - fromMs;
    rows.push(['sends for 6 s, may for 600', `${(tookMs / 1000).toFixed(1)} s`]);
    await hasDone('patient', 'it has sent');
  });
  printTable(t, ['after its answer it', 'slept after'], rows);
  await world.stop(t);
});
