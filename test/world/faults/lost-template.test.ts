import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ask, instanceProcesses, openFaultWorld, runCommand, until, writeApp } from './fault-world.ts';

/** Says when it was booted: what came from one template says the same. */
const server = `import { createServer } from 'node:http';
const born = String(process.hrtime.bigint());
setTimeout(() => createServer((_, response) => response.end(born)).listen(process.env.PORT, '0.0.0.0'), 1500);
`;

t.test('an edgepoint whose disk has lost a template takes it back from the object store, and prepares nothing', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'slow', { server, manifest: '[scale]\nidleSeconds = 0.5\nmax = 1\n' }));
  const [first] = world.edgepoints;
  if (first === undefined) throw new Error('a world without an edgepoint');
  const get = (): ReturnType<typeof ask> => ask({ host: first.ipv4, name: 'slow.edge.test', path: '/' });
  const templateAt = async (): Promise<string> => (await ada.status('slow')).sites.find(({ edgepoint }) => edgepoint === first.edgepoint)?.state?.templateAt ?? '';
  const asleep = (): Promise<void> => until('it sleeps', () => instanceProcesses(world.id, first.edgepoint).length === 0);
  const woken = (await get()).body;
  await until('its template is in the object store too', async () => (await templateAt()) === 'both');
  t.match((await ada.conduit(['status', 'slow'])).stdout, /on the disk and in the object store/, 'and status says so');
  await asleep();

  const folder = join(first.dataFolder, 'snapshots/ada.main.slow');
  const name = (): string[] => (existsSync(join(folder, '1')) ? readdirSync(join(folder, '1')).filter((file) => /^[0-9a-f]{64}$/.test(file)) : []);
  const before = name();
  rmSync(folder, { recursive: true });
  // What lies unpacked in memory would do without it.
  const pin = join(world.held.description.runFolder, 'pins', `${first.edgepoint}.mnt`);
  const emptied = await runCommand(['nsenter', `--mount=${pin}`, 'sh', '-c', 'rm -rf "$0"/*', join(first.runFolder, 'templates/hot')]);
  t.equal(emptied.exitCode, 0, emptied.stderr);
  await world.kill(`${first.edgepoint}-restored`, 'SIGKILL');
  await world.allHealthy();

  const cold = await get();
  t.equal(cold.status, 200, 'the request was held');
  t.not(cold.body, woken, 'and the app booted cold');
  await until('the template is back', () => name().length > 0);
  t.same(name(), before, 'the same, by its digest');
  await until('and was proved', () => /has a template of it: .*, fetched and verified in/.test(world.logOf(`${first.edgepoint}-head`)) && world.logOf(`${first.edgepoint}-head`).includes('Restored and answered in'));
  await until('from now on it is woken by it', async () => {
    await asleep();
    return (await get()).body === woken;
  });
  t.equal(world.logOf(`${first.edgepoint}-snapd`).split('\n').filter((line) => line.includes('snapshot taken')).length, 1, 'no other was taken');
  t.equal((await ada.conduit(['delete', 'slow', '--yes'])).exitCode, 0);
  await until('nothing of it is left', () => instanceProcesses(world.id).length === 0);
  await world.stop(t);
});
