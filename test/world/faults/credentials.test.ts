import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { connectBus } from '../../../host/bus.ts';
import type { Bus } from '../../../host/bus.ts';
import { codeOf } from '../../../kit/errors.ts';
import { artefactBucket, buckets, desiredKey, stateKey, usageSubject } from '../../../kit/wire/subjects.ts';
import { quietLog } from '../../host/nats.ts';
import { ask, instanceProcesses, openFaultWorld, until, writeApp } from './fault-world.ts';
import type { FaultWorld, Provider } from './fault-world.ts';

/** With the real seeds of a running world: what one edgepoint may not, and what becomes of one that is cut off. */

t.test('credentials of a running world', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  const [paris, denver] = world.edgepoints;
  if (paris === undefined || denver === undefined) throw new Error('a world has two edgepoints');
  // One that keeps its state lives at one edgepoint only, the other runs at both.
  const ran = await ada.conduit(['deploy', '--json', writeApp(world.folder, 'secret', { manifest: 'state = "keep"\n[scale]\nidleSeconds = 0.5\n' })]);
  const { artefactDigest: digest } = JSON.parse(ran.stdout.split('\n')[0] ?? '') as { artefactDigest: string };
  await ada.deploy(writeApp(world.folder, 'sleepy', { manifest: '[scale]\nidleSeconds = 0.5\n' }));
  await ada.deploy(writeApp(world.folder, 'steady', { manifest: '[scale]\nmin = 1\nmax = 1\n' }));
  const { sites } = await ada.status('secret');
  const [host, other] = sites[0]?.edgepoint === paris.edgepoint ? [paris, denver] : [denver, paris];

  await t.test('one edgepoint, with its own seed, gets nothing of another’s', async (t) => {
    const [own, intruder] = await Promise.all([connectAs(t, world, host), connectAs(t, world, other)]);
    const owner = { provider: 'ada', scope: 'main', app: 'secret' };
    t.ok(await own.getKv(buckets.desired, desiredKey(host, owner)), 'its host reads what is wanted of it');
    t.ok(await own.getObject(artefactBucket(host), digest), 'and its artefact');
    const attempts: Record<string, () => Promise<unknown>> = {
      'what is wanted of it': () => intruder.getKv(buckets.desired, desiredKey(host, owner)),
      'its artefact': () => intruder.getObject(artefactBucket(host), digest),
      'the state of the other edgepoint': () => intruder.getKv(buckets.state, stateKey(host)),
      'a state in the other’s name': () => intruder.putKv(buckets.state, stateKey(host), '{}'),
      'a wish for the other': () => intruder.putKv(buckets.desired, desiredKey(host, owner), '{}'),
      'usage in the other’s name': () => intruder.append(usageSubject(host, owner), '{}', 'forged'),
      'the names of all apps': () => intruder.getKv(buckets.names, 'ada.main.secret'),
    };
    for (const [what, attempt] of Object.entries(attempts)) t.equal(await attempt().then(() => 'allowed', codeOf), 'bus-forbidden', what);
  });

  await t.test('an edgepoint whose credentials are revoked is cut off at once, without a restart, and serves on', async (t) => {
    const before = await world.daemons();
    const born = (await ask({ host: paris.ipv4, name: 'steady.edge.test', path: '/' })).body;
    const config = join(world.held.description.runFolder, 'daemons/nats-server/nats-server.conf');
    const text = readFileSync(config, 'utf8');
    const used = await requestsOf(ada);
    writeFileSync(config, withoutUsers(text, `edgepoint.${paris.zone}.${paris.edgepoint}`));
    await world.kill('nats-server', 'SIGHUP');
    await until('its head is cut off', async () => !(await busIsUp(world, `${paris.edgepoint}-head`)));
    t.equal(await busIsUp(world, `${denver.edgepoint}-head`), true, 'the other is not');
    await until('the conduit knows that it cannot be reached', async () => (await ada.status('sleepy')).sites.find(({ edgepoint }) => edgepoint === paris.edgepoint)?.reachable === false);
    for (let wakes = 0; wakes < 2; wakes += 1) {
      await until('the app sleeps', () => instanceProcesses(world.id, paris.edgepoint).length === 1);
      t.equal((await ask({ host: paris.ipv4, name: 'sleepy.edge.test', path: '/' })).status, 200, 'it wakes what sleeps');
    }
    t.equal((await ask({ host: paris.ipv4, name: 'steady.edge.test', path: '/' })).body, born, 'what is awake serves on');
    t.equal(await busIsUp(world, `${paris.edgepoint}-head`), false, 'it is still cut off');
    writeFileSync(config, text);
    await world.kill('nats-server', 'SIGHUP');
    await until('once admitted again it is back', () => busIsUp(world, `${paris.edgepoint}-head`));
    await until('and what was used meanwhile is told', async () => (await requestsOf(ada)) >= used + 4);
    t.same(await world.daemons(), before, 'no daemon was restarted');
  });

  await t.test('the world leaves nothing', (t) => world.stop(t));
});

type Edgepoint = FaultWorld['edgepoints'][number];

async function connectAs(t: Test, world: FaultWorld, { zone, edgepoint }: Edgepoint): Promise<Bus> {
  const { natsUrl, runFolder } = world.held.description;
  const seed = readFileSync(join(runFolder, 'daemons', `${edgepoint}-head`, 'bus.seed'), 'utf8').trim();
  const bus = await connectBus({ url: natsUrl, seed, name: `another ${zone}.${edgepoint}` }, quietLog);
  t.teardown(() => bus.close());
  await until('the bus is there', () => bus.up);
  return bus;
}

async function busIsUp(world: FaultWorld, head: string): Promise<boolean> {
  const { body } = await ask({ socketPath: join(world.held.description.runFolder, 'daemons', head, 'health.sock'), path: '/healthz' });
  return body !== '' && (JSON.parse(body) as { bus: boolean }).bus;
}

/** The server's config as the program wrote it: a comment, then JSON. */
function withoutUsers(text: string, account: string): string {
  const [comment = '', ...lines] = text.split('\n');
  const config = JSON.parse(lines.join('\n')) as { accounts: Record<string, { users: unknown[] }> };
  const found = config.accounts[account];
  if (found === undefined) throw new Error(`no account ${account} in the server’s config`);
  found.users = [];
  return `${comment}\n${JSON.stringify(config, null, 2)}\n`;
}

async function requestsOf(ada: Provider): Promise<number> {
  const totals = await Promise.all(['steady', 'sleepy'].map((app) => ada.usage(app).catch(() => null)));
  return totals.reduce((sum, total) => sum + (total?.requests ?? 0), 0);
}
