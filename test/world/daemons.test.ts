import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import type { WorldDescription } from '../../world/start.ts';
import { holdWorld } from './held-world.ts';

async function until<T>(look: () => Promise<T | null>, what: string, deadlineMs = 10_000): Promise<T> {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (Date.now() > deadline) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The status of its health page, or null while nothing answers there. */
function health(runFolder: string, name: string): Promise<number | null> {
  return new Promise((resolve) => {
    request({ socketPath: join(runFolder, 'daemons', name, 'health.sock'), path: '/healthz', timeout: 2_000 }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? null);
    })
      .once('error', () => resolve(null))
      .end();
  });
}

function accepts(host: string, port: number): Promise<true | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port }).once('error', () => resolve(null));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

t.test('each daemon that is killed is started again at once, and is healthy again', async (t) => {
  const world = await holdWorld();
  t.teardown(() => world.stop());
  for (const [name, pid] of Object.entries(world.description.daemons)) {
    const killedMs = Date.now();
    t.equal(await world.call('kill', { name, signal: 'SIGKILL' }), true, name);
    const newPid = await until(async () => {
      const now = (await world.call<WorldDescription>('describe')).daemons[name];
      return now === undefined || now === pid ? null : now;
    }, `${name} runs again`);
    t.not(newPid, pid);
    t.ok(Date.now() - killedMs < 1000, `${name} was away for ${Date.now() - killedMs} ms`);
    const { runFolder, natsUrl } = world.description;
    if (name === 'nats-server') await until(() => accepts(new URL(natsUrl).hostname, 4222), 'nats-server takes connections again');
    else await until(async () => ((await health(runFolder, name)) === 200 ? true : null), `${name} is healthy again`, 15_000);
  }
  t.match(world.said(), /is started again in 10 ms/);
  t.equal(await world.stop(), 0);
});

t.test('a connection to an edgepoint waits in the queue while no dispatcher runs', async (t) => {
  const world = await holdWorld();
  t.teardown(() => world.stop());
  const { absent, edgepoints } = world.description;
  const site = edgepoints[0];
  if (site === undefined || absent.includes(`${site.edgepoint}-dispatcher`)) return void t.pass('no dispatcher in this clone');
  await world.call('kill', { name: `${site.edgepoint}-dispatcher`, signal: 'SIGKILL' });
  const ran = await world.call<{ exitCode: number; stdout: string; stderr: string }>('runIn', {
    netns: site.netns,
    argv: ['curl', '--silent', '--show-error', '--max-time', '5', '--output', '/dev/null', '--write-out', '%{http_code}', `http://${site.ipv4}/`],
  });
  t.equal(ran.exitCode, 0, ran.stderr);
  t.match(ran.stdout, /^[1-5]\d\d$/);
});
