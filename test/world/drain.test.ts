import { Resolver } from 'node:dns/promises';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import type { FullStatus } from '../../edgepoint/head/operator-calls.ts';
import { bunPath } from './held-world.ts';
import { ask, instanceProcesses, openFaultWorld, plainServer, runCommand, until, writeApp } from './faults/fault-world.ts';
import type { Ran } from './faults/fault-world.ts';

const repository = join(import.meta.dirname, '../..');
const edgepoint = (...argv: string[]): Promise<Ran> => runCommand([bunPath, join(repository, 'edgepoint/main.ts'), ...argv]);

/** Asks one request after another as a browser does: the name is looked up for each new connection, and a connection is used again while it may be. */
function startUser(resolver: Resolver, name: string): { readonly answers: { status: number; address: string; error: string }[]; stop(): Promise<void> } {
  const answers: { status: number; address: string; error: string }[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  let stopped = false;
  const one = (): Promise<void> =>
    new Promise((resolve) => {
      const lookup = (_host: string, _options: unknown, done: (error: Error | null, addresses: { address: string; family: number }[]) => void): void => {
        resolver.resolve4(name).then((found) => done(null, [{ address: found[0] ?? '', family: 4 }]), (error: Error) => done(error, []));
      };
      const end = (status: number, address: string, error: string): void => {
        answers.push({ status, address, error });
        resolve();
      };
      const outgoing = request({ host: name, port: 80, path: '/', agent, lookup: lookup as never, signal: AbortSignal.timeout(60_000) }, (response) => {
        const address = response.socket.remoteAddress ?? '';
        response.resume();
        response.once('end', () => end(response.statusCode ?? 0, address, '')).once('error', (error) => end(0, address, error.message));
      });
      outgoing.once('error', (error: NodeJS.ErrnoException) => end(0, '', error.code ?? error.message)).end();
    });
  const running = (async () => {
    while (!stopped) {
      await one();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    agent.destroy();
  })();
  return { answers, stop: () => ((stopped = true), running) };
}

t.setTimeout(600_000); // as long as it takes on whatever machine

t.test('an edgepoint is drained under users who ask all the time: each is answered, and they go elsewhere', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'shop', { manifest: '[scale]\nmin = 1\n' }));
  // One on each edgepoint: what can only be in one place.
  for (const name of ['memo', 'diary']) await ada.deploy(writeApp(world.folder, name, { server: plainServer, manifest: 'state = "keep"\n' }));
  const resolver = new Resolver();
  resolver.setServers([world.held.description.dnsAddresses[0] ?? '']);
  const addressNow = async (): Promise<string> => (await resolver.resolve4('shop.edge.test'))[0] ?? '';
  const address = await addressNow();
  const site = world.edgepoints.find(({ ipv4 }) => ipv4 === address);
  const other = world.edgepoints.find(({ ipv4 }) => ipv4 !== address);
  if (site === undefined || other === undefined) throw new Error(`${address} is no edgepoint's`);
  const pinned = (await ada.status('memo')).sites[0]?.edgepoint === site.edgepoint ? 'memo' : 'diary';
  t.equal((await ada.status(pinned)).sites[0]?.edgepoint, site.edgepoint, 'an app that keeps its state lives there alone');
  const note = async (id: string): Promise<{ status: number }> => ask({ host: site.ipv4, name: `${pinned}.edge.test`, path: `/note?id=${id}`, method: 'POST' });
  t.equal((await note('before')).status, 200);

  const users = [startUser(resolver, 'shop.edge.test'), startUser(resolver, 'shop.edge.test')];
  await until('they are answered there', () => users.every(({ answers }) => answers.length > 20));
  const answeredThere = users.map(({ answers }) => answers.length);
  const fromMs = performance.now();
  const drained = await edgepoint('drain', '--run-folder', site.runFolder, '--timeout', '120');
  const tookMs = performance.now() - fromMs;
  t.equal(drained.exitCode, 0, drained.stderr + drained.stdout);
  t.same(instanceProcesses(world.id, site.edgepoint), [], 'no process of an instance is left there');
  await until('the global dispatcher answers with the other', async () => (await addressNow()) === other.ipv4);
  await until('users are answered there', () => users.every(({ answers }) => answers.slice(-20).every((one) => one.address === other.ipv4)));

  const status = JSON.parse((await edgepoint('status', '--run-folder', site.runFolder, '--json')).stdout) as FullStatus;
  t.match(status.edgepoint, { links: { restored: true, snapd: true, dispatcher: true, bus: true }, left: [], instances: {} });
  t.equal(status.edgepoint.asleep, status.edgepoint.apps);
  t.match((await edgepoint('status', '--run-folder', site.runFolder)).stdout, /end users +sent elsewhere; drained \(since 20/);

  const noted = await ask({ host: site.ipv4, name: `${pinned}.edge.test`, path: '/noted' });
  t.match(JSON.parse(noted.body), { ids: 1 }, 'what only it has is answered by it all the same, with what it knew');
  await until('and sleeps again', () => instanceProcesses(world.id, site.edgepoint).length === 0);

  await world.kill(`${site.edgepoint}-head`, 'SIGKILL');
  await world.kill(`${site.edgepoint}-dispatcher`, 'SIGKILL');
  await world.allHealthy();
  t.equal((await edgepoint('drain', '--run-folder', site.runFolder, '--timeout', '60')).exitCode, 0, 'it is drained after its daemons were killed');
  t.equal(await addressNow(), other.ipv4);

  t.equal((await edgepoint('undrain', '--run-folder', site.runFolder)).exitCode, 0);
  await until('the global dispatcher answers with it again', async () => (await addressNow()) === site.ipv4);
  for (const user of users) await user.stop();
  const lost = users.flatMap(({ answers }) => answers.filter((one) => one.status !== 200));
  t.same(lost, [], 'no request was lost');
  t.comment(`drained in ${(tookMs / 1000).toFixed(1)} s after ${answeredThere.join(' and ')} answers; ${users.map(({ answers }) => answers.length).join(' and ')} in all`);
  await world.stop(t);
});
