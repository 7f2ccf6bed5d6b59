import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { startRig, until } from './rig.ts';

const run = promisify(execFile);
const edgepoint = async (...argv: string[]): Promise<string> => (await run('node_modules/.bin/bun', ['edgepoint/main.ts', ...argv])).stdout;

t.test('explain tells what was planned and why, and replays a dump to the same plan', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { scale: { idleSeconds: 60 } });
  await rig.deploy('other', {});
  await rig.ended('shop');
  await rig.ended('other');
  const { instance } = await rig.dispatcher.ask('shop');
  const runFolder = join(rig.folder, 'run');
  const dump = join(rig.folder, 'dump.json');
  const told = await edgepoint('explain', '--run-folder', runFolder, '--app', 'shop', '--dump', dump);
  t.match(told, /prov\.main\.shop: 0 waiting, release 1/);
  t.match(told, new RegExp(`${instance}  warm, 0 under way`));
  t.match(told, /ago: wake prov\.main\.shop \(template\) on local: 1 waiting and none warm/);
  t.match(told, /now: nothing to do\nlooks again in/);
  t.notMatch(told, /other/);

  const again = await edgepoint('explain', '--state', dump, '--json');
  t.equal(again, await edgepoint('explain', '--state', dump, '--json'), 'the same state gives the same plan');
  const changed = JSON.parse(readFileSync(dump, 'utf8')) as { view: { nowBootNs: number } };
  changed.view.nowBootNs += 120_000_000_000;
  writeFileSync(dump, JSON.stringify(changed));
  t.match(await edgepoint('explain', '--state', dump), new RegExp(`now:\n  sleep ${instance} of prov.main.shop: unused for`));

  const status = await edgepoint('status', '--run-folder', runFolder);
  t.match(status, /prov\.main\.shop  release 1  ready  1 warm  woken by template in/);
  t.match(status, /prov\.main\.other  release 1  ready  asleep/);
  await until('the dispatcher was not mistaken for another', () => rig.dispatcher.route('shop') !== undefined);
  t.equal((await rig.dispatcher.ask('shop')).instance, instance);
});

t.test('a mistyped command, an absent head and a broken dump are told in a sentence', async (t) => {
  const told = async (...argv: string[]): Promise<string> => edgepoint(...argv).then(() => '', (failure: { stderr: string }) => failure.stderr);
  t.match(await told('explian'), /there is no command "explian"/);
  t.match(await told('status'), /name the edgepoint by --run-folder/);
  t.match(await told('explain', '--state', 'package.json'), /package\.json is not a dump/);
  t.match(await edgepoint('--help'), /head .*plans instances/);
});
