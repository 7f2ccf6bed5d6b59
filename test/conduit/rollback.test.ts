import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { chooseRollback, keptReleases } from '../../conduit/rollback.ts';
import type { StoredRelease } from '../../conduit/store/apps.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import { siteA, siteB, until } from '../host/nats.ts';
import { appFolder, plainManifest, startConduit, startEdgepoint } from './rig.ts';

const stored = (release: number): StoredRelease => ({
  release,
  artefactDigest: `sha256:${'0'.repeat(64)}`,
  artefactBytes: 1,
  manifest: manifestSchema.parse({ app: 'shop', command: ['node'], port: 1 }),
  deployId: `dp-${release}`,
  createdWallMs: release,
  env: {},
  secrets: '',
  about: '',
  served: true,
});

const rows: readonly (readonly [story: string, current: number, newest: number, to: number | null, chosen: number | string])[] = [
  ['the one before', 3, 3, null, 2],
  ['further back after a way back', 2, 3, null, 1],
  ['one that is named', 3, 3, 1, 1],
  ['forward again', 1, 3, 3, 3],
  ['the one that serves', 3, 3, 3, 'release-serves'],
  ['one there never was', 3, 3, 9, 'release-unknown'],
  ['there is only one', 1, 1, null, 'release-unknown'],
  ['the oldest that is kept', 9, 9, 9 - keptReleases + 1, 9 - keptReleases + 1],
  ['one that is kept no longer', 9, 9, 9 - keptReleases, 'release-unknown'],
  ['before the oldest that is kept', 5, 9, null, 'release-unknown'],
];

t.test('which release is gone back to', async (t) => {
  for (const [story, current, newest, to, chosen] of rows) {
    const releases = Array.from({ length: newest }, (_, index) => stored(newest - index));
    const choose = (): number => chooseRollback({ app: 'shop', current, releases, to }).release;
    if (typeof chosen === 'number') t.equal(choose(), chosen, story);
    else t.throws(choose, { code: chosen }, story);
  }
});

t.test('a provider goes back to a release, and forward again', async (t) => {
  const world = await startConduit(t);
  const edgepoint = await startEdgepoint(t, world.nats, siteA);
  await startEdgepoint(t, world.nats, siteB);
  const token = await world.token('ada');
  const cli = (...words: string[]): ReturnType<typeof world.cli> => world.cli(words, { token });
  const deploy = async (text: string): Promise<void> => {
    const ran = await cli('deploy', appFolder(t, plainManifest('shop'), { 'server.js': `// ${text}\n` }), '--no-watch');
    t.equal(ran.code, 0, ran.stderr);
  };
  for (const text of ['one', 'two', 'three']) await deploy(text);
  const only = await cli('rollback', 'shop', '--to', '3');
  t.match(only, { code: 5, stderr: /release 3 of shop is the one that serves\n {2}Releases that can be gone back to: 2, 1\./ });

  const back = await cli('rollback', 'shop');
  t.equal(back.code, 0, back.stderr);
  t.match(back.stdout, /release 2 goes to north\/one, south\/two .*ready: http:\/\/shop\.edge\.test\//s);
  t.equal(edgepoint.desired.get('shop')?.release, 2);
  const listed = JSON.parse((await cli('releases', 'shop', '--json')).stdout);
  t.match(listed, { app: 'shop', current: 2, releases: [{ release: 3, kept: true, current: false }, { release: 2, current: true }, { release: 1, kept: true }] });
  t.match((await cli('releases', 'shop')).stdout, /RELEASE.*\n3 +kept .*\n2 +serves .*\n1 +kept /);
  t.match(JSON.parse((await cli('status', 'shop', '--json')).stdout), { release: 2, condition: 'asleep' });

  const first = edgepoint.desired.get('shop')?.deployId;
  t.equal((await cli('rollback', 'shop', '--to', '3')).code, 0, 'forward again');
  t.equal((await cli('rollback', 'shop', '--to', '2', '--json')).code, 0);
  t.not(edgepoint.desired.get('shop')?.deployId, first, 'each is a deploy of its own');
  await deploy('four');
  await until('the next one counts on from the newest', () => edgepoint.desired.get('shop')?.release === 4);

  t.match(await cli('rollback', 'shop', '--to', '7'), { code: 5, stderr: /shop has no release 7 that is kept/ });
  t.match(await cli('rollback', 'shop', '--to', 'x'), { code: 2, stderr: /"x" is no number of a release/ });
  t.match(await cli('rollback', 'nothing'), { code: 5, stderr: /you have no app named "nothing"/ });
  const other = await world.token('eve');
  t.match(await world.cli(['rollback', 'shop'], { token: other }), { code: 5, stderr: /you have no app named "shop"/ }, 'nobody else can');
  t.match(await world.cli(['releases', 'shop'], { token: other }), { code: 5 });

  for (let release = 5; release <= keptReleases + 3; release += 1) await deploy(`release ${release}`);
  const artefacts = join(world.folder, 'uploads/artefacts');
  t.equal(readdirSync(artefacts).length, keptReleases, 'the artefacts of older ones are gone');
});
