import t from 'tap';
import { whyNoCanary } from '../../conduit/canary.ts';
import { supersededBy } from '../../conduit/follow-deploy.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import { nameEntryMessage } from '../../kit/wire/desired.ts';
import { parseMessage } from '../../kit/wire/version.ts';
import { siteA, siteB, until } from '../host/nats.ts';
import { appFolder, plainManifest, startConduit, startEdgepoint } from './rig.ts';

const manifest = (more: object = {}) => manifestSchema.parse({ app: 'shop', command: ['node'], port: 1, ...more });
const volume = { volume: [{ name: 'data', path: '/data', sizeMegabytes: 8 }] };
const shared = { volume: [{ name: 'data', path: '/data', sizeMegabytes: 8, shareable: true }] };

t.test('which releases can be canaries', async (t) => {
  const rows = [
    ['plain ones', {}, {}, null],
    ['the one that serves keeps its state', { state: 'keep' }, {}, /its memory is kept \(state = "keep"\), so it has one instance/],
    ['the new one keeps its state', {}, { state: 'keep' }, /its memory is kept/],
    ['a volume', {}, volume, /two releases would not share its volume "data"/],
    ['a volume that instances share', shared, {}, /two releases would not share its volume "data"/],
  ] as const;
  for (const [story, serving, next, why] of rows) {
    const refusal = whyNoCanary('shop', [manifest(serving), manifest(next)]);
    if (why === null) t.equal(refusal, null, story);
    else t.match(refusal, { code: 'canary-not-possible', message: why }, story);
  }
});

t.test('when a deploy is watched no longer', async (t) => {
  const rows = [
    [{ release: 2, canary: false }, { serving: 2, canary: 3 }, ''],
    [{ release: 2, canary: false }, { serving: 3, canary: null }, 'release 3 has taken its place'],
    [{ release: 3, canary: true }, { serving: 2, canary: 3 }, ''],
    [{ release: 3, canary: true }, { serving: 2, canary: null }, 'the canary has been taken away'],
    [{ release: 3, canary: true }, { serving: 2, canary: 4 }, 'release 4 has taken its place as the canary'],
    [{ release: 3, canary: true }, { serving: 3, canary: null }, 'the canary has been promoted'],
    [{ release: 3, canary: true }, null, 'the app has been deleted'],
  ] as const;
  for (const [deploy, now, said] of rows) t.equal(supersededBy(deploy, now), said, JSON.stringify([deploy, now]));
});

