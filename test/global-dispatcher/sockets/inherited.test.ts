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
  const holder = spawn(bun, [holderPath, host, entry, configPath], { stdio: ['pipe', 'ignore', 'pipe'] });
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
    const waiting = Array.from({ length: 20 }, () => new TcpClient(host));
    t.teardown(() => waiting.forEach((client) => client.close()));
    holder.stdin.write('again\n');
    const datagrams = Array.from({ length: 20 }, () => askUdp(host, query, 5000));
    waiting.forEach((client) => client.send(query));
    // A datagram, or a connection, that the killed one had taken already dies with it; the others wait in the kernel.
    await until('it is back', () => output.split('"answering"').length - 1 > round + 1);
    const late = await Promise.all(Array.from({ length: 20 }, () => askUdp(host, query, 5000)));
    t.equal(late.filter((each) => each !== null && readResponse(each).counts[1] === 1).length, 20, 'afterwards nothing is lost');
    t.ok((await Promise.all(datagrams)).filter((each) => each !== null).length >= 19, 'nor, save one in its hands, while it was dead');
    const client = new TcpClient(host);
    t.teardown(() => client.close());
    client.send(query);
    await until('TCP answers', () => client.answers.length === 1);
    await until('those who connected in between are answered, or were cut when it died', () => waiting.every((each) => each.closed || each.answers.length === 1));
  }

  let lost = 0;
  for (let round = 0; round < 40; round += 1) {
    const gone = dgram.createSocket('udp4');
    await new Promise<void>((resolve) => gone.send(query, 53, host, () => gone.close(resolve)));
    if ((await askUdp(host, query, 500)) === null) lost += 1;
  }
  t.equal(lost, 0, 'on an inherited socket too, nobody pays for clients that went away');
});
