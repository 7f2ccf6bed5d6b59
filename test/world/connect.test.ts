import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { createClient } from '@libsql/client';
import t from 'tap';
import type { Test } from 'tap';
import { WebSocket } from 'ws';
import { windowBytes } from '../../kit/flow.ts';
import { encodeFrame, readFrame } from '../../kit/wire/access.ts';
import type { AccessClose } from '../../kit/wire/access.ts';
import { ask, asleep, instanceProcesses, openFaultWorld, runCommand, until } from './faults/fault-world.ts';
import type { FaultWorld, Provider } from './faults/fault-world.ts';
import { bunPath } from './held-world.ts';
import { echoPort, redisCli, redisPort, sourcePort, writeRedisApp } from './redis-app.ts';

t.setTimeout(600_000); // a deploy, and daemons that are killed, on whatever machine

const app = 'store';

interface Connected {
  readonly port: number;
  readonly child: ChildProcess;
  /** What it has said on stderr. */
  said(): string;
  stop(): Promise<number | null>;
}

/** The real command, as a process of its own, once it listens. */
async function startConnect(t: Test, world: FaultWorld, provider: Provider, port: number): Promise<Connected> {
  const env = { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', CONDUIT_URL: world.held.description.conduitUrl, CONDUIT_TOKEN: provider.token };
  const child = spawn(bunPath, [join(import.meta.dirname, '../../conduit/cli/main.ts'), 'connect', app, `${port}:0`, '--json'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'exit').then(([exitCode]) => exitCode as number | null);
  let out = '';
  let said = '';
  child.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()));
  child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()));
  const stop = async (): Promise<number | null> => {
    child.kill('SIGTERM');
    return ended;
  };
  t.teardown(stop);
  await until(() => `connect listens: ${out}${said}`, () => out.includes('\n'), 60_000);
  return { port: Number(/127\.0\.0\.1:(\d+)/.exec(out)?.[1]), child, said: () => said, stop };
}

/** Ends by itself, whole, or is cut. */
function ended(socket: Socket): Promise<'whole' | 'cut'> {
  return new Promise((resolve) => {
    socket.once('error', () => resolve('cut'));
    socket.once('close', () => resolve('whole'));
  });
}

