import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buckets, namesKey } from '../../kit/wire/subjects.ts';
import { siteA, siteB, until } from '../host/nats.ts';
import { appFolder, plainManifest, startConduit, startEdgepoint } from './rig.ts';

t.test('a provider logs in, deploys a folder, looks at it and deletes it', async (t) => {
  const world = await startConduit(t);
  const edgepoints = [await startEdgepoint(t, world.nats, siteA), await startEdgepoint(t, world.nats, siteB)] as const;
  const token = await world.token('ada');

  const login = await world.cli(['login', world.url, '--token', token]);
  t.equal(login.code, 0, login.stderr);
  t.match(login.stdout, /You are ada at http:.*; apps are named APP\.edge\.test/);
  const stored = join(world.folder, '.config/edgepoint/credentials.json');
  t.equal(statSync(stored).mode & 0o777, 0o600, 'the token is readable by nobody else');
  t.equal(JSON.parse(readFileSync(stored, 'utf8')).token, token);

  const folder = appFolder(t, plainManifest('hello'));
  const deploy = await world.cli(['deploy', folder]);
  t.equal(deploy.code, 0, deploy.stderr);
  t.match(deploy.stdout, /release 1 goes to north\/one, south\/two \(every edgepoint hosts it\)/);
  for (const place of ['north/one', 'south/two']) {
    t.match(deploy.stdout, new RegExp(`${place}  fetch .*fetched \\d+ bytes`));
    t.match(deploy.stdout, new RegExp(`${place}  boot +812 ms  the first instance listens`));
    t.match(deploy.stdout, new RegExp(`${place}: cold boot 812 ms, restore 23.4 ms, 34.7 times as fast`));
  }
  t.match(deploy.stdout, /ready: http:\/\/hello\.edge\.test\/\n$/);
  t.equal(deploy.stderr, '', 'no progress line without a terminal');

  const operator = await world.nats.bus('global-dispatcher');
  const names = JSON.parse((await operator.getKv(buckets.names, namesKey({ provider: 'ada', scope: 'main', app: 'hello' }))) ?? '{}');
  t.match(names, { v: '1.0', hosts: ['hello.edge.test'], sites: ['north.one', 'south.two'] });

  const list = await world.cli(['list', '--json']);
  t.match(JSON.parse(list.stdout), { provider: 'ada', apps: [{ app: 'hello', release: 1, condition: 'asleep', url: 'http://hello.edge.test/' }] });
  const status = await world.cli(['status', 'hello']);
  t.match(status.stdout, /hello {2}asleep/);
  t.match(status.stdout, /template: every wake begins from the release’s template/);
  t.match(status.stdout, /restore +23\.4 ms/);

  const again = await world.cli(['deploy', folder, '--json']);
  t.equal(again.code, 0, again.stderr);
  const lines = again.stdout.trim().split('\n').map((line) => JSON.parse(line));
  t.match(lines[0], { type: 'release', app: 'hello', release: 2 });
  t.match(lines.at(-1), { type: 'end', outcome: 'ready', sites: [{ outcome: 'ready', coldBootMs: 812, restoreMs: 23.4 }, { outcome: 'ready' }] });
  const [first, second] = [edgepoints[0].desired.get('hello'), edgepoints[1].desired.get('hello')];
  t.equal(first?.uidSlot, second?.uidSlot, 'an app has one uid slot everywhere');
  t.equal(first?.release, 2);

  const mistyped = await world.cli(['status', 'helo']);
  t.equal(mistyped.code, 5);
  t.match(mistyped.stderr, /you have no app named "helo"\n {2}Did you mean hello\?/);

  const unasked = await world.cli(['delete', 'hello']);
  t.equal(unasked.code, 2, 'without a terminal it does not guess');
  t.match(unasked.stderr, /there is no terminal to ask at\n {2}conduit delete hello --yes/);
  t.equal((await world.cli(['delete', 'hello', '--yes'])).code, 0);
  await until('both edgepoints are told to forget it', () => edgepoints.every((edgepoint) => edgepoint.desired.size === 0));
  await until('its name is gone', async () => (await operator.getKv(buckets.names, 'ada.main.hello')) === null);
  t.match(JSON.parse((await world.cli(['list', '--json'])).stdout), { apps: [] });
  const reborn = await world.cli(['deploy', folder, '--no-watch', '--json']);
  t.match(JSON.parse(reborn.stdout), { release: 3 }, 'an app of the same name counts on, so that nothing left of the old one is taken for it');
  t.equal(await world.kill('SIGTERM'), 0, 'it ends cleanly');
});
