import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import t from 'tap';
import { until } from '../../host/nats.ts';
import { makeQuery, readResponse } from '../messages.ts';
import { TcpClient, askUdp, bun, entry, ownLoopback, startDispatcher } from '../start.ts';

const query = makeQuery({ name: 'edge.test', type: 6 });
const holderPath = new URL('holder.ts', import.meta.url).pathname;

t.test('sockets handed down outlive the dispatcher: what is asked while it is dead is answered when it is back', async (t) => {
  const host = ownLoopback();
  const { configPath, kill } = startDispatcher(t, { listen: [], listenFds: [3, 4] });
  await kill('SIGKILL');
  const holder = spawn(bun, [holderPath, host, entry, configPath], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  holder.stdout.on('data', (bytes: Buffer) => (said += bytes.toString()));
  let output = '';
  holder.stderr.on('data', (bytes: Buffer) => (output = `${output}${bytes.toString()}`.slice(-20_000)));
  const ended = new Promise((resolve) => holder.once('exit', resolve));
  t.teardown(async () => {
    holder.stdin.end();
    await ended;
  });

  let answer: Buffer | null = null;
  await until('it answers', async () => (answer = await askUdp(host, makeQuery({ name: 'ns1.edge.test', type: 1 }), 200)) !== null);
  t.strictSame([...(answer ?? Buffer.alloc(4)).subarray(-4)], host.split('.').map(Number), 'its own address is that of the sockets');
  for (let round = 0; round < 3; round += 1) {
    holder.stdin.write('kill\n');
    await until('it is dead', () => said.split('dead').length - 1 > round);
    const datagrams = Array.from({ length: 20 }, () => askUdp(host, query, 8000));
    const clients = Array.from({ length: 20 }, () => new TcpClient(host));
    t.teardown(() => clients.forEach((client) => client.close()));
    clients.forEach((client) => client.send(query));
    await until('the connections stand, with nobody behind them', () => clients.every((client) => !client.socket.connecting));
    holder.stdin.write('start\n');
    const answers = await Promise.all(datagrams);
    t.equal(answers.filter((each) => each !== null && readResponse(each).counts[1] === 1).length, 20, 'every datagram is answered');
    await until('every connection is answered', () => clients.every((client) => client.answers.length === 1));
  }

  let lost = 0;
  for (let round = 0; round < 40 && lost === 0; round += 1) {
    const gone = dgram.createSocket('udp4');
    await new Promise<void>((resolve) => gone.send(query, 53, host, () => gone.close(resolve)));
    if ((await askUdp(host, query, 5000)) === null) lost += 1;
  }
  t.equal(lost, 0, 'on an inherited socket too, nobody pays for clients that went away');
});
