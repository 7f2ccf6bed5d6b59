import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openProbe } from '../../edgepoint/head/probe.ts';
import { addressBytes, proxyHeader } from '../../edgepoint/model/proxy-protocol.ts';
import { openInstance, openRawClient, openRawInstance, openRig, until } from './rig.ts';

const hex = (bytes: Buffer): string => bytes.toString('hex');
const signature = '0d0a0d0a000d0a515549540a';
const between = (source: string, destination: string) => ({ source: { address: source, port: 56_324 }, destination: { address: destination, port: 443 } });

t.test('headers, byte by byte as the specification has them', async (t) => {
  const four = between('192.168.0.1', '192.168.0.11');
  const six = between('2001:db8::1', '2001:db8::ffff:1.2.3.4');
  t.equal(proxyHeader('v1', four).toString(), 'PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n');
  t.equal(proxyHeader('v1', six).toString(), 'PROXY TCP6 2001:db8::1 2001:db8::ffff:1.2.3.4 56324 443\r\n');
  t.equal(hex(proxyHeader('v2', four)), `${signature}2111000cc0a80001c0a8000bdc0401bb`);
  t.equal(hex(proxyHeader('v2', six)), `${signature}2121002420010db800000000000000000000000120010db8000000000000ffff01020304dc0401bb`);
  for (const endpoints of [null, between('192.0.2.1', '2001:db8::1'), between('nobody', 'nowhere')]) {
    t.equal(proxyHeader('v1', endpoints).toString(), 'PROXY UNKNOWN\r\n');
    t.equal(hex(proxyHeader('v2', endpoints)), `${signature}20000000`);
  }
  t.ok(proxyHeader('v1', between('2001:1111:1111:1111:1111:1111:1111:1111', '2001:1111:1111:1111:1111:1111:1111:1111')).length <= 107, 'a line of version 1 is never longer');
});

t.test('addresses as bytes', async (t) => {
  const rows: readonly (readonly [string, string | null])[] = [
    ['1.2.3.4', '01020304'],
    ['::', '0'.repeat(32)],
    ['::1', `${'0'.repeat(31)}1`],
    ['1::', `0001${'0'.repeat(28)}`],
    ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
    ['1:2:3:4:5:6:7::', '00010002000300040005000600070000'],
    ['1.2.3', null],
    ['1.2.3.256', null],
    ['1.2.3.4.5', null],
    ['1:2:3', null],
    ['1:2:3:4:5:6:7:8:9', null],
    ['1::2::3', null],
    ['1:2:3:4:5:6:7:8::', null],
    ['g::', null],
    ['', null],
  ];
  for (const [text, bytes] of rows) {
    const read = addressBytes(text);
    t.equal(read === null ? null : hex(Buffer.from(read)), bytes, text);
  }
});

t.test('each connection begins with its client, once, and carries nobody else', async (t) => {
  const rig = await openRig(t);
  /** What each connection brought. */
  const connections: string[][] = [];
  const shop = await openRawInstance(t, 'shop-1', (socket) => {
    const mine: string[] = [];
    connections.push(mine);
    let text = '';
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        mine.push(text.slice(0, end + 4));
        text = text.slice(end + 4);
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      }
    });
  });
  await rig.route([shop], { proxyProtocol: 'v1' });
  const [one, other] = [openRawClient(t, rig.port), openRawClient(t, rig.port)];
  const ask = async (client: typeof one, times: number): Promise<void> => {
    client.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
    await client.until(`${times} answers`, (text) => text.split('ok').length - 1 === times);
  };
  await ask(one, 1);
  await ask(other, 1);
  await ask(one, 2);
  await ask(other, 2);
  t.equal(connections.length, 2, 'one connection for each client');
  for (const [index, client] of [one, other].entries()) {
    const [first = '', second = ''] = connections[index] ?? [];
    t.ok(first.startsWith(`PROXY TCP4 127.0.0.1 127.0.0.1 ${client.socket.localPort} ${rig.port}\r\nGET / HTTP/1.1\r\n`), first);
    t.ok(second.startsWith('GET / HTTP/1.1\r\n'), 'the header comes once');
  }
  await rig.route([shop]);
  await ask(one, 3);
  t.notOk(connections.at(-1)?.[0]?.startsWith('PROXY'), 'and not at all when it is no longer asked for');
});

t.test('a request that is sent again begins the next connection with its client too', async (t) => {
  const rig = await openRig(t);
  const begun: string[] = [];
  const shop = await openRawInstance(t, 'shop-1', (socket) => {
    socket.once('data', (bytes) => {
      begun.push(bytes.toString('latin1').split('\r\n')[0] ?? '');
      if (begun.length === 1) socket.resetAndDestroy();
      else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
  });
  await rig.route([shop], { proxyProtocol: 'v1' });
  const client = openRawClient(t, rig.port);
  client.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await client.until('an answer', (text) => text.endsWith('ok'));
  t.same(begun, Array.from({ length: 2 }, () => `PROXY TCP4 127.0.0.1 127.0.0.1 ${client.socket.localPort} ${rig.port}`));
});

const nginx = '/usr/sbin/nginx';

t.test('nginx reads both versions, and takes the probe', { skip: existsSync(nginx) ? false : 'nginx is not installed' }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nginx-'));
  const free = await openInstance(t, 'port', () => {});
  free.kill();
  const config = join(folder, 'nginx.conf');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ');
  const server = `server { listen 127.0.0.1:${free.port} proxy_protocol; location / { return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port"; } }`;
  writeFileSync(config, `daemon off; master_process off; pid ${folder}/pid; error_log stderr error; events {} http { access_log off; ${temporary} ${server} }`);
  const child = spawn(nginx, ['-c', config, '-p', folder], { stdio: 'ignore' });
  t.teardown(async () => {
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    rmSync(folder, { recursive: true, force: true });
  });
  const tries = (): Promise<boolean> => new Promise((resolve) => connect(free.port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false)));
  while (!(await tries())) await new Promise((resolve) => setTimeout(resolve, 20));

  const probe = openProbe({ bootId: 'x', bootNs: () => Math.round(performance.now() * 1e6), wallMs: () => Date.now() });
  const order = { address: '127.0.0.1', port: free.port, path: '/', hostname: 'shop.test', timeoutMs: 5000, gone: new AbortController().signal };
  for (const proxyProtocol of ['v1', 'v2'] as const) t.equal((await probe({ ...order, proxyProtocol })).kind, 'answers', `a probe, ${proxyProtocol}`);
  t.not((await probe({ ...order, timeoutMs: 300, proxyProtocol: 'none' })).kind, 'answers', 'without a header nginx says nothing');

  const rig = await openRig(t);
  for (const proxyProtocol of ['v1', 'v2'] as const) {
    await rig.route([{ instance: 'shop-1', port: free.port, server: free.server, sockets: free.sockets, kill: free.kill }], { proxyProtocol });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const sent = request({ port: rig.port, host: '127.0.0.1', headers: { host: 'shop.test' }, agent }, (response) => {
          let text = '';
          response.on('data', (bytes: Buffer) => (text += bytes.toString()));
          const own = response.socket.localPort;
          response.on('end', () => resolve(text === `127.0.0.1 ${own} ${rig.port}` ? 'its own' : `${text}, of ${own}`));
        });
        sent.on('error', reject);
        sent.end();
      });
    t.equal(await ask(), 'its own', proxyProtocol);
    t.equal(await ask(), 'its own', `${proxyProtocol}, again on the same connection`);
    agent.destroy();
  }
  await until('nobody is under way', () => (rig.head.lastDemand?.instances[0]?.outstanding ?? 1) === 0);
});
