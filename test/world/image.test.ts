import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ask, asleep, openFaultWorld, until } from './faults/fault-world.ts';
import type { FaultWorld, Provider } from './faults/fault-world.ts';
import { startRegistry } from '../conduit/docker-registry.ts';
import { buildImage, copyImage } from './image-app.ts';
import { setSecret } from './secret-app.ts';

t.setTimeout(900_000);

const example = join(import.meta.dirname, '../../examples/image');
const name = 'shop.edge.test';
/** What the program of the image says when all that its config asks for is true. */
const expected = { uid: 1000, gid: 1001, group: 8, cwd: '/srv/app/data', word: 'from-the-image', home: '/home/web', port: '8080', wrote: 1, devIsFolder: 1, null: 1, gone: 1, changed: 1, baseIsThere: 0, resolver: 1 };

async function said(host: string): Promise<Record<string, unknown>> {
  const answer = await ask({ host, name, path: '/', timeoutMs: 120_000 });
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.error}${answer.body}`);
  return JSON.parse(answer.body) as Record<string, unknown>;
}

async function done(ada: Provider, words: readonly string[]): Promise<string> {
  const ran = await ada.conduit(words);
  if (ran.exitCode !== 0) throw new Error(`conduit ${words.join(' ')}: ${ran.stdout}${ran.stderr}`);
  return ran.stdout;
}

const artefactsOf = (world: FaultWorld): string[] => world.edgepoints.flatMap(({ dataFolder }) => readdirSync(join(dataFolder, 'artefacts')));

t.test('an image is deployed as it is, sleeps, wakes, is cloned, changed and deleted', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  const hosts = world.edgepoints.map(({ ipv4 }) => ipv4);
  const layout = buildImage(folderIn(world, 'first'));
  t.match(await done(ada, ['deploy', folderIn(world, 'empty'), '--image', layout, '--name', 'shop']), '3 of 3 layers were sent');
  for (const host of hosts) t.match(await said(host), { ...expected, mark: 'one' });
  t.match((await ada.status('shop')).sites.map(({ state }) => state?.wakeBy), hosts.map(() => 'template'), 'it is woken from its template');
  await asleep(world);
  for (const host of hosts) t.match(await said(host), { ...expected, mark: 'one' }, 'after a sleep');

  await t.test('the same image in other forms has the same layers', async (t) => {
    for (const form of ['docker-archive', 'oci-archive']) {
      const file = join(world.folder, `${form}.tar`);
      copyImage(`oci:${layout}:v1`, `${form}:${file}:team/shop:v1`);
      t.match(await done(ada, ['deploy', folderIn(world, 'empty'), '--image', file, '--name', 'shop']), 'The conduit has all layers already', form);
    }
    t.match(await said(hosts[0] ?? ''), { ...expected, mark: 'one' });
  });

  await t.test('it is pulled from a registry too, whose name for it is the app’s', async (t) => {
    const registry = await startRegistry(t);
    copyImage(`oci:${layout}:v1`, `docker://${registry}/team/shop:v1`);
    t.match(await done(ada, ['deploy', folderIn(world, 'empty'), '--image', `${registry}/team/shop:v1`]), 'The conduit has all layers already');
    t.match(await said(hosts[0] ?? ''), { ...expected, mark: 'one' });
  });

  await t.test('another image of the same base sends what is new alone; a secret can be read by its user', async (t) => {
    const second = buildImage(folderIn(world, 'second'), { mark: 'two' });
    t.match(await done(ada, ['deploy', folderIn(world, 'empty'), '--image', second, '--name', 'shop']), /[12] of 3 layers were sent/);
    await setSecret(world, ada, 'shop', 'of no account');
    for (const host of hosts) t.match(await said(host), { ...expected, mark: 'two', secret: 1 });
    await asleep(world);
    for (const host of hosts) t.match(await said(host), { ...expected, mark: 'two', secret: 1 }, 'also after a sleep');
    await done(ada, ['rollback', 'shop', '--to', '3']);
    t.match(await said(hosts[0] ?? ''), { ...expected, mark: 'one' }, 'and there is a way back');
  });

  await t.test('the example, whose manifest says what an image cannot', async (t) => {
    const page = join(world.folder, 'page');
    execFileSync('sh', [join(example, 'make-image.sh'), page], { stdio: 'pipe' });
    await done(ada, ['deploy', example, '--image', page]);
    for (let round = 0; round < 2; round += 1) {
      t.match(await ask({ host: hosts[0] ?? '', name: 'page.edge.test', path: '/', timeoutMs: 120_000 }), { status: 200, body: 'This page comes from an OCI image' });
      await asleep(world);
    }
    await done(ada, ['delete', 'page', '--yes']);
  });

  await t.test('one for another architecture is refused, and what serves goes on', async (t) => {
    const foreign = buildImage(folderIn(world, 'foreign'), { architecture: 'arm64' });
    const ran = await ada.conduit(['deploy', folderIn(world, 'empty'), '--image', foreign, '--name', 'shop', '--json']);
    t.equal(ran.exitCode, 4);
    t.match(JSON.parse(ran.stderr), { code: 'image-architecture' });
    t.match(await said(hosts[0] ?? ''), expected);
  });

  await done(ada, ['delete', 'shop', '--yes']);
  await until('nothing of its images is left at the edgepoints', () => artefactsOf(world).length === 0, 120_000);
  await world.stop(t);
});

function folderIn(world: FaultWorld, path: string): string {
  const folder = join(world.folder, path);
  mkdirSync(folder, { recursive: true });
  return folder;
}
