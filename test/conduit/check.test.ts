import { readdirSync } from 'node:fs';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { checkUidSlots } from '../../kit/wire/check.ts';
import { artefactBucket, checkObject } from '../../kit/wire/subjects.ts';
import { siteA, siteB, until } from '../host/nats.ts';
import { appFolder, bun, plainManifest, root, startConduit, startEdgepoint } from './rig.ts';
import type { ConduitWorld, FakeEdgepoint } from './rig.ts';

/** The command while it runs; killed when the test ends. */
function begin(t: Test, world: ConduitWorld, token: string, folder: string): ChildProcess {
  const child = spawn(bun, [join(root, 'conduit/cli/main.ts'), 'check', folder], { stdio: 'ignore', env: { PATH: process.env['PATH'] ?? '', HOME: world.folder, CONDUIT_URL: world.url, CONDUIT_TOKEN: token } });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

/** Nothing of any check is left: not at the edgepoint, in the object store, or on the conduit's disk. */
async function nothingLeft(world: ConduitWorld, edgepoints: readonly FakeEdgepoint[], provider: string): Promise<void> {
  const bus = await world.nats.bus('conduit');
  await until('no check is wished any more', () => edgepoints.every((edgepoint) => edgepoint.checks.size === 0));
  for (const { site } of edgepoints) {
    for (const place of [1, 2]) await until(`object ${place} is gone`, async () => (await bus.getObject(artefactBucket(site), checkObject(provider, place))) === null);
  }
  await until('no upload is left', () => readdirSync(world.uploadFolder).every((name) => !name.endsWith('.part')) && readdirSync(join(world.uploadFolder, 'artefacts')).length === 0);
}

t.test('a folder is checked by one edgepoint, reported, and forgotten', async (t) => {
  const world = await startConduit(t);
  const edgepoints = [await startEdgepoint(t, world.nats, siteA), await startEdgepoint(t, world.nats, siteB)];
  const [token, other] = [await world.token('ada'), await world.token('eve')];
  await until('the conduit hears of both', async () => (await world.cli(['check', appFolder(t, plainManifest('first'))], { token })).code === 0);

  const folder = appFolder(t, plainManifest('hello'));
  const told = await world.cli(['check', folder], { token });
  t.equal(told.code, 0, told.stderr);
  t.match(told.stdout, /(north\/one|south\/two) prepares it \(the least loaded of those that would host it\); nothing of it stays/);
  t.match(told.stdout, /fetch +fetched \d+ bytes/);
  t.match(told.stdout, /can be snapshotted +yes\n.*can be cloned +yes\n.*image +11\.4 MiB, taken in 20\.5 ms.*\n.*cold boot +812 ms\n.*restore +23\.4 ms \(34\.7 times as fast\)\n.*memory of a copy +28\.6 MiB\n.*it is woken +restored from the template.*\n.*warning +mind this\nchecked: /);
  await nothingLeft(world, edgepoints, 'ada');
  t.match(JSON.parse((await world.cli(['list', '--json'], { token })).stdout), { apps: [] }, 'it is no app');
  t.equal((await world.cli(['deploy', appFolder(t, plainManifest('hello'))], { token: other })).code, 0, 'its name is still free');

  const json = await world.cli(['check', appFolder(t, plainManifest('holder', 'env.HOLDS = "ring"\n')), '--json'], { token });
  t.equal(json.code, 7, 'it would serve, but cannot be snapshotted');
  const lines = json.stdout.trim().split('\n').map((line) => JSON.parse(line));
  t.match(lines[0], { type: 'check', check: { app: 'holder', release: 1 } });
  t.match(lines.at(-1), { type: 'end', outcome: 'ready', report: { canSnapshot: { can: false, code: 'uses-io-uring' }, wakeBy: 'cold', restoreMs: null } });
  t.match(JSON.parse(json.stderr), { code: 'cannot-be-snapshotted', message: /holds an io_uring/, remedy: 'Run it without.' });

  const taken = await world.cli(['check', folder], { token });
  t.equal(taken.code, 4);
  t.match(taken.stderr, /the name "hello" is taken by another provider/);
  const wrong = await world.cli(['check', appFolder(t, 'app = "hello"\ncomand = ["node"]\nport = 3000\n')], { token });
  t.equal(wrong.code, 4);
  t.match(wrong.stderr, /edgepoint\.toml:2: unknown key `comand`/, 'what the folder alone can say is said before anything is sent');
  const slots = edgepoints.flatMap((edgepoint) => edgepoint.checksSeen.map((check) => check.uidSlot));
  t.equal(new Set(slots).size, slots.length, 'no two checks have one uid slot');
  t.ok(slots.every((slot) => slot >= checkUidSlots.first && slot <= checkUidSlots.last), 'nor one of an app');
});

t.test('a check lives as long as somebody waits for it, and so many at once', async (t) => {
  const world = await startConduit(t, { checkSeconds: 4 });
  const edgepoint = await startEdgepoint(t, world.nats, siteA, { silent: true });
  const token = await world.token('ada');
  const late = await untilChecked(world, token, appFolder(t, plainManifest('late')));
  t.equal(late.code, 1);
  t.match(late.stderr, /it took too long and was broken off/);
  await nothingLeft(world, [edgepoint], 'ada');

  const folders = ['one', 'two', 'three'].map((app) => appFolder(t, plainManifest(app)));
  const [one, two] = [begin(t, world, token, folders[0] as string), begin(t, world, token, folders[1] as string)];
  await until('both are under way', () => edgepoint.checks.size === 2);
  const third = await world.cli(['check', folders[2] as string], { token });
  t.equal(third.code, 6);
  t.match(third.stderr, /2 checks of yours are under way already/);
  one.kill('SIGKILL');
  await until('the one whose client has gone is taken back', () => edgepoint.checks.size === 1);
  two.kill('SIGINT');
  await nothingLeft(world, [edgepoint], 'ada');
});

t.test('a conduit that is killed in the middle of a check takes it back at its next start', async (t) => {
  const world = await startConduit(t);
  const edgepoint = await startEdgepoint(t, world.nats, siteA, { silent: true });
  const token = await world.token('ada');
  const child = await untilUnderWay(t, world, edgepoint, token);
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await world.kill('SIGKILL');
  t.equal(edgepoint.checks.size, 1, 'it is left');
  t.equal(await ended, 6, 'the command says that the conduit has gone');
  await world.start();
  await nothingLeft(world, [edgepoint], 'ada');
});

/** Until the edgepoint's first heartbeat has come there is no edgepoint to check at. */
async function untilChecked(world: ConduitWorld, token: string, folder: string): ReturnType<ConduitWorld['cli']> {
  let told = await world.cli(['check', folder], { token });
  for (let tries = 0; tries < 20 && /no edgepoint/.test(told.stderr); tries += 1) told = await world.cli(['check', folder], { token });
  return told;
}

async function untilUnderWay(t: Test, world: ConduitWorld, edgepoint: FakeEdgepoint, token: string): Promise<ChildProcess> {
  const folder = appFolder(t, plainManifest('shop'));
  let child = begin(t, world, token, folder);
  await until('a check is under way', () => {
    if (child.exitCode !== null) child = begin(t, world, token, folder);
    return edgepoint.checks.size === 1;
  }, 15_000);
  return child;
}

t.test('a conduit that has just begun hears its edgepoints before it says that there is none', async (t) => {
  const world = await startConduit(t);
  const token = await world.token('ada');
  const folder = appFolder(t, plainManifest('hello'));
  t.match(await world.cli(['check', folder], { token }), { code: 1, stderr: /no edgepoint that could host it is reachable/ }, 'where there is none it does say so');
  await startEdgepoint(t, world.nats, siteA, { beatMs: 2000 });
  await until('it has been heard', async () => (await world.cli(['check', folder], { token })).code === 0);
  for (let time = 0; time < 3; time += 1) {
    await world.kill('SIGKILL');
    await world.start();
    const told = await world.cli(['check', folder], { token });
    t.equal(told.code, 0, told.stderr);
  }
});
