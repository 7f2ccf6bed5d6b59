import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import { WebSocket } from 'ws';
import { exampleApp } from '../../../images/host/example-apps.ts';
import { ask, asleep, openFaultWorld, until } from './fault-world.ts';
import type { FaultWorld } from './fault-world.ts';

/** What sleeping keeps: with state = "keep" memory and connections go on where they were; with a template each wake begins from it. */

t.test('what sleeping keeps', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(counter(world, 'counter', 'keep'));
  await ada.deploy(counter(world, 'forgetful', 'template'));
  const { sites, stateMeaning } = await ada.status('counter');
  t.equal(sites.length, 1, 'one edgepoint holds what is kept');
  t.match(stateMeaning, /memory/, 'status says what its sleep keeps');
  const address = world.edgepoints.find(({ edgepoint }) => edgepoint === sites[0]?.edgepoint)?.ipv4 ?? '';
  const get = async (name: string, path: string, method = 'GET'): Promise<Count> => JSON.parse((await ask({ host: address, name: `${name}.edge.test`, path, method })).body) as Count;

  t.test('a count in memory goes on over three sleeps', async (t) => {
    const first = await get('counter', '/count', 'POST');
    for (let sleeps = 1; sleeps <= 3; sleeps += 1) {
      await asleep(world);
      const woken = await get('counter', '/count', 'POST');
      t.same({ count: woken.count, bootedMs: woken.bootedMs }, { count: first.count + sleeps, bootedMs: first.bootedMs }, `after sleep ${sleeps}: it counts on, and was never booted anew`);
    }
    await until('status tells that it is woken from its own snapshot', async () => (await ada.status('counter')).sites[0]?.state?.wakeBy === 'keep');
  });

  t.test('a WebSocket stays open over two sleeps, and no message is lost', async (t) => {
    const socket = new WebSocket(`ws://${address}/echo`, { headers: { host: 'counter.edge.test' } });
    t.teardown(() => socket.terminate());
    const heard: { number: number; echo: string }[] = [];
    let closed = false;
    socket.on('message', (data: Buffer) => heard.push(JSON.parse(data.toString()) as { number: number; echo: string })).on('close', () => (closed = true)).on('error', () => (closed = true));
    await until('it is open', () => socket.readyState === WebSocket.OPEN);
    for (const word of ['before', 'after one sleep', 'after two']) {
      socket.send(word);
      await until('it is answered', () => heard.at(-1)?.echo === word || closed);
      t.notOk(closed, 'the connection is open');
      if (word !== 'after two') await asleep(world);
    }
    t.same(heard, [{ number: 1, echo: 'before' }, { number: 2, echo: 'after one sleep' }, { number: 3, echo: 'after two' }]);
  });

  t.test('a kept HTTP connection stays open over a sleep', async (t) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.teardown(() => agent.destroy());
    const one = await onAgent(agent, address);
    await asleep(world);
    const other = await onAgent(agent, address);
    t.equal(other.reused, true, 'the second request went over the same connection');
    t.same({ status: other.status, count: other.count }, { status: 200, count: one.count + 1 }, 'and was answered with the next number');
  });

  t.test('with a template every wake begins from the template’s count', async (t) => {
    for (let wakes = 0; wakes < 3; wakes += 1) {
      await asleep(world);
      t.equal((await get('forgetful', '/count')).count, 0, 'the count is the template’s');
      t.equal((await get('forgetful', '/count', 'POST')).count, 1, 'it counts while it is awake');
    }
  });

  t.test('the world leaves nothing', (t) => world.stop(t));
});

interface Count {
  readonly count: number;
  readonly bootedMs: number;
}

/** The example, with its real dependency, under another name and with a shorter sleep. */
function counter(world: FaultWorld, app: string, state: 'keep' | 'template'): string {
  const folder = join(world.folder, app);
  cpSync(exampleApp('counter'), folder, { recursive: true });
  const manifest = readFileSync(join(folder, 'edgepoint.toml'), 'utf8');
  writeFileSync(join(folder, 'edgepoint.toml'), manifest.replace('app = "counter"', `app = "${app}"`).replace('state = "keep"', `state = "${state}"`).replace('idleSeconds = 3', 'idleSeconds = 0.5'));
  return folder;
}

function onAgent(agent: Agent, host: string): Promise<{ status: number; count: number; reused: boolean }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host, port: 80, path: '/count/next', agent, headers: { host: 'counter.edge.test' }, signal: AbortSignal.timeout(30_000) }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.once('end', () => resolve({ status: response.statusCode ?? 0, count: (JSON.parse(body) as Count).count, reused: outgoing.reusedSocket })).once('error', reject);
    });
    outgoing.once('error', reject).end();
  });
}
