import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ReleasesAnswer } from '../../conduit/api/answers.ts';
import { keptReleases } from '../../conduit/rollback.ts';
import { artefactBucket, buckets, desiredKey, namesKey } from '../../kit/wire/subjects.ts';
import { siteA, siteB, until } from '../host/nats.ts';
import { rawTarGz } from './archives.ts';
import { appFolder, plainManifest, startConduit, startEdgepoint } from './rig.ts';
import type { ConduitWorld } from './rig.ts';

const archive = (app: string, text: string): Uint8Array<ArrayBuffer> => new Uint8Array(rawTarGz([{ path: 'edgepoint.toml', content: plainManifest(app) }, { path: 'server.js', content: text }]));

const deploy = async (world: ConduitWorld, token: string, app: string, text: string): Promise<number> => {
  const response = await world.ask(token, `/apps/${app}/releases`, { method: 'POST', body: archive(app, text) });
  if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`);
  return ((await response.json()) as { release: number }).release;
};

t.test('a conduit killed in mid-deploy loses nothing it has promised', async (t) => {
  const world = await startConduit(t);
  const edgepoint = await startEdgepoint(t, world.nats, siteA);
  const token = await world.token('ada');
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  const rounds = process.env['LONG'] ? 60 : 4;
  t.comment(`seed ${seed}`);
  let random = seed;
  const chance = (): number => {
    random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
    return random / 2 ** 32;
  };
  let promised = 0;
  for (let round = 0; round < rounds; round += 1) {
    const sent = deploy(world, token, 'hello', `// ${round} ${seed}`).then(
      (release) => (promised = Math.max(promised, release)),
      () => null, // The connection broke with the conduit: nothing was promised.
    );
    const afterMs = chance() * 40;
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await world.kill('SIGKILL');
    await sent;
    await world.start();
    t.same(readdirSync(world.uploadFolder).filter((name) => name.endsWith('.part')), [], `after ${afterMs.toFixed(1)} ms: no half upload stays`);
    if (promised > 0) await until(`release ${promised} is told after the restart`, () => (edgepoint.desired.get('hello')?.release ?? 0) >= promised);
  }
  const release = await deploy(world, token, 'hello', '// the last');
  await until('the last is told too', () => edgepoint.desired.get('hello')?.release === release);
  const { releases } = (await (await world.ask(token, '/apps/hello/releases')).json()) as ReleasesAnswer;
  const kept = releases.filter((one) => one.kept).map(({ artefactDigest }) => `${artefactDigest.replace('sha256:', '')}.tar.gz`);
  t.equal(kept.length, Math.min(releases.length, keptReleases), 'of the newest releases');
  await until('just the artefacts stay that serve or can be gone back to', () => readdirSync(join(world.uploadFolder, 'artefacts')).toSorted().join() === kept.toSorted().join());
  t.ok(release > promised, 'releases count up, also across crashes');
});

t.test('a release taken in while the bus is away goes out when it is back, also by another process', async (t) => {
  const world = await startConduit(t);
  const token = await world.token('ada');
  await deploy(world, token, 'old', '//');
  await startEdgepoint(t, world.nats, siteA);
  const reader = await world.nats.bus('global-dispatcher');
  await until('the old app is told', async () => (await reader.getKv(buckets.names, 'ada.main.old')) !== null);

  await world.nats.kill('SIGKILL');
  t.equal(await deploy(world, token, 'hello', '//'), 1, 'it is taken in all the same');
  const status = (await (await world.ask(token, '/apps/hello')).json()) as { published: boolean; condition: string };
  t.match(status, { published: false, condition: 'deploying' }, 'and told honestly');
  t.equal((await world.ask(token, '/apps/old', { method: 'DELETE' })).status, 200, 'a deletion too');
  t.match(await (await world.ask(token, '/usage')).json(), { code: 'metering-away' });
  const logs = (await world.cli(['logs', 'hello'], { token }));
  t.match(logs.stderr + logs.stdout, /message bus is away/);
  await world.kill('SIGKILL');

  await world.start();
  const watching = world.cli(['deploy', appFolder(t, plainManifest('hello')), '--json'], { token });
  await until('the second release is stored', async () => ((await (await world.ask(token, '/apps/hello')).json()) as { release: number }).release === 2);
  await world.nats.start();
  await startEdgepoint(t, world.nats, siteB);
  const lines = (await watching).stdout.trim().split('\n').map((line) => JSON.parse(line) as { type: string; code?: string; outcome?: string });
  t.ok(lines.some((line) => line.type === 'note' && line.code === 'bus-away'), 'the provider is told what it waits for');
  t.match(lines.at(-1), { type: 'end', outcome: 'ready' });
  await until('the reader is connected again', () => reader.up);
  await until('the deletion goes out', async () => (await reader.getKv(buckets.names, 'ada.main.old')) === null);
  await until('the status says so', async () => ((await (await world.ask(token, '/apps/hello')).json()) as { published: boolean }).published);
});

t.test('a bus that comes back without its memory is told everything again', async (t) => {
  const world = await startConduit(t);
  const edgepoint = await startEdgepoint(t, world.nats, siteA);
  const token = await world.token('ada');
  await deploy(world, token, 'hello', '//');
  await until('told', () => edgepoint.desired.has('hello'));
  const conduit = await world.nats.bus('conduit');
  const owner = { provider: 'ada', scope: 'main', app: 'hello' };
  const digest = edgepoint.desired.get('hello')?.artefactDigest ?? '';
  const before = await conduit.getKv(buckets.desired, desiredKey(siteA, owner));
  // As if an older copy of the store had been put back.
  await conduit.deleteKv(buckets.desired, desiredKey(siteA, owner));
  await conduit.deleteKv(buckets.names, namesKey(owner));
  await conduit.deleteObject(artefactBucket(siteA), digest);
  await world.nats.kill('SIGTERM');
  await world.nats.start();
  await until('the key is back', async () => (await conduit.getKv(buckets.desired, desiredKey(siteA, owner)).catch(() => null)) === before);
  t.ok(await conduit.getObject(artefactBucket(siteA), digest), 'and the artefact');
  await until('and the name', async () => (await conduit.getKv(buckets.names, namesKey(owner))) !== null);
  // What is told of a later app comes after all that was told of the first.
  const toldOfHello = async (probe: string): Promise<number> => {
    await deploy(world, token, probe, '//');
    await until(`${probe} is told`, () => edgepoint.desired.has(probe));
    return edgepoint.seen.filter(({ key }) => key.endsWith('.hello')).length;
  };
  const toldBefore = await toldOfHello('probe');
  await world.kill('SIGKILL');
  await world.start();
  await until('a restart finds all in order', async () => ((await (await world.ask(token, '/apps/hello')).json()) as { published: boolean }).published);
  t.equal(await toldOfHello('probe-again'), toldBefore, 'and what is right is not told again');
  t.ok(existsSync(join(world.uploadFolder, 'artefacts', `${digest.slice(7)}.tar.gz`)));
});
