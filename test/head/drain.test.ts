import { execFile } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import type { FullStatus } from '../../edgepoint/head/operator-calls.ts';
import { drainOf, warningsOf } from '../../edgepoint/head/overview.ts';
import type { Left, Overview } from '../../edgepoint/head/overview.ts';
import { startRig, until } from './rig.ts';

interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}
const edgepoint = (...argv: string[]): Promise<Ran> =>
  new Promise((resolve) => {
    execFile('node_modules/.bin/bun', ['edgepoint/main.ts', ...argv], (error, stdout, stderr) => resolve({ exitCode: error === null ? 0 : Number(error.code), stdout, stderr }));
  });

const well: Omit<Overview, 'warnings'> = {
  zone: 'eu', edgepoint: 'paris', drainedSinceWallMs: null, left: [], apps: 1, asleep: 1, instances: {}, load: 0.1, usedBytes: 1, capacityBytes: 10,
  links: { restored: true, snapd: true, dispatcher: true, bus: true }, heartbeatAgoMs: 1000, eventsWaiting: 0,
  memoryBytes: 100, memoryFreeBytes: 50, diskBytes: 2 ** 40, diskFreeBytes: 2 ** 39,
};

t.test('what an operator is warned of, and how a drain stands', async (t) => {
  t.same(warningsOf(well, []), []);
  const rows: readonly (readonly [Partial<Overview>, RegExp])[] = [
    [{ links: { ...well.links, restored: false } }, /restored is away/],
    [{ links: { ...well.links, dispatcher: false } }, /dispatcher is away/],
    [{ links: { ...well.links, bus: false }, heartbeatAgoMs: 60_000 }, /^The bus is away/],
    [{ heartbeatAgoMs: 6001 }, /heartbeat is 6.0 s old/],
    [{ heartbeatAgoMs: null }, /never sent/],
    [{ diskFreeBytes: 2 ** 35 }, /32.0 GiB left/],
    [{ memoryFreeBytes: 4 }, /4 B of memory left/],
    [{ load: 0.95 }, /may be refused/],
  ];
  for (const [about, says] of rows) {
    const warnings = warningsOf({ ...well, ...about }, []);
    t.equal(warnings.length, 1, warnings.join('; '));
    t.match(warnings[0], says);
  }
  const left = (about: Partial<Left>): Left => ({ app: 'p.main.a', instances: { warm: 1 }, underWay: 0, waiting: 0, stays: '', ...about });
  t.equal(drainOf({ drainedSinceWallMs: null, left: [] }), 'not-drained');
  t.equal(drainOf({ drainedSinceWallMs: 1, left: [] }), 'drained');
  t.equal(drainOf({ drainedSinceWallMs: 1, left: [left({})] }), 'draining');
  t.equal(drainOf({ drainedSinceWallMs: 1, left: [left({ stays: 'it cannot be kept' })] }), 'stuck');
  t.equal(drainOf({ drainedSinceWallMs: 1, left: [left({ stays: 'it cannot be kept', underWay: 1 })] }), 'draining', 'what is under way is waited for');
});

t.test('a drain says so on the bus, puts everything to sleep against its manifest, survives the head, and is taken back', async (t) => {
  const rig = await startRig(t);
  const runFolder = join(rig.folder, 'run');
  const status = async (): Promise<FullStatus> => JSON.parse((await edgepoint('status', '--run-folder', runFolder, '--json')).stdout) as FullStatus;
  await rig.deploy('shop', { scale: { idleSeconds: 3600, min: 1 } });
  await rig.deploy('notes', { state: 'keep', scale: { idleSeconds: 3600 } });
  await rig.ended('shop');
  await rig.ended('notes');
  await rig.dispatcher.ask('notes');
  await until('both run', async () => (await status()).edgepoint.instances.warm === 2);
  t.match((await edgepoint('status', '--run-folder', runFolder)).stdout, /end users +taken\n(.*\n)*instances +2 warm\n/);

  const drained = await edgepoint('drain', '--run-folder', runFolder, '--timeout', '60');
  t.equal(drained.exitCode, 0, drained.stderr);
  t.match(drained.stdout, /is being drained: (.*\n)+.* is drained: nothing runs, 2 apps sleep/);
  await until('everybody hears of it', () => rig.state()?.accepting === false);
  t.equal(rig.dispatcher.keepsConnections, false, 'the dispatcher is told, not whoever asks');

  await rig.killHead('SIGKILL');
  rig.dispatcher.keepsConnections = true;
  await rig.startHead();
  t.equal(drainOf((await status()).edgepoint), 'drained', 'the next head knows');
  await until('the dispatcher is told again', () => rig.dispatcher.keepsConnections === false);
  const { instance } = await rig.dispatcher.ask('notes');
  t.match(instance, /./, 'who comes all the same is answered');
  await until('and it sleeps again', async () => (await status()).edgepoint.left.length === 0);

  const back = await edgepoint('undrain', '--run-folder', runFolder);
  t.match(back.stdout, /takes end users again/);
  await until('everybody hears of that', () => rig.state()?.accepting === true);
  await until('what must run runs again', async () => (await status()).edgepoint.instances.warm === 1);
  t.equal(rig.dispatcher.keepsConnections, true);
});

t.test('what does not go is named, and the edgepoint stays drained', async (t) => {
  const rig = await startRig(t);
  const runFolder = join(rig.folder, 'run');
  await rig.deploy('shop', { scale: { idleSeconds: 1 } });
  await rig.ended('shop');
  const { instance } = await rig.dispatcher.ask('shop');
  const end = rig.dispatcher.begin({ provider: 'prov', scope: 'main', app: 'shop' }, instance);
  await until('it is under way', async () => /1 under way/.test((await edgepoint('explain', '--run-folder', runFolder)).stdout));
  const drained = await edgepoint('drain', '--run-folder', runFolder, '--timeout', '0');
  t.equal(drained.exitCode, 1);
  t.match(drained.stderr, /not empty: not within 0 s. Left:\n {2}prov\.main\.shop: 1 warm, 1 under way\nIt stays drained/);
  end();
  t.equal((await edgepoint('drain', '--run-folder', runFolder)).exitCode, 0);
  t.match(await edgepoint('drain', '--run-folder', runFolder, '--timeout', 'soon'), { exitCode: 1, stderr: /takes seconds/ });
});
