import { execFile, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { DispatcherState, dumpMessage } from '../../global-dispatcher/state.ts';
import { NameTable } from '../../global-dispatcher/zone.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import { unboundConfig } from '../../world/resolver.ts';
import { berlin, edgepoint, identity, nameText, newYork, tell } from '../global-dispatcher/fixtures.ts';
import { startDispatcher } from '../global-dispatcher/start.ts';
import { until } from '../host/nats.ts';

const run = promisify(execFile);

/** A network namespace joined to ours by a veth; in it a resolver and the addresses of its clients. */
function makeNetwork(t: { teardown(callback: () => void): void }): { netns: string; net: string } {
  const netns = `edns${process.pid}`;
  const net = `10.${128 + (process.pid % 64)}`;
  const veth = `edns${process.pid}h`.slice(-15);
  t.teardown(() => execFileSync('ip', ['netns', 'del', netns]));
  execFileSync('ip', ['netns', 'add', netns]);
  execFileSync('ip', ['link', 'add', veth, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns]);
  execFileSync('ip', ['addr', 'add', `${net}.0.1/24`, 'dev', veth]);
  execFileSync('ip', ['link', 'set', veth, 'up']);
  const inside = (...words: string[]): unknown => execFileSync('ip', ['-n', netns, ...words]);
  inside('addr', 'add', `${net}.0.2/24`, 'dev', 'eth0');
  for (const client of ['1.9', '2.9', '4.9']) inside('addr', 'add', `${net}.${client}/32`, 'dev', 'lo');
  inside('link', 'set', 'lo', 'up');
  inside('link', 'set', 'eth0', 'up');
  return { netns, net };
}

t.test('a real resolver in front: each client network gets its own answer, and each answer is kept for that network', async (t) => {
  const { netns, net } = makeNetwork(t);
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-resolver-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const state = new DispatcherState(new NameTable(identity), 1);
  const sites = ['eu.ber', 'us.nyc'];
  for (const app of ['shop', 'news']) state.applyName(`p.main.${app}`, nameText(app, [`${app}.edge.test`], sites), 1);
  tell(state, edgepoint('eu.ber', '198.51.100.1', berlin));
  tell(state, edgepoint('us.nyc', '198.51.100.2', newYork));
  const dumpPath = join(folder, 'state.json');
  writeFileSync(dumpPath, encodeMessage(dumpMessage, state.dump(0)));
  const dispatcher = startDispatcher(t, {
    listen: [`${net}.0.1:53`],
    cacheFile: dumpPath,
    ttlSeconds: 300,
    userLocations: { [`${net}.1.0/24`]: berlin, [`${net}.2.0/24`]: newYork },
  });
  await until('the dispatcher answers', async () => (await dispatcher.healthy()) !== null);

  const config = join(folder, 'unbound.conf');
  const resolver = `${net}.0.2`;
  writeFileSync(config, unboundConfig({ listen: [resolver], clientSubnets: [`${net}.0.0/16`], zoneName: 'edge.test', dispatchers: [`${net}.0.1`], folder }));
  const unbound = spawn('ip', ['netns', 'exec', netns, 'unbound', '-d', '-p', '-c', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  unbound.stderr.on('data', (bytes: Buffer) => (said = `${said}${bytes.toString()}`.slice(-10_000)));
  const ended = new Promise((resolve) => unbound.once('exit', resolve));
  t.teardown(async () => {
    unbound.kill('SIGTERM');
    await ended;
  });
  const dig = async (client: string, ...words: string[]): Promise<string> => {
    const { stdout } = await run('ip', ['netns', 'exec', netns, 'kdig', `@${resolver}`, '-b', `${net}.${client}`, '+time=2', '+retry=0', ...words]).catch((thrown: { stdout: string }) => thrown);
    return stdout;
  };
  const short = async (client: string, ...words: string[]): Promise<string> => (await dig(client, '+short', ...words)).trim();
  await until(`unbound answers\n${said}`, async () => (await short('1.9', 'edge.test', 'NS')) === 'ns1.edge.test.');

  const asked = async (): Promise<number> => {
    const lines = (await dispatcher.metrics()).split('\n').filter((line) => line.startsWith('edgepoint_dispatcher_queries_total{type="A",'));
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  };
  t.match(await short('4.9', 'shop.edge.test', 'A'), /^198\.51\.100\.[12]$/, 'a client of an unknown place comes first');
  t.equal(await short('1.9', 'shop.edge.test', 'A'), '198.51.100.1', 'a client near Berlin');
  t.equal(await short('2.9', 'shop.edge.test', 'A'), '198.51.100.2', 'a client near New York');
  const before = await asked();
  for (const [client, address] of [['1.9', '198.51.100.1'], ['2.9', '198.51.100.2'], ['1.9', '198.51.100.1']] as const) t.equal(await short(client, 'shop.edge.test', 'A'), address, 'again');
  t.equal(await asked(), before, 'from the resolver\'s cache');
  t.equal(await short('2.9', 'news.edge.test', 'A'), '198.51.100.2');
  t.equal(await short('1.9', 'news.edge.test', 'A'), '198.51.100.1');
  t.equal(await short('2.9', 'shop.edge.test', 'AAAA'), '2001:db8::2');
  t.equal(await short('1.9', 'shop.edge.test', 'A', '+tcp'), '198.51.100.1');
  t.match(await dig('1.9', 'nope.edge.test', 'A'), /status: NXDOMAIN/);
  t.match(await dig('1.9', 'shop.edge.test', 'MX'), /status: NOERROR[^]*AUTHORITY: 1/);
  t.match(await dig('1.9', 'example.com', 'A'), /status: REFUSED/, 'it never asks the world outside');
});
