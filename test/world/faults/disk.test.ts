import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ask, asleep, instanceProcesses, openFaultWorld, runCommand, until, writeApp } from './fault-world.ts';
import type { FaultWorld } from './fault-world.ts';

/** The disk of one edgepoint fills up while snapshots are written to it: a small file system laid where its daemons see it. */

t.test('a full disk', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  const [paris] = world.edgepoints;
  if (paris === undefined) throw new Error('a world has edgepoints');
  const snapshots = join(paris.dataFolder, 'snapshots');
  const kept = join(paris.dataFolder, 'kept');

  await t.test('while a template is taken: the deploy says disk-full, the app is served by cold boots, nothing half written stays', async (t) => {
    await inMounts(world, ['mkdir', '-p', snapshots]);
    await inMounts(world, ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'full', snapshots]);
    const ran = await ada.conduit(['deploy', '--json', writeApp(world.folder, 'big', { manifest: '[scale]\nidleSeconds = 0.5\n' })]);
    t.equal(ran.exitCode, 0, `the deploy is done: ${ran.stderr}`);
    const told = ran.stdout.split('\n').filter((line) => line.includes('"stage":"snapshot"') && line.includes('"disk-full"'));
    t.equal(told.length, 1, `the one edgepoint says disk-full: ${ran.stdout}`);
    t.match(told[0], /the disk of the edgepoint is full/);
    await until('status says why it boots cold here, and it is restored elsewhere', async () => {
      const { sites } = await ada.status('big');
      return sites.every(({ edgepoint, state }) => (edgepoint === paris.edgepoint ? state?.wakeBy === 'cold' && state.wakeReason.includes('disk of the edgepoint is full') : state?.wakeBy === 'template'));
    });
    t.equal((await ask({ host: paris.ipv4, name: 'big.edge.test', path: '/' })).status, 200, 'it is served');
    t.equal(await filesIn(world, snapshots), '', 'no file is left of the snapshot');
    await asleep(world);
    await inMounts(world, ['umount', snapshots]);
  });

  await t.test('while an app that keeps its state goes to sleep: it serves on with its state, and sleeps when there is room', async (t) => {
    await ada.deploy(writeApp(world.folder, 'kept', { manifest: 'state = "keep"\n[scale]\nidleSeconds = 2\n' }));
    const { sites } = await ada.status('kept');
    const host = world.edgepoints.find(({ edgepoint }) => edgepoint === sites[0]?.edgepoint) ?? paris;
    const folder = join(host.dataFolder, 'kept');
    await inMounts(world, ['mkdir', '-p', folder], host.edgepoint);
    await inMounts(world, ['mount', '-t', 'tmpfs', '-o', 'size=3m', 'full', folder], host.edgepoint);
    const note = (id: string): ReturnType<typeof ask> => ask({ host: host.ipv4, name: 'kept.edge.test', path: `/note?id=${id}`, method: 'POST' });
    const noted = async (): Promise<number> => (JSON.parse((await ask({ host: host.ipv4, name: 'kept.edge.test', path: '/noted' })).body) as { ids: number }).ids;
    t.equal((await note('one')).status, 200);
    await until('its sleep fails', () => world.logOf(`${host.edgepoint}-head`).includes('could not be put to sleep'));
    t.match(world.logOf(`${host.edgepoint}-head`), /"code":"disk-full"[^\n]*could not be put to sleep/);
    t.equal(instanceProcesses(world.id).length, 1, 'it runs on');
    t.equal(await noted(), 1, 'with its state');
    t.equal(await filesIn(world, folder, host.edgepoint), '', 'no file is left of the snapshot');
    await inMounts(world, ['umount', folder], host.edgepoint);
    await asleep(world);
    t.equal(await noted(), 1, 'and wakes with its state');
  });

  await t.test('the world leaves nothing', async (t) => {
    t.notOk(existsSync(kept) && readdirSync(kept).some((name) => name.endsWith('.part')));
    await world.stop(t);
  });
});

/** Runs a command where snapd of an edgepoint lives. */
async function inMounts(world: FaultWorld, argv: readonly string[], edgepoint = 'paris'): Promise<string> {
  const pid = (await world.daemons())[`${edgepoint}-snapd`];
  const ran = await runCommand(['nsenter', `--mount=/proc/${pid}/ns/mnt`, '--', ...argv]);
  if (ran.exitCode !== 0) throw new Error(`${argv.join(' ')}: ${ran.stderr}`);
  return ran.stdout;
}

const filesIn = (world: FaultWorld, folder: string, edgepoint?: string): Promise<string> => inMounts(world, ['find', folder, '-type', 'f'], edgepoint);
