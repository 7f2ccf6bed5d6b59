import dgram from 'node:dgram';
import { Packet } from 'dns2';
import t from 'tap';
import { until } from '../../host/nats.ts';
import { makeQuery, readResponse } from '../messages.ts';
import { TcpClient, startDispatcher } from '../start.ts';

t.test('a client that goes away before its answer does not stop the service', async (t) => {
  const dispatcher = startDispatcher(t, {});
  const query = makeQuery({ name: 'edge.test', type: 6 });
  await until('the port answers', async () => (await dispatcher.askUdp(query, 100)) !== null);
  let lost = 0;
  for (let round = 0; round < 60 && lost === 0; round += 1) {
    await Promise.all(Array.from({ length: 5 }, () => new Promise<void>((resolve) => {
      const gone = dgram.createSocket('udp4');
      gone.send(query, 53, dispatcher.host, () => gone.close(resolve));
    })));
    if ((await dispatcher.askUdp(query, 5000)) === null) lost += 1;
  }
  t.equal(lost, 0, 'nobody else\'s answer is lost by it');
  for (let round = 0; round < 20; round += 1) {
    const client = new TcpClient(dispatcher.host);
    client.socket.once('connect', () => {
      client.send(query);
      client.socket.resetAndDestroy();
    });
    await until('the connection is reset', () => client.closed);
  }
  t.not(await dispatcher.askUdp(query), null);
  const unknown = readResponse((await dispatcher.askUdp(makeQuery({ name: 'shop.edge.test', type: 1 }))) ?? Buffer.alloc(12));
  t.equal(unknown.rcode, 2, 'without bus and cache it does not deny what may exist');
  t.equal(Packet.parse((await dispatcher.askUdp(query)) ?? Buffer.alloc(12)).answers.length, 1);
});
