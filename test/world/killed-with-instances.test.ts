import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { bunPath, holdWorld, runProgram, runWorld } from './held-world.ts';
import { tracesOf } from './traces.ts';

const manifest = `app = "notes"
command = ["node", "server.js"]
port = 3000

[[volume]]
name = "store"
path = "/store"
sizeMegabytes = 8

[scale]
max = 1
idleSeconds = 600
`;
const server = `require('http').createServer((request, response) => {
  require('fs').appendFileSync('/store/log', request.url + '\\n');
  response.end('noted');
}).listen(3000);`;

t.test('a world killed while an instance with a volume serves is cleaned to the last loop device; one ended by a signal as well', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'edgepoint-notes-'));
  t.teardown(() => rmSync(home, { recursive: true, force: true }));
  const app = join(home, 'app');
  mkdirSync(app);
  writeFileSync(join(app, 'edgepoint.toml'), manifest);
  writeFileSync(join(app, 'server.js'), server);

  for (const end of ['SIGKILL', 'SIGTERM'] as const) {
    const world = await holdWorld();
    t.teardown(() => world.stop());
    const { id, conduitUrl, edgepoints } = world.description;
    const token = await world.call<string>('newProvider', { name: 'ada' });
    const conduit = (args: readonly string[]) => runProgram('env', [`HOME=${home}`, bunPath, join(import.meta.dirname, '../../conduit/cli/main.ts'), ...args]);
    const login = await conduit(['login', conduitUrl, '--token', token]);
    t.equal(login.exitCode, 0, login.stderr);
    const deployed = await conduit(['deploy', app]);
    t.equal(deployed.exitCode, 0, `${deployed.stdout}\n${deployed.stderr}`);

    const answers = await Promise.all(edgepoints.map((site) => world.call<{ stdout: string }>('runIn', { netns: site.netns, argv: ['curl', '-s', '-m', '20', '-H', 'Host: notes.edge.test', `http://${site.ipv4}/`] })));
    t.ok(answers.some((answer) => answer.stdout === 'noted'), JSON.stringify(answers));
    t.ok(tracesOf(id).some((trace) => trace.startsWith('loop ')), 'its volume is mounted through a loop device');

    const ended = new Promise((resolve) => world.process.once('exit', resolve));
    world.process.kill(end);
    await ended;
    if (end === 'SIGKILL') {
      const cleaned = await runWorld(['clean']);
      t.equal(cleaned.exitCode, 0, cleaned.stderr);
    } else {
      t.notMatch(world.said(), /was left/);
    }
    t.same(tracesOf(id), [], end);
  }
});
