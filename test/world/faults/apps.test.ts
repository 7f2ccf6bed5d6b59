import { existsSync, readdirSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { AppState } from '../../../kit/wire/edgepoint-state.ts';
import { ask, asleep, openFaultWorld, runCommand, until, writeApp } from './fault-world.ts';
import type { FaultWorld, Provider, Ran } from './fault-world.ts';

/** Faults of apps and of providers, through the real command line, in one world. */

interface Fault {
  readonly title: string;
  readonly app: string;
  readonly server?: string;
  readonly command?: readonly string[];
  readonly manifest?: string;
  readonly code: string;
  /** What the provider must be able to read. */
  readonly says: readonly RegExp[];
}

const short = '[probe]\ntimeoutSeconds = 2\n';
const faults: readonly Fault[] = [
  { title: 'never listens', app: 'deaf', server: 'setInterval(() => {}, 1000); console.log("deaf but here");', manifest: short, code: 'app-never-listened', says: [/nothing answered on port 3000 within 2 s/, /Listen on 0\.0\.0\.0/, /deaf but here/] },
  { title: 'exits at once', app: 'short', server: 'console.error("no config.json, giving up"); process.exit(3);', manifest: short, code: 'app-exited', says: [/ended before it answered on port 3000/, /no config\.json, giving up/] },
  {
    title: 'listens and then fails its probe',
    app: 'ill',
    server: "import { createServer } from 'node:http';\ncreateServer((_, response) => { response.statusCode = 503; response.end(); }).listen(process.env.PORT, '0.0.0.0');",
    manifest: '[probe]\npath = "/ready"\ntimeoutSeconds = 2\n',
    code: 'probe-failed',
    says: [/GET \/ready was answered 503 for 2 s/, /Name a path that answers/],
  },
  { title: 'has no such command', app: 'lost', command: ['no-such-program', '--now'], manifest: short, code: 'cannot-start', says: [/cannot run no-such-program: No such file/] },
  { title: 'wants an unknown offering', app: 'huge', manifest: 'offering = "gigantic"\n', code: 'unknown-offering', says: [/no service offering "gigantic"/, /small, medium, large/] },
];

t.test('faults of apps and of providers', async (t) => {
  const world = await openFaultWorld(t);
  const [ada, bob] = await Promise.all([world.newProvider('ada'), world.newProvider('bob')]);
  const [first] = world.edgepoints;
  if (first === undefined) throw new Error('a world without an edgepoint');

  t.test('apps that cannot serve', async (t) => {
    const deploys = await Promise.all(faults.map(async (fault) => ({ fault, ran: await ada.conduit(['deploy', '--json', writeApp(world.folder, fault.app, fault)]) })));
    for (const { fault, ran } of deploys) {
      t.test(`${fault.title}: ${fault.code}`, async (t) => {
        t.match({ exitCode: ran.exitCode, ...failureOf(ran) }, { exitCode: 1, code: 'deploy-failed' });
        const failed = eventsOf(ran).filter((event) => event.stage === 'failed');
        t.same(failed.map((event) => event.code), world.edgepoints.map(() => fault.code), 'every edgepoint says it');
        for (const says of fault.says) t.ok(failed.every((event) => says.test(event.text)), `${says} in: ${failed[0]?.text}`);
        await settled(ada, fault.app, (state) => state.status === 'failed' && state.reason !== '');
        const answer = await ask({ host: first.ipv4, name: `${fault.app}.edge.test`, path: '/' });
        t.equal(answer.status, 503, 'an end user is told that it cannot serve');
      });
    }
    await asleep(world);
  });

  t.test('an app that cannot be snapshotted is served by cold boots, and status says why', async (t) => {
    // It watches a file that has been deleted: CRIU cannot find it again.
    const server = `import { createServer } from 'node:http';
import { watch, writeFileSync, openSync, unlinkSync } from 'node:fs';
writeFileSync('/tmp/watched', 'x');
globalThis.watcher = watch('/tmp/watched', () => undefined);
globalThis.held = openSync('/tmp/watched', 'r');
unlinkSync('/tmp/watched');
createServer((_, response) => response.end('cold but here')).listen(process.env.PORT, '0.0.0.0');
`;
    const ran = await ada.conduit(['deploy', '--json', writeApp(world.folder, 'undumpable', { server, manifest: '[scale]\nidleSeconds = 0.5\n' })]);
    t.equal(ran.exitCode, 0, ran.stdout + ran.stderr);
    await settled(ada, 'undumpable', (state) => state.status === 'ready' && state.wakeBy === 'cold' && /cannot be snapshotted: /.test(state.wakeReason));
    const text = await ada.conduit(['status', 'undumpable']);
    t.match(text.stdout, /cannot be snapshotted/, 'people read it too');
    await asleep(world);
    const answer = await ask({ host: first.ipv4, name: 'undumpable.edge.test', path: '/' });
    t.match(answer, { status: 200, body: 'cold but here' });
    /* Where its boot was slow it would now be frozen rather than asleep (plan/tier.ts): either way it leaves with its app. */
    t.equal((await ada.conduit(['delete', 'undumpable', '--yes'])).exitCode, 0);
    await asleep(world);
  });

  t.test('a snapshot that was damaged on disk: the request is answered by a cold boot, and an event says so', async (t) => {
    await ada.deploy(writeApp(world.folder, 'frail', { manifest: '[scale]\nidleSeconds = 0.5\n' }));
    await settled(ada, 'frail', (state) => state.wakeBy === 'template');
    const snapshots = join(first.dataFolder, 'snapshots/ada.main.frail/1');
    const before = damage(snapshots);
    await forgetUnpacked(world, first.edgepoint);
    const answer = await ask({ host: first.ipv4, name: 'frail.edge.test', path: '/' });
    t.equal(answer.status, 200, `${answer.error}${answer.body}`);
    await until('the fault is told', () => world.logOf(`${first.edgepoint}-head`).includes('could not be restored'));
    t.match(world.logOf(`${first.edgepoint}-head`), /"code":"restore-failed"[^\n]*its snapshot is refused: its end is missing/);
    await until('there is a template again, and it is what it is woken by', async () => {
      const [state] = (await ada.status('frail')).sites.flatMap((site) => (site.edgepoint === first.edgepoint && site.state !== null ? [site.state] : []));
      return state?.wakeBy === 'template' && isWhole(snapshots, before);
    });
    await asleep(world);
    t.equal((await ask({ host: first.ipv4, name: 'frail.edge.test', path: '/' })).status, 200);
    const log = world.logOf(`${first.edgepoint}-head`);
    t.match(log.slice(log.indexOf('its snapshot is refused')), /was restored from its template/, 'and not booted');
    await asleep(world);
  });

  t.test('two providers: what is one’s is nothing to the other', async (t) => {
    await ada.deploy(writeApp(world.folder, 'private', {}));
    t.match(await refusal(bob, ['deploy', writeApp(world.folder, 'private', {})]), { exitCode: 4, code: 'name-taken', message: /"private" is taken by another provider/ });
    for (const argv of [['status', 'private'], ['logs', 'private'], ['delete', 'private', '--yes']]) {
      t.match(await refusal(bob, argv), { exitCode: 5, code: 'app-unknown' }, argv.join(' '));
    }
    t.same((await bob.json<{ apps: unknown[] }>(['list'])).apps, [], 'the other’s list is empty');
    t.notMatch((await bob.conduit(['usage', 'private', '--json'])).stdout, /"requests":/, 'nothing of its usage is told');
    const answer = await ask({ host: first.ipv4, name: 'private.edge.test', path: '/' });
    t.equal(answer.status, 200, 'it serves as before');
  });

  t.test('a wrong token, and a word that no command has', async (t) => {
    const wrong = world.withToken('ep_0000000000000000000000000000000000000000');
    t.match(await refusal(wrong, ['list']), { exitCode: 3, code: 'token-wrong' });
    t.match(await refusal(wrong, ['deploy', writeApp(world.folder, 'private', {})]), { exitCode: 3, code: 'token-wrong' });
    t.match(await refusal(ada, ['status', 'privat']), { exitCode: 5, remedy: /Did you mean private\?/ });
    t.match(await refusal(ada, ['deploi']), { exitCode: 2, code: 'command-line' });
  });

  t.test('everything can be deleted, and the world leaves nothing', async (t) => {
    for (const { app } of (await ada.json<{ apps: { app: string }[] }>(['list'])).apps) t.equal((await ada.conduit(['delete', app, '--yes'])).exitCode, 0, app);
    await asleep(world);
    await until('no snapshot is left', () => world.edgepoints.every(({ dataFolder }) => filesBelow(join(dataFolder, 'snapshots')) === 0 && filesBelow(join(dataFolder, 'artefacts')) === 0));
    await world.stop(t);
  });
});

/** The state of an app comes by way of the bus, a moment after what the deploy told. */
async function settled(provider: Provider, app: string, holds: (state: AppState) => boolean): Promise<void> {
  let last = '';
  await until(() => `every edgepoint tells of ${app} what it should: ${last}`, async () => {
    const { sites } = await provider.status(app);
    last = JSON.stringify(sites);
    return sites.length > 0 && sites.every(({ state }) => state !== null && holds(state));
  });
}

interface DeployEvent {
  readonly stage: string;
  readonly code: string;
  readonly text: string;
}

function eventsOf(ran: Ran): DeployEvent[] {
  return ran.stdout.split('\n').filter((line) => line !== '').flatMap((line) => {
    const { event } = JSON.parse(line) as { event?: DeployEvent };
    return event === undefined ? [] : [event];
  });
}

function failureOf(ran: Ran): { code: string; message: string; remedy: string } {
  return JSON.parse(ran.stderr.split('\n').filter((line) => line.startsWith('{')).at(-1) ?? '{}') as { code: string; message: string; remedy: string };
}

async function refusal(provider: Pick<Provider, 'conduit'>, argv: readonly string[]): Promise<{ exitCode: number | null; code: string; message: string; remedy: string }> {
  const ran = await provider.conduit([...argv, '--json']);
  return { exitCode: ran.exitCode, ...failureOf(ran) };
}

/** The name of the sealed snapshot in a folder, empty when there is none. */
function sealedIn(folder: string): string {
  return (existsSync(folder) ? readdirSync(folder) : []).find((name) => /^[0-9a-f]{64}$/.test(name)) ?? '';
}

/** Cuts a snapshot in half; what it was before. */
function damage(folder: string): { name: string; bytes: number } {
  const name = sealedIn(folder);
  const path = join(folder, name);
  const bytes = statSync(path).size;
  truncateSync(path, Math.floor(bytes / 2));
  return { name, bytes };
}

/** Whether another lies there, or the same is whole again: it comes back from the object store when it had got there. */
function isWhole(folder: string, before: { name: string; bytes: number }): boolean {
  const name = sealedIn(folder);
  return name !== '' && (name !== before.name || statSync(join(folder, name), { throwIfNoEntry: false })?.size === before.bytes);
}

/** As after a restart of the machine: nothing is unpacked. */
async function forgetUnpacked(world: FaultWorld, edgepoint: string): Promise<void> {
  const pids = await world.daemons();
  const { runFolder } = world.edgepoints.find((one) => one.edgepoint === edgepoint) ?? { runFolder: '' };
  await world.kill(`${edgepoint}-restored`, 'SIGKILL');
  const ran = await runCommand(['nsenter', `--mount=/proc/${pids[`${edgepoint}-snapd`]}/ns/mnt`, '--', 'find', join(runFolder, 'templates/hot'), '-mindepth', '1', '-delete']);
  if (ran.exitCode !== 0) throw new Error(ran.stderr);
  await world.allHealthy();
}

function filesBelow(folder: string): number {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length;
  } catch {
    return 0; // never made
  }
}
