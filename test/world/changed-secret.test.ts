import t from 'tap';
import type { ReleasesAnswer } from '../../conduit/api/answers.ts';
import { asleep, openFaultWorld, until, writeApp } from './faults/fault-world.ts';
import { startProber } from './faults/prober.ts';
import { conduit, digestOf, saidBy, server, setSecret } from './secret-app.ts';
import type { Said } from './secret-app.ts';

t.test('a secret is changed under load without a lost request', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  const [first] = world.edgepoints;
  if (first === undefined) throw new Error('a world without an edgepoint');
  await ada.deploy(writeApp(world.folder, 'shop', { server, manifest: '[scale]\nidleSeconds = 2\n' }));
  await setSecret(world, ada, 'shop', 'hidden-one');
  const lanes = (['kept', 'fresh'] as const).flatMap((connection) => (['GET', 'POST'] as const).map((method) => ({ name: 'shop.edge.test', connection, method, pauseMs: 5 })));
  const prober = startProber(first.ipv4, 'secrets', lanes);
  t.teardown(() => prober.stop());
  await until('requests are answered', () => prober.probes.length > 200);
  const rows: readonly (readonly [what: string, change: () => Promise<unknown>, key: string, mark: string | undefined])[] = [
    ['a secret set anew', () => setSecret(world, ada, 'shop', 'hidden-two'), 'hidden-two', undefined],
    ['a variable', () => conduit(ada, ['env', 'set', 'MARK=here', '--app', 'shop']), 'hidden-two', 'here'],
    ['a way back', () => conduit(ada, ['rollback', 'shop', '--to', '2']), 'hidden-one', undefined],
  ];
  for (const [what, change, key, mark] of rows) {
    const before = prober.probes.length;
    const beganMs = performance.now();
    await change();
    // While the old instances drain either may answer (decision 150).
    const isNew = (said: Said): boolean => said.env === digestOf(key) && said.file === digestOf(key) && said.mark === mark;
    for (const { ipv4 } of world.edgepoints) {
      let inARow = 0;
      await until(`${what}: the app answers with it, and soon with nothing else`, async () => {
        inARow = isNew(await saidBy(ipv4, 'shop')) ? inARow + 1 : 0;
        return inARow === 20;
      });
    }
    const wellFrom = prober.probes.length;
    await until('requests go on', () => prober.probes.length > wellFrom + 100);
    const bad = prober.probes.slice(before).filter(({ endedMs, status }) => endedMs !== 0 && status !== 200);
    t.same(bad.map(({ status, error }) => `${status} ${error}`), [], `${what}: of ${prober.probes.length - before} requests none was lost`);
    t.comment(`${what}: ${Math.round(performance.now() - beganMs)} ms, ${prober.probes.length - before} requests meanwhile`);
  }
  const needy = `if (!process.env.KEY) { console.log('there is no KEY'); process.exit(2); }\n`;
  const [head = '', ...rest] = server.split("const bootedMs");
  const ran = await ada.conduit(['deploy', writeApp(world.folder, 'needy', { server: `${head}${needy}const bootedMs${rest.join('const bootedMs')}` })]);
  t.match(ran, { exitCode: 1, stdout: /there is no KEY/ }, 'an app that cannot begin without its secret fails at its first deploy');
  await setSecret(world, ada, 'needy', 'hidden-three');
  for (const { ipv4 } of world.edgepoints) t.match(await saidBy(ipv4, 'needy'), { env: digestOf('hidden-three') }, 'and begins as soon as it is set: no release before it serves');
  await prober.stop();
  t.same(prober.probes.filter(({ status }) => status !== 200), [], `${prober.probes.length} requests, none lost`);
  const { releases } = await ada.json<ReleasesAnswer>(['releases', 'shop']);
  t.same(releases.map(({ release, about, current }) => [release, about, current]), [[4, 'env: set MARK', false], [3, 'secrets: set KEY', false], [2, 'secrets: set KEY', true], [1, '', false]]);
  for (const app of ['shop', 'needy']) await conduit(ada, ['delete', app, '--yes']);
  await asleep(world);
  await world.stop(t);
});
