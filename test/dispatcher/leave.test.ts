import { Agent, request } from 'node:http';
import { connect } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import t from 'tap';
import { openCertificates } from './certificates.ts';
import { openInstance, openRig, until } from './rig.ts';

t.test('on an edgepoint that is drained clients leave with their next answer, and nothing is cut', async (t) => {
  const certificates = openCertificates(t);
  certificates.put('shop.pem', ['shop.test']);
  const rig = await openRig(t, { certificates: certificates.folder });
  const finish: (() => void)[] = [];
  const shop = await openInstance(t, 'shop-1', (asked, response) => (asked.url === '/slow' ? void finish.push(() => response.end('late')) : void response.end('quick')));
  await rig.route([shop]);

  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const get = (): Promise<{ connection: string; reused: boolean }> =>
    new Promise((resolve, reject) => {
      const asked = request({ host: '127.0.0.1', port: rig.port, agent, headers: { host: 'shop.test' } }, (response) => {
        response.resume();
        response.once('end', () => resolve({ connection: response.headers.connection ?? '', reused: asked.reusedSocket }));
      });
      asked.once('error', reject).end();
    });
  await get();
  t.match(await get(), { connection: '', reused: true }, 'a connection is used again');

  const session = connect('https://shop.test', {
    createConnection: () => connectTls({ ca: certificates.authority, servername: 'shop.test', host: '127.0.0.1', port: rig.securePort, ALPNProtocols: ['h2'] }),
  });
  t.teardown(() => session.destroy());
  let goaway = false;
  session.on('goaway', () => (goaway = true)).on('error', () => undefined);
  const stream = session.request({ ':authority': 'shop.test', ':path': '/slow' });
  let body = '';
  stream.on('data', (bytes: Buffer) => (body += bytes.toString()));
  const ended = new Promise<number>((resolve) => stream.once('close', () => resolve(stream.rstCode)));
  await until('it is under way', () => finish.length === 1);

  await rig.head.order('keepConnections', { keeps: false });
  t.match(await get(), { connection: 'close', reused: true }, 'the next answer ends the connection');
  t.match(await get(), { connection: 'close', reused: false }, 'a new one is answered, and ends too');
  await until('HTTP/2 is told to go away', () => goaway);
  finish[0]?.();
  t.equal(await ended, 0);
  t.equal(body, 'late', 'what is under way is answered');

  await rig.head.order('keepConnections', { keeps: true });
  await get();
  t.match(await get(), { connection: '', reused: true }, 'and back');
});
