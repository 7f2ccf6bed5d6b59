import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { CheckLine } from '../../conduit/api/answers.ts';
import { ask, asleep, instanceRemains, openFaultWorld, until, writeApp } from './faults/fault-world.ts';
import type { FaultWorld, Provider } from './faults/fault-world.ts';

t.setTimeout(110_000);

/** Notes each boot in a volume of its own and answers with its version and the notes. `node server.mjs VERSION` */
const diary = `import { appendFileSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
const bootedMs = Date.now();
while (Date.now() - bootedMs < 300);
appendFileSync('/data/boots', process.argv[2] + '\\n');
createServer((request, response) => response.end(process.argv[2] + ': ' + readFileSync('/data/boots', 'utf8').split('\\n').join(' '))).listen(process.env.PORT, '0.0.0.0');
`;
const volume = '[scale]\nidleSeconds = 0.3\n[[volume]]\nname = "data"\npath = "/data"\nsizeMegabytes = 8\n';

/** Holds what cannot be snapshotted: a file whose name is gone while another of its names stays. */
const holder = `import { linkSync, openSync, unlinkSync } from 'node:fs';
import { createServer } from 'node:http';
openSync('/var/one', 'w');
linkSync('/var/one', '/var/other');
unlinkSync('/var/one');
createServer((request, response) => response.end('ok')).listen(process.env.PORT, '0.0.0.0');
`;

type End = Extract<CheckLine, { type: 'end' }>;

async function check(provider: Provider, folder: string): Promise<{ exitCode: number | null; end: End | undefined; stderr: string }> {
  const ran = await provider.conduit(['check', folder, '--json']);
  const lines = ran.stdout.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as CheckLine);
  return { exitCode: ran.exitCode, stderr: ran.stderr, end: lines.find((line) => line.type === 'end') };
}

/** No edgepoint holds a file, a process, a mount or a slot of a check. */
async function nothingLeft(world: FaultWorld): Promise<void> {
  await asleep(world);
  let left: string[] = [];
  await until(() => `nothing is left: ${left.join(', ')}`, async () => {
    left = [
      ...world.edgepoints.flatMap(({ edgepoint, dataFolder }) => readdirSync(join(dataFolder, 'checks')).map((name) => `${edgepoint} checks/${name}`)),
      ...(await instanceRemains(world)),
    ];
    return left.length === 0;
  });
}

/** How many snapshots each edgepoint has unpacked in memory. */
async function unpackedSnapshots(world: FaultWorld): Promise<string> {
  const counts = await Promise.all(world.edgepoints.map(async ({ edgepoint }) => {
    const metrics = await ask({ socketPath: join(world.held.description.runFolder, 'daemons', `${edgepoint}-restored`, 'health.sock'), path: '/metrics' });
    return `${edgepoint} ${/^edgepoint_hot_snapshots\S* (\d+)$/m.exec(metrics.body)?.[1] ?? '0'}`;
  }));
  return counts.join(', ');
}

t.test('a check on a real edgepoint', { timeout: 110_000 }, async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'diary', { server: diary, command: ['node', 'server.mjs', 'first'], manifest: volume }));
  const site = (await ada.status('diary')).sites[0]?.edgepoint ?? '';
  const host = world.edgepoints.find(({ edgepoint }) => edgepoint === site)?.ipv4 ?? '';
  const served = async (): Promise<string> => (await ask({ host, name: 'diary.edge.test', path: '/' })).body;
  const before = await served();
  t.match(before, /^first: first /);
  const unpacked = await unpackedSnapshots(world);
  const second = writeApp(world.folder, 'diary', { server: diary, command: ['node', 'server.mjs', 'second'], manifest: volume });

  await t.test('it is prepared for real, with volumes of its own, while the app serves on', async (t) => {
    const [told, ...answers] = await Promise.all([check(ada, second), ...Array.from({ length: 20 }, (_, turn) => new Promise((resolve) => setTimeout(resolve, turn * 60)).then(served))]);
    t.equal(told.exitCode, 0, told.stderr);
    t.match(told.end, { outcome: 'ready', site: { edgepoint: site }, report: { canSnapshot: { can: true }, canClone: { can: false, code: 'one-writer' }, wakeBy: 'template', warnings: [{ code: 'empty-volumes' }] } });
    const report = told.end?.report;
    t.ok((report?.imageBytes ?? 0) > 5e6 && (report?.frozenMs ?? 0) > 0 && (report?.cloneMemoryBytes ?? 0) > 1e6, JSON.stringify(report));
    t.ok((report?.coldBootMs ?? 0) > (report?.restoreMs ?? Infinity), 'its slow boot is slower than its restore');
    t.same([...new Set(answers)], [before], 'whoever asked meanwhile was answered by the release that serves');
    t.match(await ada.status('diary'), { release: 1 });
    await nothingLeft(world);
    await until('its template is in no memory any more', async () => (await unpackedSnapshots(world)) === unpacked);
    t.match(unpacked, /[1-9]/, `what serves is: ${unpacked}`);
    t.equal(await served(), before, 'its volume has no trace of it');
  });

  await t.test('what cannot be snapshotted is told with the reason and the remedy', async (t) => {
    const told = await check(ada, writeApp(world.folder, 'holder', { server: holder }));
    t.equal(told.exitCode, 7, told.stderr);
    t.match(told.end?.report, { canSnapshot: { can: false, code: 'renamed-link', why: /hard link/, remedy: /Use rename/ }, wakeBy: 'cold', restoreMs: null });
    t.match(told.stderr, /hard link/);
    const broken = await check(ada, writeApp(world.folder, 'broken', { server: `throw new Error('no database')` }));
    t.equal(broken.exitCode, 1);
    t.match(broken.end, { outcome: 'failed', code: 'app-exited', text: /no database/ });
    await until('a check is billed for what it used, as the preparation of a deploy is', async () => ((await ada.usage('holder'))?.cpuNs ?? 0) > 1e7);
    t.same((await ada.json<{ apps: { app: string }[] }>(['list'])).apps.map(({ app }) => app), ['diary'], 'none of them is an app');
    await nothingLeft(world);
  });

  await t.test('kill -9 of a daemon in the middle', { timeout: 100_000 }, async (t) => {
    const checksBegun = (): number => [...world.logOf(`${site}-head`).matchAll(/"kind":"check","stage":"probe"/g)].length;
    for (const daemon of [`${site}-head`, `${site}-snapd`, 'conduit']) {
      const begun = checksBegun();
      const under = check(ada, second);
      await until('it is under way', () => checksBegun() > begun);
      await world.kill(daemon, 'SIGKILL');
      const told = await under;
      if (daemon === 'conduit') t.equal(told.exitCode, 6, 'the command says that the conduit has gone');
      else t.match(told.end, { outcome: 'ready', report: { wakeBy: 'template' } }, `${daemon} comes back and the check ends well: ${told.stderr}`);
      await world.allHealthy();
      await nothingLeft(world);
    }
    t.equal(await served(), before, 'the app has noticed nothing');
    const next = await check(ada, second);
    t.equal(next.exitCode, 0, `and the next check goes as the first ${next.stderr}`);
  });

  await world.stop(t);
});
