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

t.test('each daemon that is killed is started again at once', async (t) => {
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
