import t from 'tap';
import type { AccessesAnswer } from '../../conduit/api/answers.ts';
import { ask, asleep, instanceProcesses, openFaultWorld, until, writeApp } from './faults/fault-world.ts';
import { begin, isReady, run, sessionsLeft, sleeps } from './session-client.ts';

t.setTimeout(600_000); // deploys, and daemons that are killed, on whatever machine

t.test('a command in an instance of its own', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  const server = `import { createServer } from 'node:http';
createServer((request, response) => response.end(process.env.EDGEPOINT_INSTANCE)).listen(3000, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
`;
  await ada.deploy(writeApp(world.folder, 'jobs', { server, manifest: 'env = { COLOUR = "blue" }\n[scale]\nidleSeconds = 1' }));
  t.equal((await run(t, world, ada, ['secrets', 'set', 'PASS', '--app', 'jobs'], 'xyzzy')).exitCode, 0);
  await asleep(world);

  await t.test('it has the release, the variables and the files of the app, and nothing else runs in it', async (t) => {
    const ran = await run(t, world, ada, ['run', 'jobs', '--', 'sh', '-c', 'pwd; ls server.mjs; echo $COLOUR $PASS; cat /run/secrets/PASS; echo; cat; cat /proc/[0-9]*/comm | sort | tr "\\n" " "; echo oops >&2; exit 5'], 'given\n');
    t.match(ran.text, /^\/app\nserver\.mjs\nblue xyzzy\nxyzzy\ngiven\n/);
    t.notMatch(ran.text, /node/, 'the app’s own command does not run');
    t.equal(ran.stderr, 'oops\n');
    t.equal(ran.exitCode, 5);
    await asleep(world);
  });

  await t.test('it gets no request, and is another than the one that serves', async (t) => {
    const job = begin(t, world, ada, ['run', 'jobs', '--', 'sh', '-c', 'echo $EDGEPOINT_INSTANCE; node server.mjs & cat']);
    await until(() => `it has begun: ${job.stderr()}`, () => job.stdout().includes('\n'), 60_000);
    t.match(job.stdout(), /^r-/);
    const { accesses } = await ada.json<AccessesAnswer>(['audit', 'jobs']);
    const place = world.edgepoints.find(({ zone, edgepoint }) => accesses[0]?.edgepoint === `${zone}/${edgepoint}`);
    for (let times = 0; times < 5; times += 1) t.notMatch((await ask({ host: place?.ipv4 ?? '', name: 'jobs.edge.test', path: '/' })).body, /^r-|^$/);
    job.child.stdin.end();
    t.equal((await job.ended).exitCode, 0);
    await asleep(world);
  });

  await t.test('it is removed whatever happens', async (t) => {
    const timedOut = await run(t, world, ada, ['run', 'jobs', '--timeout', '2', '--', 'sleep', '4326']);
    t.match(timedOut, { exitCode: 255, stderr: /not ended within 2 s/ });
    await asleep(world);
    const killed = begin(t, world, ada, ['run', 'jobs', '--', 'sh', '-c', 'sleep 4327 & echo begun; wait']);
    await until(() => `it has begun: ${killed.stderr()}`, () => killed.stdout() === 'begun\n', 60_000);
    killed.child.kill('SIGKILL');
    await asleep(world);
    for (const name of ['conduit', 'head', 'restored']) {
      await isReady(ada, 'jobs');
      const job = begin(t, world, ada, ['run', 'jobs', '--at', world.edgepoints[0]?.edgepoint ?? '', '--', 'sh', '-c', 'sleep 4328 & echo begun; wait']);
      await until(() => `it has begun: ${job.stderr()}`, () => job.stdout() === 'begun\n', 60_000);
      await world.kill(name === 'conduit' ? name : `${world.edgepoints[0]?.edgepoint}-${name}`, 'SIGKILL');
      t.ok([255, 137].includes((await job.ended).exitCode ?? 0), name);
      await world.allHealthy(60_000);
      await until('nothing of it is left', () => sleeps(world).length === 0 && instanceProcesses(world.id).length === 0, 120_000);
    }
  });

  await t.test('what it used is billed, and what it was is written down', async (t) => {
    await isReady(ada, 'jobs');
    const before = (await ada.usage('jobs'))?.cpuNs ?? 0;
    t.equal((await run(t, world, ada, ['run', 'jobs', '--', 'node', '-e', 'while (process.cpuUsage().user < 500_000);'])).exitCode, 0);
    await until('its processor time is there', async () => Number((await ada.usage('jobs'))?.cpuNs ?? 0) - before >= 500_000_000, 60_000);
    const { accesses } = await ada.json<AccessesAnswer>(['audit', 'jobs']);
    t.match(accesses[0], { kind: 'run', instance: /^r-/, exitStatus: 0, code: '' });
    t.ok(accesses.some(({ kind, code }) => kind === 'run' && code === 'run-timeout'));
  });

  await t.test('a volume with one writer has one', async (t) => {
    await ada.deploy(writeApp(world.folder, 'books', { manifest: '[scale]\nidleSeconds = 1\n[[volume]]\nname = "data"\npath = "/data"\nsizeMegabytes = 16' }));
    t.match(await run(t, world, ada, ['run', 'books', '--', 'true']), { exitCode: 255, stderr: /one writer at a time/ });
    t.match(await run(t, world, ada, ['ssh', 'books', '--', 'sh', '-c', 'echo kept > /data/note; cat /data/note']), { exitCode: 0, text: 'kept\n' });
    await asleep(world);
  });

  t.match(await run(t, world, ada, ['run', 'jobs', '--timeout', '0', '--', 'true']), { exitCode: 255 });
  t.match(await run(t, world, ada, ['run', 'jobs']), { exitCode: 255 });
  t.same(sessionsLeft(world), []);
  await world.stop(t);
});
