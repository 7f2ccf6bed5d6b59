import { createServer } from 'node:net';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { holdWorld, runWorld } from './held-world.ts';
import { tracesOf } from './traces.ts';

/** A port where nothing listens refuses, which also proves that the machine behind the address answers. */
const knock = `require('net').connect({ host: process.argv[1], port: 53, timeout: 2000 })
  .on('connect', () => { process.stdout.write('connected'); process.exit() })
  .on('error', (error) => { process.stdout.write(error.code); process.exit() })
  .on('timeout', () => { process.stdout.write('nothing'); process.exit() })`;

t.test('a world comes up, its parts run with their rights, and after SIGTERM nothing of it is left', async (t) => {
  const world = await holdWorld();
  t.teardown(() => world.stop());
  const { id, conduitUrl, daemons, runFolder, edgepoints, dnsAddresses, dataFolder } = world.description;
  t.match(id, /^[0-9a-z]{4}$/);
  t.ok(tracesOf(id).length > 5, 'while it is up, its traces are seen');

  await t.test('the conduit answers on the port it was given, with its page', async (t) => {
    const answer = await fetch(conduitUrl);
    t.equal(answer.status, 200);
    t.match(await answer.text(), /<form method="post" action="\/sign-in">/, 'made as a page, not as an object');
  });
  await t.test('daemons that need no root have none: no capability, none to be had, and no way to gain one', async (t) => {
    for (const name of ['nats-server', 'conduit', 'metering', 'global-dispatcher']) {
      const status = readFileSync(`/proc/${daemons[name]}/status`, 'utf8');
      t.match(status, /^Uid:\s+647\d\d\s+647\d\d\s+647\d\d/m, `${name} has a user of its own`);
      for (const set of ['CapPrm', 'CapEff', 'CapInh', 'CapBnd', 'CapAmb']) t.match(status, new RegExp(`^${set}:\\s+0+$`, 'm'), `${name} ${set}`);
      t.match(status, /^NoNewPrivs:\s+1$/m, name);
    }
  });
  await t.test('a seed is readable for its daemon alone', async (t) => {
    for (const name of ['conduit', 'metering', 'global-dispatcher']) {
      const stat = statSync(join(runFolder, 'daemons', name, 'bus.seed'));
      t.equal(stat.mode & 0o777, 0o600, name);
      t.match(readFileSync(`/proc/${daemons[name]}/status`, 'utf8'), new RegExp(`^Uid:\\s+${stat.uid}\\s`, 'm'), name);
    }
  });
  await t.test('each part is reached over IPv4 and IPv6 from an end user’s namespace at once', async (t) => {
    const client = await world.call<{ netns: string; ipv4: string }>('addClient', { name: 'ada', place: 'berlin' });
    for (const address of [...dnsAddresses, ...edgepoints.flatMap((site) => [site.ipv4, site.ipv6])]) {
      const ran = await world.call<{ stdout: string }>('runIn', { netns: client.netns, argv: [process.execPath, '-e', knock, address] });
      t.match(ran.stdout, /^(connected|ECONNREFUSED)$/, `${address} is there`);
    }
  });
  await t.test('the repository is bound where its daemons reach it, and cannot be written through it', async (t) => {
    t.ok(existsSync(join(runFolder, 'repository/world.ts')));
    const mount = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').find((line) => line.includes(` ${runFolder}/repository `));
    t.match(mount, / ro,/);
  });

  t.equal(await world.stop(), 0, `it ends well; it said: ${world.said()}`);
  t.notMatch(world.said(), /was left/, 'every daemon removed its own things');
  t.same(tracesOf(id), []);
  t.notOk(existsSync(dataFolder));
});

t.test('closing its stdin ends a held world too', async (t) => {
  const world = await holdWorld();
  t.teardown(() => world.stop());
  const ended = new Promise((resolve) => world.process.once('exit', resolve));
  world.process.stdin?.end();
  t.equal(await ended, 0);
  t.same(tracesOf(world.description.id), []);
});

t.test('a port in use is told with what to do, and nothing is made', async (t) => {
  const server = createServer();
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const ran = await runWorld(['up', '--world', 'pt00', '--port', String(port)]);
  t.equal(ran.exitCode, 1);
  t.match(ran.stderr, `Port ${port} on 127.0.0.1`);
  t.match(ran.stderr, /What to do: .*--port 0/);
  t.same(tracesOf('pt00'), []);
});

t.test('options that make no sense are refused in a sentence', async (t) => {
  t.match(await runWorld(['up', '--world', 'Nö']), { exitCode: 1, stderr: /no id of a world.*\n.*four characters/ });
  t.match(await runWorld(['up', '--port', '70000']), { exitCode: 1, stderr: /from 0 to 65535/ });
  t.match(await runWorld(['up', '--data', '/root/somewhere', '--port', '0']), { exitCode: 1, stderr: /\/root is closed to other users/ });
  t.match(await runWorld(['up', '--data', '/var/lib/edgepoint/worlds/mine', '--port', '0']), { exitCode: 1, stderr: /is temporary/ });
  t.match(await runWorld(['--help']), { exitCode: 0, stdout: /--once[\s\S]*clean/ });
});