t.test('a port of an instance on the provider’s own machine', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeRedisApp(world.folder, app));
  await asleep(world);
  const open = (port: number): Socket => connect({ host: '127.0.0.1', port, allowHalfOpen: true });

  await t.test('redis-cli wakes the app and speaks with its Redis', async (t) => {
    const redis = await startConnect(t, world, ada, redisPort);
    const run = async (...words: string[]): Promise<string> => {
      const ran = await runCommand(redisCli(redis.port, words));
      return `${ran.stdout}${ran.stderr}`.trim();
    };
    t.equal(instanceProcesses(world.id).length, 0, 'nothing is awake before somebody connects');
    t.equal(await run('PING'), 'PONG');
    const held = open(redis.port);
    held.write('SET greeting hello\r\n');
    const [answer] = (await once(held, 'data')) as [Buffer];
    t.equal(answer.toString(), '+OK\r\n');
    // Several idle times: a connection that says nothing keeps its instance.
    await new Promise((resolve) => setTimeout(resolve, 5000));
    held.write('GET greeting\r\n');
    t.equal(((await once(held, 'data')) as [Buffer])[0].toString(), '$5\r\nhello\r\n', 'the same instance answers');
    held.destroy();
    await asleep(world);
    await until('what went through is counted', async () => ((await ada.usage(app))?.bytesOut ?? 0) > 0);
    t.equal(await redis.stop(), 0);
  });

  await t.test('bytes pass whole, and an end passes by itself', async (t) => {
    const echo = await startConnect(t, world, ada, echoPort);
    const sent = randomBytes(8 * 1024 * 1024);
    const socket = open(echo.port);
    const hash = createHash('sha256');
    let received = 0;
    socket.on('data', (bytes: Buffer) => {
      hash.update(bytes);
      received += bytes.length;
    });
    const end = ended(socket);
    socket.end(sent);
    t.equal(await end, 'whole');
    t.equal(received, sent.length);
    t.equal(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'));
    await echo.stop();
  });

  await t.test('who does not read is written no more than a few buffers', async (t) => {
    const source = await startConnect(t, world, ada, sourcePort);
    const socket = open(source.port).pause();
    const address = await awakeAt(world, ada);
    const written = async (): Promise<number> => Number((await ask({ host: address, name: `${app}.edge.test`, path: '/' })).body);
    let before = -1;
    await until('it stops', async () => {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      const now = await written();
      const stands = now > 0 && now === before;
      before = now;
      return stands;
    }, 60_000);
    t.ok(before < 64 * 1024 * 1024, `${before} bytes left the program`);
    socket.destroy();
    await source.stop();
  });

  await t.test('a port where nothing listens', async (t) => {
    const none = await startConnect(t, world, ada, 9);
    t.equal(await ended(open(none.port).resume()), 'cut');
    await until(() => `it is told: ${none.said()}`, () => /"port-silent".*port 9 of the instance does not answer \(ECONNREFUSED\)/.test(none.said()));
    await none.stop();
  });

  await t.test('another’s app, and no app', async (t) => {
    const eve = await world.newProvider('eve');
    t.match(await eve.conduit(['connect', app, `${echoPort}:0`]), { exitCode: 5 });
    t.match(await ada.conduit(['connect', 'Store!', `${echoPort}:0`]), { exitCode: 5 });
    t.match(await ada.conduit(['connect', app, '70000']), { exitCode: 2 });
    t.match(await world.withToken('ep_0_wrong').conduit(['connect', app, `${echoPort}:0`]), { exitCode: 3 });
    t.equal(await upgradeStatus(world, eve.token), 404, 'nor by a WebSocket of one’s own');
    t.equal(await upgradeStatus(world, 'ep_0_wrong'), 401);
  });

  await t.test('frames that are none, and more than was asked for', async (t) => {
    const data = (bytes: number): Uint8Array => Buffer.concat([Buffer.of(3), Buffer.alloc(bytes)]);
    const stories: readonly [string, readonly Uint8Array[], string][] = [
      ['no kind', [Buffer.of(99)], 'access-broken'],
      ['an order to the edgepoint', [encodeFrame({ kind: 'open', open: { provider: 'eve', scope: 'main', app, kind: 'connect', port: echoPort } })], 'access-broken'],
      ['more credit than was spent', [encodeFrame({ kind: 'credit', bytes: windowBytes })], 'access-broken'],
      // Far more than all buffers on the way and back take: what is echoed is never asked for.
      ['more data than there is credit for', Array.from({ length: 2048 }, () => data(32_768)), 'access-broken'],
      ['a frame that is too long', [data(64 * 1024)], ''],
    ];
    for (const [story, frames, code] of stories) t.equal((await talk(world, ada.token, frames)).code, code, story);
    t.match((await ada.status(app)).condition, /awake|asleep/);
  });

  await t.test('a token that is revoked in the middle', async (t) => {
    const second = world.withToken(await world.held.call<string>('newProvider', { name: 'ada' }));
    const echo = await startConnect(t, world, second, echoPort);
    const socket = open(echo.port);
    socket.write('hello');
    t.equal(((await once(socket, 'data')) as [Buffer])[0].toString(), 'hello');
    const end = ended(socket);
    const database = createClient({ url: `file:${join(world.held.description.dataFolder, 'conduit/conduit.db')}` });
    await database.execute({ sql: 'UPDATE tokens SET revokedWallMs = 1 WHERE id = ?', args: [second.token.split('_')[1] ?? ''] });
    database.close();
    t.equal(await end, 'cut');
    t.equal(await once(echo.child, 'exit').then(([exitCode]) => exitCode as number), 3, 'and the command ends');
  });

  await t.test('daemons are killed', async (t) => {
    for (const daemon of ['conduit', 'nats-server', `${(await atEdgepoint(ada)).edgepoint}-head`]) {
      const echo = await startConnect(t, world, ada, echoPort);
      const socket = open(echo.port);
      socket.write('hello');
      t.equal(((await once(socket, 'data')) as [Buffer])[0].toString(), 'hello', `before ${daemon} is killed`);
      const end = ended(socket);
      await world.kill(daemon, 'SIGKILL');
      // With the message server only what was under way is lost: whoever says nothing meanwhile may go on.
      const outcome = daemon === 'nats-server' ? await goesOn(world, socket, end) : await end;
      t.ok(outcome === 'cut' || (outcome === 'goes on' && daemon === 'nats-server'), `${daemon} is killed: ${outcome}`);
      socket.destroy();
      await world.allHealthy(60_000);
      await echo.stop();
      // At the latest when the head has not heard of the conduit for half a minute.
      await until('nothing is awake', () => instanceProcesses(world.id).length === 0, 180_000);
    }
    const echo = await startConnect(t, world, ada, echoPort);
    await until('it works again', async () => {
      const socket = open(echo.port);
      const end = ended(socket);
      socket.once('data', () => socket.end()).end('hello');
      return (await end) === 'whole';
    }, 60_000);
  });

  await t.test('a client that is killed leaves nothing', async (t) => {
    const echo = await startConnect(t, world, ada, echoPort);
    const socket = open(echo.port);
    socket.write('hello');
    await once(socket, 'data');
    const end = once(echo.child, 'exit');
    echo.child.kill('SIGKILL');
    await end;
    socket.destroy();
    await asleep(world);
  });

  t.equal((await ada.conduit(['delete', app, '--yes'])).exitCode, 0);
  await world.stop(t);
});

