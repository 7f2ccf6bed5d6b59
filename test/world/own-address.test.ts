import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { request } from 'node:http';
import t from 'tap';
import type { Test } from 'tap';
import { bunPath, holdWorld, runProgram } from './held-world.ts';
import type { HeldWorld } from './held-world.ts';
import { tcpPort, writeOwnApp } from './own-app.ts';
import { tracesOf } from './traces.ts';

interface Greeted {
  readonly line?: string;
  readonly error?: string;
  readonly ms: number;
  readonly local: string;
  readonly localPort: number;
}

interface EndUser {
  readonly ipv4: string;
  readonly ipv6: string;
  do<T>(command: string, about: Record<string, unknown>): Promise<T>;
}

interface Site {
  readonly edgepoint: string;
  readonly own?: { ipv4: string; ipv6: string };
  readonly instances: Record<string, number>;
}

/** By the app's greeting. */
const instanceOf = (greeted: Greeted): string => greeted.line?.split(' ')[1] ?? '';
const peerOf = ({ line }: Greeted): string => (line?.split(' ')[3] ?? '').replace('::ffff:', '');
const peerPortOf = ({ line }: Greeted): number => Number(line?.split(' ')[4]);

t.test('own addresses', async (t) => {
  const home = mkdtempSync('/var/tmp/edgepoint-own-');
  t.teardown(() => rmSync(home, { recursive: true, force: true }));
  const world = await holdWorld();
  t.teardown(() => world.stop());
  const token = await world.call<string>('newProvider', { name: 'ada' });
  const conduit = (args: readonly string[]) => runProgram('env', [`HOME=${home}`, bunPath, join(import.meta.dirname, '../../conduit/cli/main.ts'), ...args]);
  t.match(await conduit(['login', world.description.conduitUrl, '--token', token]), { exitCode: 0 });
  const deploy = async (path: string): Promise<void> => {
    const deployed = await conduit(['deploy', path]);
    t.equal(deployed.exitCode, 0, `${deployed.stdout}\n${deployed.stderr}`);
  };
  const siteOf = async (app: string, edgepoint = 'paris'): Promise<Site> => {
    const { stdout } = await conduit(['status', app, '--json']);
    const answer = JSON.parse(stdout) as { sites: { edgepoint: string; state: Site }[] };
    const found = answer.sites.find((site) => site.edgepoint === edgepoint);
    if (found === undefined) throw new Error(stdout);
    return { ...found.state, edgepoint };
  };
  const awake = async (app: string): Promise<number> => {
    const { instances } = await siteOf(app);
    return Object.entries(instances).reduce((sum, [mode, count]) => sum + (mode === 'asleep' ? 0 : count), 0);
  };
  const sleeps = async (app: string, deadlineMs = 20_000): Promise<void> => {
    const deadline = Date.now() + deadlineMs;
    while ((await awake(app)) > 0) {
      if (Date.now() > deadline) throw new Error(`${app} is still awake after ${deadlineMs} ms`);
      await pause(100);
    }
  };
  const ann = await endUser(t, world, 'ann', 'berlin');

  await deploy(writeOwnApp(home, { app: 'echo', scale: 'idleSeconds = 1\nmax = 1' }));
  await sleeps('echo');
  const { own } = await siteOf('echo');
  if (own === undefined) throw new Error('it has no address of its own');
  const families = [['IPv4', own.ipv4, ann.ipv4], ['IPv6', own.ipv6, ann.ipv6]] as const;

  await t.test('its names lead to it, in both families', async (t) => {
    for (const [type, address] of [['A', own.ipv4], ['AAAA', own.ipv6]]) {
      const { stdout } = await world.call<{ stdout: string }>('runIn', { netns: clientNetns(world, 'ann'), argv: ['kdig', '+short', `@${world.description.dnsAddresses[0]}`, 'echo.edge.test', type] });
      t.equal(stdout.trim().split('\n')[0], address);
    }
  });

  for (const [family, address, from] of families) {
    await t.test(`${family}: the first connections find it asleep, and are all answered by one wake, which sees who they are`, async (t) => {
      await sleeps('echo');
      const greeted = await ann.do<Greeted[]>('tcp', { host: address, port: tcpPort, count: 5 });
      t.strictSame(greeted.map(({ error }) => error), Array.from({ length: 5 }), 'all are answered');
      t.equal(new Set(greeted.map(instanceOf)).size, 1, 'by one instance');
      for (const one of greeted) t.strictSame([peerOf(one), peerPortOf(one)], [from, one.localPort], 'the true peer');
      // A SYN that was dropped is sent again after a second.
      t.ok(Math.max(...greeted.map(({ ms }) => ms)) < 950, `held, not sent again: ${greeted.map(({ ms }) => ms.toFixed(0)).join(', ')} ms`);
      const [again] = await ann.do<Greeted[]>('tcp', { host: address, port: tcpPort });
      t.match(again, { line: /^tcp/ });
      t.strictSame(again && peerOf(again), from, 'and while it is awake');
    });

    await t.test(`${family}: no datagram that finds it asleep is lost`, async (t) => {
      await sleeps('echo');
      const answers = await ann.do<Greeted[]>('udp', { host: address, port: 53, text: 'hello', count: 20 });
      t.strictSame(answers.map(({ error }) => error), Array.from({ length: 20 }), 'all are answered');
      for (const one of answers) t.strictSame([peerOf(one), peerPortOf(one)], [from, one.localPort], 'the true peer');
    });
  }

  await t.test('HTTP at its name and other ports of its address', async (t) => {
    const page = await world.call<{ stdout: string }>('runIn', { netns: clientNetns(world, 'ann'), argv: ['curl', '-s', '-m', '10', '--resolve', `echo.edge.test:80:${own.ipv4}`, 'http://echo.edge.test/'] });
    t.match(page.stdout, /^http /, 'HTTP comes by the shared address');
    for (const port of [22, 3000, 7001]) t.match(await ann.do('tcp', { host: own.ipv4, port, timeoutMs: 2000 }), [{ error: 'ECONNREFUSED' }], `nothing at port ${port}`);
  });
});

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const clientNetns = (world: HeldWorld, name: string): string => `ep-${world.description.id}-${name}`;

async function endUser(t: Test, world: HeldWorld, name: string, place: string): Promise<EndUser> {
  const { netns, ipv4, ipv6 } = await world.call<{ netns: string; ipv4: string; ipv6: string }>('addClient', { name, place });
  const child = spawn('ip', ['netns', 'exec', netns, process.execPath, join(import.meta.dirname, 'end-user.mjs')], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => child.kill());
  const waiting = new Map<number, (result: unknown) => void>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { id, result } = JSON.parse(line) as { id: number; result: unknown };
    waiting.get(id)?.(result);
    waiting.delete(id);
  });
  let lastId = 0;
  return {
    ipv4,
    ipv6,
    do: <T>(command: string, about: Record<string, unknown>) =>
      new Promise<T>((resolve) => {
        lastId += 1;
        waiting.set(lastId, resolve as (result: unknown) => void);
        child.stdin.write(`${JSON.stringify({ id: lastId, command, ...about })}\n`);
      }),
  };
}

void request;
void tracesOf;
