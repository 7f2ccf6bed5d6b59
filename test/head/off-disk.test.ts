import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { offerObject, snapshotBucket } from '../../kit/wire/subjects.ts';
import { siteA } from '../host/nats.ts';
import { startRig, until } from './rig.ts';
import type { Rig, RigOptions } from './rig.ts';

t.setTimeout(240_000);

const mebibyte = 1024 * 1024;
const manifest = { command: ['serve', '1500'], scale: { idleSeconds: 1 } };
const waitMs = 60_000;
const run = promisify(execFile);
const edgepoint = async (...argv: string[]): Promise<string> => (await run('node_modules/.bin/bun', ['edgepoint/main.ts', ...argv])).stdout;

/** An edgepoint whose disk has room for one template of two, with the app `first` asleep in the object store. */
async function shortOfDisk(t: Test, options: RigOptions = {}): Promise<Rig> {
  const rig = await startRig(t, { settings: { templateBytes: 1.5 * mebibyte }, ...options });
  rig.machine.sealedBytes = mebibyte;
  for (const app of ['first', 'other']) {
    await rig.deploy(app, manifest);
    t.equal((await rig.ended(app)).stage, 'ready');
    // One is put away and, when there is a second, leaves the disk.
    await until(`${app} is in the store`, () => ['store', 'both'].includes(at(rig, app)), waitMs);
  }
  await until('the first has left the disk', () => onDisk(rig).length === 1 && rig.dispatcher.route('first') !== undefined, waitMs);
  return rig;
}

const at = (rig: Rig, app: string): string => rig.state()?.apps.find((one) => one.app === app)?.templateAt ?? '';
const onDisk = (rig: Rig): string[] => ['first', 'other'].filter((app) => existsSync(join(rig.folder, `data/snapshots/prov.main.${app}/1`)));

/** Which of the two is in the store only; nothing of it has been used, so either may have been chosen. */
function gone(rig: Rig): string {
  return onDisk(rig)[0] === 'first' ? 'other' : 'first';
}

t.test('a template leaves a short disk for the object store, and is fetched by the next request', async (t) => {
  const rig = await shortOfDisk(t);
  const away = gone(rig);
  const stays = away === 'first' ? 'other' : 'first';
  await until('it is told', () => at(rig, away) === 'store' && at(rig, stays) === 'both', waitMs);
  const left = (): string | undefined => rig.events.find((event) => event.app === away && /has left the disk/.test(event.text))?.text;
  await until('people are told too', () => left() !== undefined, waitMs);
  t.match(left(), /The template of release 1 \(1\.0 MiB\) has left the disk for the object store: templates take 2\.0 MiB of the disk, and 1\.5 MiB is what they may/);
  const runFolder = join(rig.folder, 'run');
  t.match(await edgepoint('status', '--run-folder', runFolder), new RegExp(`${away}  release 1  ready  asleep  woken by template in .*  template in the object store`));
  t.match(await edgepoint('explain', '--run-folder', runFolder, '--app', stays), /release 1  template on the disk and in the object store/);

  const boots = rig.machine.count('boot');
  const answers = await Promise.all([1, 2, 3].map(() => rig.dispatcher.ask(away)));
  t.same(answers.map(({ status }) => status), [200, 200, 200]);
  t.equal(rig.machine.count('boot'), boots, 'it was not booted');
  t.equal(rig.machine.count('admit'), 1, 'but fetched, once for all who waited');
  await until('its wake is told', () => rig.events.some((event) => event.app === away && event.kind === 'wake' && event.text.includes('restored from its template, which was fetched from the object store, in')), waitMs);
  await until('in its turn the other leaves', () => onDisk(rig).join() === away, waitMs);
  t.same(readdirSync(join(rig.folder, 'data/downloads')), []);
  await until('it sleeps', () => rig.machine.serving().length === 0, waitMs);
  t.equal((await rig.dispatcher.ask(away)).status, 200);
  t.equal(rig.machine.count('admit'), 1, 'from the disk, as long as it is there');
});

t.test('with the object store away an app is booted cold, and fetched again once it is back', async (t) => {
  const rig = await shortOfDisk(t);
  const away = gone(rig);
  await rig.nats.kill('SIGKILL');
  const boots = rig.machine.count('boot');
  t.equal((await rig.dispatcher.ask(away)).status, 200);
  t.equal(rig.machine.count('boot'), boots + 1);
  await rig.nats.start();
  await until('it sleeps', () => rig.machine.serving().length === 0, waitMs);
  await until('the bus is back', () => rig.conduit.up, waitMs);
  await until('and it is fetched', async () => {
    const { status } = await rig.dispatcher.ask(away);
    t.equal(status, 200);
    await until('it sleeps', () => rig.machine.serving().length === 0, waitMs);
    return rig.machine.count('admit') > 0;
  }, waitMs);
  t.equal(rig.machine.count('snapshot'), 2, 'no other template had to be made');
});

t.test('a template that has gone from the store too is made again, while the app is booted cold', async (t) => {
  const rig = await shortOfDisk(t);
  const away = gone(rig);
  const writer = await rig.nats.bus('north.one');
  await writer.clearObjects(snapshotBucket(siteA));
  t.equal((await rig.dispatcher.ask(away)).status, 200);
  await until('it is told', () => rig.events.some((event) => event.app === away && event.code === 'restore-failed'), waitMs);
  await until('another is made', () => rig.machine.count('snapshot') === 3, waitMs);
  await until('and used', async () => {
    await until('it sleeps', () => rig.machine.serving().length === 0, waitMs);
    const { instance } = await rig.dispatcher.ask(away);
    return rig.machine.calls.includes(`restore ${instance}`);
  }, waitMs);
  await until('it is put into the store again', async () => (await writer.findObject(snapshotBucket(siteA), offerObject({ provider: 'prov', scope: 'main', app: away }, 1))) !== null, waitMs);
});

t.test('a head killed while it fetches a template for a wake begins again, and what it had fetched is gone', async (t) => {
  const rig = await shortOfDisk(t);
  const away = gone(rig);
  const asked = rig.dispatcher.ask(away, 60_000);
  await until('it is being fetched, or was', () => readdirSync(join(rig.folder, 'data/downloads')).length > 0 || rig.machine.count('admit') > 0, waitMs);
  await rig.killHead('SIGKILL');
  await rig.startHead();
  t.equal((await asked).status, 200);
  t.equal((await rig.dispatcher.ask(away)).status, 200);
  await until('nothing lies about', () => readdirSync(join(rig.folder, 'data/downloads')).length === 0, waitMs);
});

t.test('a store that stalls is waited for only so long', async (t) => {
  const rig = await shortOfDisk(t);
  const away = gone(rig);
  const boots = rig.machine.count('boot');
  process.kill(rig.nats.pid, 'SIGSTOP');
  try {
    const fromMs = performance.now();
    t.equal((await rig.dispatcher.ask(away, 60_000)).status, 200);
    t.ok(performance.now() - fromMs > 3000, 'it was waited for');
    t.equal(rig.machine.count('boot'), boots + 1, 'then it was booted');
    t.equal(rig.machine.count('admit'), 0);
  } finally {
    process.kill(rig.nats.pid, 'SIGCONT');
  }
  await until('nothing half fetched lies about', () => readdirSync(join(rig.folder, 'data/downloads')).length === 0, waitMs);
});