/** Whether what is said now comes back; a frame that was lost is known at the latest with the next beat. */
async function goesOn(world: FaultWorld, socket: Socket, end: Promise<string>): Promise<string> {
  await world.allHealthy(60_000);
  const answer = once(socket, 'data').then(([bytes]) => ((bytes as Buffer).toString() === 'again' ? 'goes on' : 'wrong'));
  socket.write('again');
  return Promise.race([answer.catch(() => 'cut'), end]);
}

async function atEdgepoint(ada: Provider): Promise<{ edgepoint: string }> {
  const { sites } = await ada.status(app);
  return { edgepoint: sites[0]?.edgepoint ?? '' };
}

/** The address of the edgepoint where it is awake. */
async function awakeAt(world: FaultWorld, ada: Provider): Promise<string> {
  let found = '';
  await until('it is awake somewhere', async () => {
    const site = (await ada.status(app)).sites.find(({ state }) => (state?.instances['warm'] ?? 0) > 0);
    found = world.edgepoints.find(({ edgepoint }) => edgepoint === site?.edgepoint)?.ipv4 ?? '';
    return found !== '';
  });
  return found;
}

const accessUrl = (world: FaultWorld): string => `${world.held.description.conduitUrl.replace(/^http/, 'ws').replace(/\/$/, '')}/v1/apps/${app}/access?port=${echoPort}`;

function upgradeStatus(world: FaultWorld, token: string): Promise<number> {
  return new Promise((resolve) => {
    const socket = new WebSocket(accessUrl(world), { headers: { authorization: `Bearer ${token}` } });
    socket.once('unexpected-response', (_request, response) => {
      resolve(response.statusCode ?? 0);
      socket.terminate();
    });
    socket.once('open', () => resolve(101)).on('error', () => undefined);
  });
}

/** Sends frames once it is open; how it was closed. */
function talk(world: FaultWorld, token: string, frames: readonly Uint8Array[]): Promise<AccessClose> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(accessUrl(world), { headers: { authorization: `Bearer ${token}` } });
    let close: AccessClose = { code: '', text: '' };
    socket.on('message', (bytes: Buffer) => {
      const frame = readFrame(bytes);
      if (frame?.kind === 'opened') for (const each of frames) socket.send(each);
      if (frame?.kind === 'close') close = frame.close;
    });
    socket.once('error', reject).once('close', () => resolve(close));
  });
}
