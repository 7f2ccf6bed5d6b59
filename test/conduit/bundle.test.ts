import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { siteA, siteB, until } from '../host/nats.ts';
import { appFolder, bun, plainManifest, run, startConduit, startEdgepoint } from './rig.ts';

t.test('bundled to one file, it runs under plain Node in an empty folder', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-cli-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const built = await run(bun, ['build', 'conduit/cli/main.ts', '--target=node', '--outfile', join(folder, 'conduit.mjs')]);
  t.equal(built.code, 0, built.stderr);
  const conduit = (args: string[], env: Record<string, string> = {}) => run(process.execPath, [join(folder, 'conduit.mjs'), ...args], { cwd: folder, env: { HOME: folder, ...env } });

  const world = await startConduit(t);
  const edgepoints = [await startEdgepoint(t, world.nats, siteA), await startEdgepoint(t, world.nats, siteB, { fail: 'it ended with exit code 3 before it listened' })] as const;
  const token = await world.token('ada');

  t.equal((await conduit(['login', world.url, '--token', token])).code, 0);
  writeFileSync(join(folder, 'index.js'), 'require("http").createServer().listen(process.env.PORT || 8123)\n');
  const init = await conduit(['init']);
  t.equal(init.code, 0, init.stderr);
  t.match(readFileSync(join(folder, 'edgepoint.toml'), 'utf8'), /command = \["node", "index\.js"\][\s\S]*port = 8123/);
  t.match(await conduit(['init', '--json']), { code: 4, stdout: '' }, 'it never writes over one');

  writeFileSync(join(folder, '.edgepointignore'), 'conduit.mjs\n.config/\n');
  const name = /app = "(.*)"/.exec(readFileSync(join(folder, 'edgepoint.toml'), 'utf8'))?.[1] ?? '';
  const deploy = await conduit(['deploy']);
  t.equal(deploy.code, 1, 'a deploy that fails somewhere is no success');
  t.match(deploy.stdout, /2 files/, 'what is ignored is not packed');
  t.match(deploy.stdout, /south\/two {2}failed .*it ended with exit code 3/);
  t.match(deploy.stderr, new RegExp(`the deploy of ${name} is not done: ready at 1 of 2 edgepoints; failed at south\\.two \\(it ended with exit code 3`));
  t.match((await conduit(['status', name])).stdout, /partly-failed[\s\S]*failed +it ended with exit code 3/);

  const owner = { provider: 'ada', scope: 'main', app: name };
  for (let line = 1; line <= 5; line += 1) await edgepoints[0].log(owner, `line ${line}\n`);
  await edgepoints[1].log(owner, 'elsewhere \u001b[31mred\n');
  const logs = await conduit(['logs', name, '-n', '3']);
  t.match(logs.stdout, /line 4\n.*line 5\n.*south\/two i-1 {2}elsewhere \ufffd\[31mred\n$/, 'the last ones, and nothing that commands a terminal');
  t.notMatch(logs.stdout, /line 3/);
  const asJson = await conduit(['logs', name, '--json']);
  t.equal(asJson.stdout.trim().split('\n').map((line) => JSON.parse(line) as { text: string }).length, 6);

  for (const edgepoint of edgepoints) t.equal(edgepoint.desired.get(name)?.manifest.port, 8123);
});

t.test('following logs goes on until it is ended', async (t) => {
  const world = await startConduit(t);
  const edgepoint = await startEdgepoint(t, world.nats, siteA);
  await startEdgepoint(t, world.nats, siteB);
  const token = await world.token('ada');
  t.equal((await world.cli(['deploy', appFolder(t, plainManifest('hello'))], { token })).code, 0);
  t.equal((await world.cli(['logs', 'hello'], { token })).stdout, '', 'an app that has written nothing ends at once');
  const owner = { provider: 'ada', scope: 'main', app: 'hello' };
  await edgepoint.log(owner, 'before\n');
  const following = await world.ask(token, '/apps/hello/logs?follow=1');
  const reader = following.body?.pipeThrough(new TextDecoderStream()).getReader();
  let seen = '';
  const reading = (async () => {
    for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) seen += next.value;
  })();
  await until('what was there comes first', () => seen.includes('before'));
  await edgepoint.log(owner, 'after\n');
  await until('then what comes', () => seen.includes('after'));
  const operator = await world.nats.bus('operator');
  const consumers = async (): Promise<number> => (JSON.parse(await operator.request('$JS.API.CONSUMER.LIST.LOGS', '{}', 3000)) as { total: number }).total;
  t.equal(await consumers(), 1);
  await reader?.cancel();
  await reading;
  await until('a reader that is gone leaves nothing behind on the message server', async () => (await consumers()) === 0);
});

t.test('usage is what metering says, and only one’s own', async (t) => {
  const world = await startConduit(t);
  const token = await world.token('ada');
  const metering = await world.nats.bus('metering');
  const asked: unknown[] = [];
  let provider = 'ada';
  metering.reply('metering.query', async (text) => {
    asked.push(JSON.parse(text));
    const totals = { cpuNs: 1, memoryByteSeconds: 1, bytesIn: 1, bytesOut: 1, requests: 3, wakes: 1, storageByteSeconds: 1 };
    return JSON.stringify({
      v: '1.0', provider, currency: 'EUR', apps: [{ scope: 'main', app: 'hello', instances: 1, totals }], totalMicros: 1_234_567,
      lines: [{ scope: 'main', app: 'hello', charge: 'requests', quantity: 3, unit: 'requests', per: 1_000_000, priceMicros: 200_000, amountMicros: 1_234_567 }],
    });
  });
  await until('metering answers', async () => (await world.ask(token, '/usage')).status === 200);
  const told = await world.cli(['usage', 'hello'], { token });
  t.match(told.stdout, /hello +requests +3 requests +0\.200000 EUR per 1,000,000 +1\.234567 EUR\ntotal 1\.234567 EUR\n$/);
  t.match(asked.at(-1), { provider: 'ada', app: 'hello' });
  t.match(JSON.parse((await world.cli(['usage', '--json'], { token })).stdout), { provider: 'ada', totalMicros: 1_234_567 });
  provider = 'bob';
  t.match(await world.cli(['usage'], { token }), { code: 1, stdout: '', stderr: /metering answered what is not understood/ });
});