t.test('a canary is begun, changed, promoted and taken away', async (t) => {
  const world = await startConduit(t);
  const edgepoints = [await startEdgepoint(t, world.nats, siteA), await startEdgepoint(t, world.nats, siteB)];
  const token = await world.token('ada');
  const cli = (...words: string[]): ReturnType<typeof world.cli> => world.cli(words, { token });
  const json = async (...words: string[]) => JSON.parse((await cli(...words, '--json')).stdout);
  const deploy = (text: string, ...more: string[]) => cli('deploy', appFolder(t, plainManifest('shop'), { 'server.js': `// ${text}\n` }), ...more);
  /** Both edgepoints agree: release and share of the app and of its canary. */
  const wished = async (serving: number, canary: number | null, percent: number | null): Promise<void> =>
    until(`release ${serving} serves, ${canary} is the canary`, () =>
      edgepoints.every(({ desired }) => {
        const beside = desired.get('shop (canary)');
        return desired.get('shop')?.release === serving && (beside?.release ?? null) === canary && (beside?.canaryPercent ?? null) === percent;
      }),
    );

  t.match(await deploy('one', '--canary', '10'), { code: 5, stderr: /shop has no release yet, so there is nothing for a canary to stand beside\n {2}Deploy it once without --canary/ });
  t.equal((await deploy('one')).code, 0);
  t.match(await cli('canary', 'shop', '--percent', '20'), { code: 5, stderr: /shop has no canary/ });
  t.match(await cli('promote', 'shop'), { code: 5, stderr: /shop has no canary/ });
  t.match(await cli('abort', 'shop'), { code: 5, stderr: /shop has no canary/ });
  for (const percent of ['0', '100', '1.5', 'ten']) t.match(await deploy('two', '--canary', percent), { code: 2, stderr: /is no part of the requests/ }, percent);

  const begun = await deploy('two', '--canary', '10');
  t.equal(begun.code, 0, begun.stderr);
  t.match(begun.stdout, /release 2 goes to north\/one, south\/two as a canary, with 10 % of the requests .*ready: http:\/\/shop\.edge\.test\//s);
  await wished(1, 2, 10);
  const [first] = edgepoints;
  const name = parseMessage(nameEntryMessage, (await (await world.nats.bus('conduit')).getKv('names', 'ada.main.shop')) ?? '');
  t.same(name.ok && name.value.hosts, ['shop.edge.test']);
  t.equal(await (await world.nats.bus('conduit')).getKv('names', 'ada.canary.shop'), null, 'it has no name of its own');
  t.match(first?.desired.get('shop (canary)'), { scope: 'canary', hosts: ['shop.edge.test'], uidSlot: first?.desired.get('shop')?.uidSlot, cronSite: '' });
  t.match(await json('status', 'shop'), { release: 1, condition: 'asleep', canary: { release: 2, percent: 10, sites: [{ state: { status: 'ready', release: 2 } }, { state: { scope: 'canary' } }] } });
  t.match((await cli('status', 'shop')).stdout, /canary {2}release 2, 10 % of the requests\n\n {2}north\/one {2}ready/);
  t.match((await cli('releases', 'shop')).stdout, /\n2 +canary, 10 % .*\n1 +serves /);

  const before = first?.desired.get('shop (canary)')?.deployId;
  const wishesOfApp = (): number => first?.seen.filter(({ key }) => key.endsWith('ada.main.shop')).length ?? 0;
  const wishes = wishesOfApp();
  t.match(await cli('canary', 'shop', '--percent', '50'), { code: 0, stdout: /as a canary, with 50 % .*ready: /s });
  await wished(1, 2, 50);
  t.not(first?.desired.get('shop (canary)')?.deployId, before, 'it is a deploy of its own');
  t.equal(wishesOfApp(), wishes, 'the app itself is not wished anew');

  t.match(await cli('promote', 'shop'), { code: 0, stdout: /release 2 goes to north\/one, south\/two \(.*ready: /s });
  await wished(2, null, null);
  const order = (first?.seen ?? []).map(({ key, text }) => `${key.split('.').slice(-2).join('.')} ${text === null ? 'gone' : (JSON.parse(text) as { release?: number }).release ?? ''}`);
  t.ok(order.lastIndexOf('main.shop 2') < order.lastIndexOf('canary.shop gone'), 'the app is wished first');
  t.match(await json('status', 'shop'), { release: 2, canary: null });

  t.equal((await deploy('three', '--canary', '1')).code, 0);
  await wished(2, 3, 1);
  t.equal((await deploy('four', '--canary', '99')).code, 0, 'another canary takes its place');
  await wished(2, 4, 99);
  t.match(await cli('abort', 'shop'), { code: 0, stdout: 'Release 4 is no canary of shop any more.\n' });
  await wished(2, null, null);

  t.equal((await deploy('five', '--canary', '5')).code, 0);
  await wished(2, 5, 5);
  t.equal((await deploy('six')).code, 0, 'a deploy ends the canary');
  await wished(6, null, null);
  t.match((await json('releases', 'shop')).releases, [{ release: 6, kept: true }, { release: 5, kept: false }, { release: 4, kept: false }, { release: 3, kept: false }, { release: 2, kept: true }, { release: 1, kept: true }]);
  t.match(await cli('rollback', 'shop', '--to', '5'), { code: 5, stderr: /shop has no release 5 that is kept/ }, 'a canary that never served is nothing to go back to');
  t.equal((await deploy('seven', '--canary', '5')).code, 0);
  await wished(6, 7, 5);
  t.equal((await cli('rollback', 'shop')).code, 0, 'so does a way back');
  await wished(2, null, null);
  t.equal((await deploy('eight', '--canary', '5')).code, 0);
  await wished(2, 8, 5);
  const other = await world.token('eve');
  for (const words of [['canary', 'shop', '--percent', '9'], ['promote', 'shop'], ['abort', 'shop']]) t.match(await world.cli(words, { token: other }), { code: 5, stderr: /you have no app named "shop"/ }, words.join(' '));
  t.equal((await cli('delete', 'shop', '--yes')).code, 0, 'and so does the end of the app');
  await until('nothing is wished any more', () => edgepoints.every(({ desired }) => desired.size === 0));
});

t.test('a canary that fails at its edgepoint is told as failed, and the app is not', async (t) => {
  const world = await startConduit(t);
  const edgepoint = await startEdgepoint(t, world.nats, siteA);
  await startEdgepoint(t, world.nats, siteB);
  const token = await world.token('ada');
  const folder = appFolder(t, plainManifest('shop'));
  t.equal((await world.cli(['deploy', folder], { token })).code, 0);
  t.equal((await world.cli(['deploy', folder, '--canary', '10'], { token })).code, 0);
  await edgepoint.say({ scope: 'canary', app: 'shop', status: 'failed', reason: 'half of its answers were errors' });
  const status = async () => JSON.parse((await world.cli(['status', 'shop', '--json'], { token })).stdout);
  let last: Awaited<ReturnType<typeof status>> = {};
  for (let tries = 0; tries < 50 && last?.canary?.sites?.[0]?.state?.status !== 'failed'; tries += 1) last = await status();
  t.match(last, { condition: 'asleep', canary: { sites: [{ state: { status: 'failed', reason: 'half of its answers were errors' } }, { state: { status: 'ready' } }] } });
  t.match((await world.cli(['status', 'shop'], { token })).stdout, /failed +half of its answers were errors/);
  await world.kill('SIGKILL');
  await world.start();
  await until('it is known after a crash', () => edgepoint.desired.get('shop (canary)')?.release === 2);
  t.match(await status(), { canary: { release: 2, percent: 10 } });
});
