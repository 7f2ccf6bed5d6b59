import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
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
  readonly own?: { ipv4: string; ipv6: string; ports: { protocol: string; port: number; ipv4Port?: number }[] };
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
  const curl = async (args: readonly string[]): Promise<string> => (await world.call<{ stdout: string }>('runIn', { netns: clientNetns(world, 'ann'), argv: ['curl', '-s', '-m', '15', ...args] })).stdout;

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
    t.match(await curl(['--resolve', `echo.edge.test:80:${own.ipv4}`, 'http://echo.edge.test/']), /^http /, 'HTTP comes by the shared address');
    for (const port of [22, 3000, 7001]) t.match(await ann.do('tcp', { host: own.ipv4, port, timeoutMs: 2000 }), [{ error: 'ECONNREFUSED' }], `nothing at port ${port}`);
  });

  await t.test('where there is no IPv4 range, it has ports of the edgepoint’s own address', async (t) => {
    const denver = world.description.edgepoints.find(({ edgepoint }) => edgepoint === 'denver');
    const at = (await siteOf('echo', 'denver')).own;
    const portOf = (protocol: string): number => at?.ports.find((one) => one.protocol === protocol)?.ipv4Port ?? 0;
    t.equal(at?.ipv4, '');
    const [first] = await ann.do<Greeted[]>('tcp', { host: denver?.ipv4, port: portOf('tcp') });
    t.match(first, { line: /^tcp/ }, 'it was asleep');
    t.equal(first && peerOf(first), ann.ipv4);
    t.match(await ann.do('udp', { host: denver?.ipv4, port: portOf('udp'), text: 'x' }), [{ line: /^udp/ }]);
    const nobodys = [20_000, 20_999].find((port) => port !== portOf('tcp'));
    t.match(await ann.do('tcp', { host: denver?.ipv4, port: nobodys }), [{ error: 'ECONNREFUSED' }]);
    const status = await conduit(['status', 'echo']);
    t.match(status.stdout, `own address  ${own.ipv6}, ${own.ipv4}: tcp 7000, udp 53`);
    t.match(status.stdout, `tcp 7000 (by IPv4 ${portOf('tcp')})`);
  });

  await t.test('it stays awake as long as a connection is open, and sleeps when it is closed', async (t) => {
    await sleeps('echo');
    t.match(await ann.do('hold', { host: own.ipv4, port: tcpPort, name: 'quiet' }), { line: /^tcp/ });
    await pause(4000);
    t.equal(await awake('echo'), 1, 'four times its idle time, without one byte');
    t.equal(await ann.do('send', { name: 'quiet', text: 'still here' }), 'still here');
    await ann.do('close', { name: 'quiet' });
    await sleeps('echo');
    t.equal(await awake('echo'), 0);
  });

  await t.test('what is counted is what was sent', async (t) => {
    const used = async (): Promise<number> => {
      const { stdout } = await conduit(['usage', '--json']);
      const { lines } = JSON.parse(stdout) as { lines: { app: string; charge: string; quantity: number; per: number }[] };
      return lines.filter(({ app, charge }) => app === 'echo' && charge === 'egress').reduce((sum, { quantity }) => sum + quantity, 0);
    };
    await sleeps('echo');
    await pause(1500);
    const before = await used();
    const bytes = 24 * 1024 * 1024;
    t.equal(await ann.do('echo', { host: own.ipv4, port: tcpPort, bytes }), bytes, 'all came back');
    t.equal(await ann.do('echo', { host: own.ipv6, port: tcpPort, bytes }), bytes, 'by IPv6 too');
    await sleeps('echo');
    // Both echoes; the greetings are some hundred bytes.
    const expected = 2 * bytes;
    let counted = 0;
    for (const deadline = Date.now() + 10_000; Date.now() < deadline && counted < expected * 0.99; await pause(200)) counted = (await used()) - before;
    t.ok(Math.abs(counted / expected - 1) < 0.01, `${counted} of ${expected} bytes`);
  });

  await t.test('a flood at an app that sleeps wakes one instance, is bounded, and keeps nobody out for long', async (t) => {
    await deploy(writeOwnApp(home, { app: 'many', scale: 'idleSeconds = 1\nmax = 8\nconcurrency = 1' }));
    await sleeps('many');
    const many = (await siteOf('many')).own?.ipv4 ?? '';
    let most = 0;
    // No handshake of hers comes to an end: that is what a flood of SYNs is.
    const mal = await endUser(t, world, 'mal', 'chicago');
    const rules = 'add table ip half; add chain ip half input { type filter hook input priority 0; }; add rule ip half input tcp flags & (syn | ack) == (syn | ack) drop';
    t.match(await world.call('runIn', { netns: clientNetns(world, 'mal'), argv: ['nft', rules] }), { exitCode: 0 });
    const flooding = mal.do('flood', { host: many, tcpPort, udpPort: 53, count: 2000 });
    let ended = false;
    void flooding.then(() => (ended = true));
    while (!ended) {
      const { instances } = await siteOf('many');
      most = Math.max(most, (instances['warm'] ?? 0) + (instances['restoring'] ?? 0) + (instances['booting'] ?? 0));
      await pause(20);
    }
    t.ok(most <= 1, `${most} awake`);
    t.match(await ann.do('tcp', { host: many, port: tcpPort }), [{ line: /^tcp/ }], 'and it answers');
    await sleeps('many');
  });

  await t.test('an app that keeps its state wakes where it was, by both families', async (t) => {
    await deploy(writeOwnApp(home, { app: 'kept', scale: 'idleSeconds = 1', state: 'keep' }));
    const kept = (await siteOf('kept')).own;
    const by = new Set<string>();
    for (const host of [kept?.ipv4, kept?.ipv6, kept?.ipv4, kept?.ipv6]) {
      await sleeps('kept');
      const [greeted] = await ann.do<Greeted[]>('tcp', { host, port: tcpPort });
      t.match(greeted, { line: /^tcp/ });
      if (greeted !== undefined) by.add(instanceOf(greeted));
    }
    t.equal(by.size, 1, 'always the same instance');
  });

  await t.test('several instances share what comes', async (t) => {
    await deploy(writeOwnApp(home, { app: 'pair', scale: 'idleSeconds = 1\nmin = 2\nmax = 2' }));
    const pair = (await siteOf('pair')).own;
    for (const host of [pair?.ipv4, pair?.ipv6]) {
      for (const deadline = Date.now() + 10_000; (await siteOf('pair')).instances['warm'] !== 2 && Date.now() < deadline; ) await pause(50);
      const by = new Map<string, number>();
      for (const greeted of await ann.do<Greeted[]>('tcp', { host, port: tcpPort, count: 40 })) by.set(instanceOf(greeted), (by.get(instanceOf(greeted)) ?? 0) + 1);
      t.strictSame([...by.values()], [20, 20], 'in turn');
      const answered = await ann.do<Greeted[]>('udp', { host, port: 53, text: 'x', count: 40 });
      t.equal(new Set(answered.map(instanceOf)).size, 2, 'datagrams too');
    }
  });

  await t.test('an instance reaches nobody by own addresses, its own app neither', async (t) => {
    const pair = (await siteOf('pair')).own?.ipv4 ?? '';
    const paris = world.description.edgepoints.find(({ edgepoint }) => edgepoint === 'paris');
    for (const [host, port] of [[pair, tcpPort], [own.ipv4, tcpPort], [own.ipv4, 80], [paris?.ipv4, 80]]) {
      t.match(await curl(['--resolve', `echo.edge.test:80:${own.ipv4}`, `http://echo.edge.test/reach/${host}/${port}`]), /^(silent|E[A-Z]+)$/, `${host} port ${port}`);
    }
  });

  await t.test('a new release takes over without a connection lost, at the same address', async (t) => {
    t.match(await ann.do('hold', { host: own.ipv4, port: tcpPort, name: 'old' }), { line: /^tcp \S+ 1 / });
    let stop = false;
    const seen: Greeted[] = [];
    const probing = (async () => {
      while (!stop) {
        seen.push(...(await ann.do<Greeted[]>('tcp', { host: own.ipv4, port: tcpPort, count: 2 })), ...(await ann.do<Greeted[]>('udp', { host: own.ipv6, port: 53, text: 'x', timeoutMs: 5000 })));
        await pause(20);
      }
    })();
    await deploy(writeOwnApp(home, { app: 'echo', scale: 'idleSeconds = 1\nmax = 1', release: 2 }));
    const until = Date.now() + 20_000;
    while (!seen.at(-1)?.line?.includes(' 2 ') && Date.now() < until) await pause(50);
    t.equal(await ann.do('send', { name: 'old', text: 'old friends' }), 'old friends', 'the connection to the old one goes on');
    await pause(500);
    stop = true;
    await probing;
    await ann.do('close', { name: 'old' });
    t.strictSame(seen.filter(({ error }) => error !== undefined), [], `${seen.length} connections and datagrams`);
    t.match(seen.at(-1)?.line, / 2 /, 'the new one answers');
    t.strictSame((await siteOf('echo')).own, own);
  });

  await t.test('a killed restored leaves what is awake reachable, and what sleeps too once it is back', async (t) => {
    t.match(await ann.do('hold', { host: own.ipv4, port: tcpPort, name: 'through' }), { line: /^tcp/ });
    await world.call('kill', { name: 'paris-restored', signal: 'SIGKILL' });
    t.match(await ann.do('tcp', { host: own.ipv4, port: tcpPort }), [{ line: /^tcp/ }], 'it is awake and answers');
    t.equal(await ann.do('send', { name: 'through', text: 'still' }), 'still');
    await ann.do('close', { name: 'through' });
    await sleeps('echo');
    t.match(await ann.do('tcp', { host: own.ipv6, port: tcpPort }), [{ line: /^tcp/ }], 'it slept and answers');
  });

  await t.test('while the head is away, what comes for an app that sleeps is held until it is back', async (t) => {
    await sleeps('echo');
    await world.call('kill', { name: 'paris-head', signal: 'SIGKILL' });
    const [[tcp], [udp]] = await Promise.all([
      ann.do<Greeted[]>('tcp', { host: own.ipv4, port: tcpPort, timeoutMs: 20_000 }),
      ann.do<Greeted[]>('udp', { host: own.ipv6, port: 53, text: 'x', timeoutMs: 20_000 }),
    ]);
    t.match(tcp, { line: /^tcp/ });
    t.match(udp, { line: /^udp/ });
    await sleeps('echo');
  });

  await t.test('an app that is deleted gives its address back', async (t) => {
    t.match(await conduit(['delete', 'echo', '--yes']), { exitCode: 0 });
    let last: unknown = null;
    for (const deadline = Date.now() + 10_000; Date.now() < deadline; await pause(100)) {
      [last] = await ann.do<Greeted[]>('tcp', { host: own.ipv4, port: tcpPort, timeoutMs: 1000 });
      if ((last as Greeted).error === 'ECONNREFUSED') break;
    }
    t.match(last, { error: 'ECONNREFUSED' });
    const paris = world.description.edgepoints.find(({ edgepoint }) => edgepoint === 'paris');
    const { stdout } = await world.call<{ stdout: string }>('runIn', { netns: paris?.netns, argv: ['nft', 'list', 'table', 'inet', 'edgepoint-own'] });
    t.notMatch(stdout, own.ipv4, 'nothing of it is left in the kernel');
  });

  t.equal(await world.stop(), 0);
  t.strictSame(tracesOf(world.description.id), []);
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
