import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { AppEvent } from '../../kit/wire/event.ts';
import { startRig, until } from './rig.ts';
import type { Rig } from './rig.ts';

const checkEvents = (rig: Rig, checkId: string): AppEvent[] => rig.events.filter((event) => event.deployId === checkId);
const stagesOf = (rig: Rig, checkId: string): string[] => [...new Set(checkEvents(rig, checkId).map((event) => event.stage))];
const last = (rig: Rig, checkId: string): AppEvent | undefined => checkEvents(rig, checkId).find((event) => event.stage === 'report' || event.stage === 'failed');
const left = (rig: Rig): string[] => {
  const folder = join(rig.folder, 'data/checks');
  return existsSync(folder) ? readdirSync(folder) : [];
};
const nothingLeft = (rig: Rig): Promise<void> => until('nothing of it is left', () => left(rig).length === 0 && rig.machine.instances.size === rig.machine.serving().length);

t.test('a check prepares a release and leaves nothing; who serves under the name does not notice', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { scale: { min: 1 } });
  await rig.ended('shop');
  await until('an instance serves, and that is published', async () => {
    const app = rig.state()?.apps[0];
    return rig.dispatcher.route('shop')?.instances.length === 1 && app?.status === 'ready' && app.instances['warm'] === 1 && app.templateAt === 'both';
  });
  const [serving] = rig.machine.serving();
  const before = [rig.dispatcher.route('shop'), rig.state()?.apps];

  await rig.check('c-1', 'shop', { command: ['serve', '30'], warmup: [{ path: '/warm' }], volume: [{ name: 'data', path: '/data', sizeMegabytes: 8 }] });
  await until('it is checked', () => last(rig, 'c-1') !== undefined);
  t.strictSame(stagesOf(rig, 'c-1'), ['fetch', 'unpack', 'boot', 'probe', 'warm', 'snapshot', 'trial', 'report']);
  const report = last(rig, 'c-1')?.report;
  t.match(report, { canSnapshot: { can: true }, canClone: { can: false, code: 'one-writer' }, wakeBy: 'template', imageBytes: 1000, frozenMs: 3, trials: 1, warnings: [{ code: 'empty-volumes' }] });
  t.ok((report?.coldBootMs ?? 0) > (report?.restoreMs ?? Infinity));
  const volumes = rig.machine.orders.flatMap((order) => order.volumes.map((volume) => volume.imagePath));
  t.ok(volumes.length > 0 && volumes.every((path) => path.includes('/data/checks/')), 'its volumes are thrown away with it');
  await nothingLeft(rig);
  t.ok(rig.machine.instances.has(serving?.running.instance ?? ''), 'the app serves on');
  t.strictSame([rig.dispatcher.route('shop'), rig.state()?.apps], before, 'its route and its published state are what they were');

  await rig.check('c-2', 'other', { command: ['exit'] });
  await until('it is checked', () => last(rig, 'c-2') !== undefined);
  t.match(last(rig, 'c-2'), { stage: 'failed', code: 'app-exited', text: /Cannot find module express/ });
  await rig.check('c-2b', 'other', { command: ['exit', 'at-once'] });
  await until('it is checked', () => last(rig, 'c-2b') !== undefined);
  t.match(last(rig, 'c-2b'), { stage: 'failed', code: 'app-exited', text: /Cannot find module express/ }, 'one that had ended before anybody heard that it runs');
  await nothingLeft(rig);
  t.equal(rig.dispatcher.route('other'), undefined, 'no name leads to it');
  t.notOk(rig.state()?.apps.some((app) => app.app === 'other'), 'it is no app of the edgepoint');

  rig.machine.failSnapshot = 'the program holds an io_uring';
  await rig.check('c-3', 'other', {});
  await until('it is checked', () => last(rig, 'c-3') !== undefined);
  t.match(last(rig, 'c-3')?.report, { canSnapshot: { can: false, why: /io_uring/ }, canClone: { can: false }, wakeBy: 'cold', imageBytes: null, restoreMs: null });
  await nothingLeft(rig);
});

t.test('a check that nobody waits for is broken off', async (t) => {
  const rig = await startRig(t);
  await rig.check('c-1', 'shop', { command: ['silent'] });
  await until('it waits for an answer', () => stagesOf(rig, 'c-1').includes('probe'));
  await rig.endCheck();
  await nothingLeft(rig);
  await rig.check('c-2', 'shop', { command: ['silent'] });
  await until('it waits for an answer', () => stagesOf(rig, 'c-2').includes('probe'));
  await rig.check('c-3', 'shop', {});
  await until('another took its place', () => last(rig, 'c-3')?.stage === 'report');
  await nothingLeft(rig);
  for (const broken of ['c-1', 'c-2']) t.equal(last(rig, broken), undefined, `${broken} tells no end`);
});

t.test('a head that is killed in the middle of a check begins it again, and what it left goes', async (t) => {
  const rig = await startRig(t);
  let release = (): void => undefined;
  rig.machine.holdSnapshot = new Promise((resolve) => (release = resolve));
  await rig.check('c-1', 'shop', {});
  await until('it is being snapshotted', () => rig.machine.count('snapshot') === 1);
  t.equal(left(rig).length, 1, 'what it works on lies there');
  await rig.killHead('SIGKILL');
  await rig.startHead();
  release();
  await until('it is checked', () => last(rig, 'c-1') !== undefined);
  t.equal(last(rig, 'c-1')?.stage, 'report');
  await nothingLeft(rig);
  await rig.endCheck();

  rig.machine.holdSnapshot = new Promise((resolve) => (release = resolve));
  await rig.check('c-2', 'shop', {});
  await until('it is being snapshotted', () => rig.machine.count('snapshot') >= 3);
  await rig.killHead('SIGKILL');
  await rig.endCheck();
  release();
  await rig.startHead();
  await nothingLeft(rig);
  t.equal(last(rig, 'c-2'), undefined, 'nobody waits for it any more, so it is not begun again');
});
