import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { bunPath, holdWorld, runProgram } from './held-world.ts';
import { tracesOf } from './traces.ts';

const manifest = `app = "guestbook"
command = ["node", "server.js"]
port = 3000

[[volume]]
name = "store"
path = "/store"
sizeMegabytes = 8

[scale]
max = 1
idleSeconds = 1
`;
/** Answers how often it was asked, over all its lives. */
const server = `const fs = require('fs');
require('http').createServer((request, response) => {
  if (request.url === '/sign') fs.appendFileSync('/store/guests', 'x');
  response.end(String(fs.existsSync('/store/guests') ? fs.statSync('/store/guests').size : 0));
}).listen(3000);`;

t.test('with --data, accounts, apps, templates and volumes are there in the next world', async (t) => {
  const data = mkdtempSync('/var/tmp/edgepoint-kept-');
  const home = mkdtempSync('/var/tmp/edgepoint-home-');
  t.teardown(() => {
    rmSync(data, { recursive: true, force: true });
    rmSync(home, { recursive: true, force: true });
  });
  // mkdtemp makes it for its owner alone; the daemons' users must be able to walk through.
  const folder = join(data, 'edgepoint');
  await runProgram('chmod', ['755', data]);
  const app = join(home, 'app');
  mkdirSync(app);
  writeFileSync(join(app, 'edgepoint.toml'), manifest);
  writeFileSync(join(app, 'server.js'), server);
  const conduit = (args: readonly string[]) => runProgram('env', [`HOME=${home}`, bunPath, join(import.meta.dirname, '../../conduit/cli/main.ts'), ...args]);

  const first = await holdWorld(['--data', folder]);
  t.teardown(() => first.stop());
  const token = await first.call<string>('newProvider', { name: 'ada' });
  t.match(await conduit(['login', first.description.conduitUrl, '--token', token]), { exitCode: 0 });
  const deployed = await conduit(['deploy', app]);
  t.equal(deployed.exitCode, 0, `${deployed.stdout}\n${deployed.stderr}`);
  const sign = async (world: typeof first): Promise<string[]> =>
    Promise.all(
      world.description.edgepoints.map(async (site) => {
        const { stdout } = await world.call<{ stdout: string }>('runIn', { netns: site.netns, argv: ['curl', '-s', '-m', '20', '-H', 'Host: guestbook.edge.test', `http://${site.ipv4}/sign`] });
        return stdout;
      }),
    );
  const signed = await sign(first);
  t.ok(signed.includes('1'), `signed once: ${JSON.stringify(signed)}`);
  t.equal(await first.stop(), 0);
  t.same(tracesOf(first.description.id), []);
  t.ok(existsSync(join(folder, 'conduit/conduit.db')), 'the data is still there');

  const second = await holdWorld(['--data', folder]);
  t.teardown(() => second.stop());
  const login = await conduit(['login', second.description.conduitUrl, '--token', token]);
  t.equal(login.exitCode, 0, `the token still opens: ${login.stderr}`);
  const deadline = Date.now() + 20_000;
  let answers = await sign(second);
  // The edgepoint takes its wishes up again from the bus before it hosts the app.
  while (!answers.includes('2') && Date.now() < deadline) answers = await sign(second);
  t.ok(answers.includes('2'), `the volume remembers the first visit: ${JSON.stringify(answers)}`);
  const status = await conduit(['status', 'guestbook', '--json']);
  t.match(status.stdout, /"release":\s*1/, 'the same release, not a new one');
  t.equal(await second.stop(), 0);
  t.same(tracesOf(second.description.id), []);
});
