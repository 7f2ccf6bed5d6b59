import t from 'tap';
import { ask, instanceProcesses, openFaultWorld, until, writeApp } from './faults/fault-world.ts';
import { startProber } from './faults/prober.ts';
import { runWorld } from './held-world.ts';

const steady = 'steady.edge.test';
const sleepy = 'sleepy.edge.test';
const lanes = [
  ...(['kept', 'fresh'] as const).flatMap((connection) => (['GET', 'POST'] as const).map((method) => ({ name: steady, connection, method, pauseMs: 10 }))),
  // Longer than it stays awake: most of these are wakes.
  { name: sleepy, connection: 'kept', method: 'GET', pauseMs: 450 },
  { name: sleepy, connection: 'fresh', method: 'GET', pauseMs: 350 },
] as const;

t.setTimeout(600_000); // twice twelve starts, on whatever machine

t.test('all daemons are replaced in place under requests: none is lost, and instances live on', async (t) => {
  const world = await openFaultWorld(t);
  const [site] = world.edgepoints;
  if (site === undefined) throw new Error('a world without an edgepoint');
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'steady', { manifest: '[scale]\nmin = 1\nmax = 1\nconcurrency = 1000\n' }));
  await ada.deploy(writeApp(world.folder, 'sleepy', { manifest: '[scale]\nidleSeconds = 0.2\nconcurrency = 1\nmax = 3\n' }));
  await until('the app that stays awake is awake', () => instanceProcesses(world.id, site.edgepoint).length > 0);
  const born = (await ask({ host: site.ipv4, name: steady, path: '/' })).body;
  const before = await world.daemons();
  const prober = startProber(site.ipv4, 'upgrade', lanes);
  t.teardown(() => prober.stop());
  await until('requests are answered', () => prober.probes.length > 200);

  for (const round of ['once', 'and once more']) {
    const from = prober.probes.length;
    const fromMs = performance.now();
    const upgraded = await runWorld(['upgrade', '--world', world.id, '--no-set-up']);
    t.equal(upgraded.exitCode, 0, `${round}: ${upgraded.stderr}`);
    t.match(upgraded.stdout, new RegExp(`all ${Object.keys(before).length} daemons run what lies in this clone`));
    const answered = prober.probes.length;
    await until('requests go on', () => prober.probes.length > answered + 100);
    const lost = prober.probes.slice(from).filter(({ endedMs, status }) => endedMs !== 0 && status !== 200);
    t.same(lost.map(({ name, connection, method, status, error, reused }) => `${name} ${connection} ${method} ${status} ${error} ${reused}`), [], `${round}: of ${prober.probes.length - from} requests none was lost`);
    t.comment(`${round}: ${Object.keys(before).length} daemons in ${((performance.now() - fromMs) / 1000).toFixed(1)} s, ${prober.probes.length - from} requests`);
  }
  await prober.stop();
  const now = await world.daemons();
  t.same(Object.keys(now).filter((name) => now[name] === before[name]), [], 'each is another process');
  t.equal((await ask({ host: site.ipv4, name: steady, path: '/' })).body, born, 'the instance that was awake lives on');
  const noted = JSON.parse((await ask({ host: site.ipv4, name: steady, path: '/noted' })).body) as { ids: number; twice: string[] };
  t.same(noted.twice, [], `none of ${noted.ids} was done twice`);
  t.match(world.held.said(), /^(?!.*did not end within)/s);
  t.match(await runWorld(['upgrade', '--world', 'zzzz', '--no-set-up']), { exitCode: 1, stderr: /World zzzz is not up/ });
  await world.stop(t);
});
