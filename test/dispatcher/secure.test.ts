import { request } from 'node:https';
import type { IncomingHttpHeaders, Server } from 'node:http';
import { readFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { connect } from 'node:tls';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { request as requestPlain } from 'node:http';
import t from 'tap';
import type { Test } from 'tap';
import WebSocket, { WebSocketServer } from 'ws';
import { openCertificates } from './certificates.ts';
import type { TestCertificates } from './certificates.ts';
import { openInstance, openRawClient, openRig, until } from './rig.ts';
import type { Rig } from './rig.ts';

interface Secure {
  readonly rig: Rig;
  readonly certificates: TestCertificates;
}

async function openSecure(t: Test, settings: readonly string[] = []): Promise<Secure> {
  const certificates = openCertificates(t);
  certificates.put('shop.pem', ['shop.test', '*.zone.test']);
  const rig = await openRig(t, { certificates: certificates.folder, settings });
  return { rig, certificates };
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

function ask({ rig, certificates }: Secure, path: string, options: { host?: string; servername?: string; method?: string; body?: Buffer } = {}): Promise<Answer> {
  const { host = 'shop.test', servername = host, method = 'GET', body } = options;
  return new Promise((resolve, reject) => {
    const sent = request({ port: rig.securePort, host: '127.0.0.1', servername, ca: certificates.authority, path, method, headers: { host }, agent: false }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (bytes: Buffer) => pieces.push(bytes));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(pieces).toString('latin1') }));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

/** A handshake: the socket, or the error's code. */
function shake(t: Test, { rig, certificates }: Secure, options: ConnectionOptions = {}): Promise<TLSSocket | string> {
  return new Promise((resolve) => {
    const socket = connect({ port: rig.securePort, host: '127.0.0.1', servername: 'shop.test', ca: certificates.authority, ...options }, () => resolve(socket));
    socket.on('error', (error: Error & { code?: string }) => resolve(error.code ?? error.message));
    t.teardown(() => socket.destroy());
  });
}

t.test('the same behaviour over TLS: held, streamed, upgraded; the application hears https', async (t) => {
  const secure = await openSecure(t);
  const { rig } = secure;
  const shop = await openInstance(t, 'shop-1', (request_, response) => {
    if (request_.url === '/stream') {
      response.write('first ');
      setTimeout(() => response.end('second'), 50);
    } else if (request_.url === '/up') {
      let bytes = 0;
      request_.on('data', (data: Buffer) => (bytes += data.length));
      request_.on('end', () => response.end(`${bytes}`));
    } else response.end(`${request_.headers['x-forwarded-proto']} ${request_.headers.forwarded}`);
  });
  const sockets = new WebSocketServer({ server: shop.server as Server });
  sockets.on('connection', (socket) => socket.on('message', (data: Buffer) => socket.send(`echo ${data.toString()}`)));
  await rig.route([]);
  const held = ask(secure, '/');
  await until('it waits', () => rig.head.lastDemand?.waiting === 1);
  await rig.route([shop]);
  t.equal((await held).body, 'https for=127.0.0.1;host="shop.test";proto=https', 'a held request');
  t.equal((await ask(secure, '/stream')).body, 'first second');
  t.equal((await ask(secure, '/up', { method: 'POST', body: Buffer.alloc(3_000_000, 'x') })).body, '3000000');
  const socket = new WebSocket(`wss://shop.test:${rig.securePort}/`, { ca: secure.certificates.authority, lookup: (_host, _options, done) => done(null, [{ address: '127.0.0.1', family: 4 }] as never, 4) });
  t.teardown(() => socket.terminate());
  const heard: string[] = [];
  socket.on('message', (data: Buffer) => heard.push(data.toString()));
  await new Promise<void>((resolve, reject) => socket.once('open', resolve).once('error', reject));
  socket.send('hello');
  await until('the echo', () => heard.includes('echo hello'));
});

t.test('an answer of many megabytes waits for a slow reader and comes whole', async (t) => {
  const secure = await openSecure(t);
  const bytes = 8_000_000;
  let written = 0;
  const shop = await openInstance(t, 'shop-1', (_, response) => {
    response.writeHead(200, { 'Content-Length': bytes });
    const piece = Buffer.alloc(100_000, 'y');
    const more = (): void => {
      while (written < bytes) {
        written += piece.length;
        if (!response.write(piece)) return void response.once('drain', more);
      }
      response.end();
    };
    more();
  });
  await secure.rig.route([shop]);
  const socket = await shake(t, secure, { ALPNProtocols: ['http/1.1'] });
  if (typeof socket === 'string') return t.fail(socket);
  socket.pause();
  socket.write('GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n');
  let before = -1;
  await until('it stands still', () => {
    const same = before === written && written > 0;
    before = written;
    return same;
  });
  let got = 0;
  socket.on('data', (data) => (got += data.length));
  const ended = new Promise((resolve) => socket.once('end', resolve));
  socket.resume();
  await ended;
  t.ok(got > bytes, `${got} bytes with the head`);
});

t.test('names: exact, wildcard, unknown, none; versions; protocols', async (t) => {
  const secure = await openSecure(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('here'));
  await secure.rig.route([shop], { hosts: ['shop.test', 'a.zone.test'] });
  t.equal((await ask(secure, '/')).body, 'here');
  t.equal((await ask(secure, '/', { host: 'a.zone.test' })).body, 'here');
  t.equal((await ask(secure, '/', { host: 'SHOP.test', servername: 'Shop.Test' })).status, 200, 'without case');
  t.match(await shake(t, secure, { servername: 'nobody.test' }), /TLSV1_UNRECOGNIZED_NAME/, 'an alert says that the name is unknown');
  t.match(await shake(t, secure, { servername: 'a.b.zone.test' }), /TLSV1_UNRECOGNIZED_NAME/, 'a wildcard stands for one label');
  t.match(await shake(t, secure, { servername: '' }), /ALERT/, 'no name');
  t.match(await shake(t, secure, { maxVersion: 'TLSv1.1', minVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }), /ALERT_PROTOCOL_VERSION/, 'TLS 1.1');
  t.match(await shake(t, secure, { ALPNProtocols: ['foo'] }), /NO_APPLICATION_PROTOCOL/, 'another protocol');
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const socket = await shake(t, secure, { maxVersion: version, minVersion: version, ALPNProtocols: ['http/1.1'] });
    if (typeof socket === 'string') return t.fail(socket);
    t.same([socket.getProtocol(), socket.alpnProtocol], [version, 'http/1.1']);
    const sessions: Buffer[] = version === 'TLSv1.2' ? [socket.getSession() as Buffer] : [];
    socket.on('session', (session: Buffer) => sessions.push(session));
    socket.resume();
    socket.write('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
    await until('a session to resume', () => sessions.length > 0);
    const again = await shake(t, secure, { maxVersion: version, minVersion: version, session: sessions.at(-1) as Buffer });
    if (typeof again === 'string') return t.fail(again);
    t.ok(again.isSessionReused(), `${version}: resumed`);
  }
  const misdirected = await ask(secure, '/', { host: 'other.test', servername: 'shop.test' });
  t.equal(misdirected.status, 421, 'a host that the certificate does not cover');
});

t.test('certificates are read anew when they change; bad ones are refused by name, and their keys are in no log', async (t) => {
  const secure = await openSecure(t);
  const { certificates, rig } = secure;
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('here'));
  await rig.route([shop], { hosts: ['shop.test', 'new.test'] });
  const serial = async (servername: string): Promise<string> => {
    const socket = await shake(t, secure, { servername });
    return typeof socket === 'string' ? socket : socket.getPeerCertificate().serialNumber;
  };
  const first = await serial('shop.test');
  const open = await shake(t, secure);
  if (typeof open === 'string') return t.fail(open);
  t.match(await serial('new.test'), /UNRECOGNIZED/);
  const pems = [certificates.put('new.pem', ['new.test']), certificates.put('shop.pem', ['shop.test'])];
  for (let now = first; now === first; now = await serial('shop.test')) await new Promise((resolve) => setTimeout(resolve, 20));
  t.match(await serial('new.test'), /^[0-9A-F]+$/, 'a new file');
  t.equal((await ask(secure, '/', { host: 'new.test' })).body, 'here');
  open.write('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  const text = await new Promise<string>((resolve) => open.once('data', (bytes) => resolve(bytes.toString('latin1'))));
  t.match(text, /^HTTP\/1\.1 200/, 'what was open before goes on');
  const second = await serial('shop.test');
  pems.push(certificates.put('shop.pem', ['shop.test'], { mode: 0o644 }));
  await until('the refusal', () => rig.said().includes('others may read its private key'));
  t.equal(await serial('shop.test'), second, 'the good one stays');
  certificates.remove('new.pem');
  for (let now = ''; !now.includes('UNRECOGNIZED'); now = await serial('new.test')) await new Promise((resolve) => setTimeout(resolve, 20));
  t.pass('a removed one is gone');
  pems.push(readFileSync(`${certificates.folder}/shop.pem`, 'latin1'));
  for (const line of pems.join('\n').split('\n').filter((each) => each.length > 20 && !each.startsWith('-'))) if (rig.said().includes(line)) t.fail('a key is in the log');
});

t.test('plain HTTP is sent to https where the app asks for it and a certificate is there', async (t) => {
  const secure = await openSecure(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('here'));
  await secure.rig.route([shop], { httpsOnly: true, hosts: ['shop.test', 'bare.test'] });
  const plain = (host: string, path: string): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const sent = requestPlain({ port: secure.rig.port, host: '127.0.0.1', path, headers: { host }, agent: false }, (response) => {
        response.resume();
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: '' }));
      });
      sent.on('error', reject);
      sent.end();
    });
  const sent = await plain('shop.test', '/a?b');
  t.same([sent.status, sent.headers.location], [308, `https://shop.test:${secure.rig.securePort}/a?b`]);
  t.equal((await plain('bare.test', '/a')).status, 200, 'no certificate');
  t.equal((await plain('shop.test', '/.well-known/acme-challenge/x')).status, 200, 'a challenge');
  t.equal((await ask(secure, '/a')).status, 200);
  await secure.rig.route([shop]);
  t.equal((await plain('shop.test', '/a')).status, 308, 'an app that says nothing');
  await secure.rig.route([shop], { httpsOnly: false });
  t.equal((await plain('shop.test', '/a')).status, 200, 'an app that does not want it');
});

t.test('hostile bytes in place of a handshake, and after it, hurt nobody else', async (t) => {
  const secure = await openSecure(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('here'));
  await secure.rig.route([shop]);
  const bystander = await shake(t, secure);
  if (typeof bystander === 'string') return t.fail(bystander);
  let heard = '';
  bystander.on('data', (bytes) => (heard += bytes.toString('latin1')));
  let asked = 0;
  const hello = Buffer.from('1603010200010001fc0303', 'hex');
  const rows: readonly (readonly [string, Buffer])[] = [
    ['plain HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n')],
    ['nothing but zeros', Buffer.alloc(20_000)],
    ['noise', Buffer.from(Array.from({ length: 5000 }, (_, index) => (index * 7919) % 256))],
    ['a record longer than there may be', Buffer.concat([Buffer.from('160303ffff', 'hex'), Buffer.alloc(70_000, 1)])],
    ['an alert', Buffer.from('15030300020228', 'hex')],
    ['application data first', Buffer.from('170303000568656c6c6f', 'hex')],
    ['a hello whose inside is noise', Buffer.concat([hello, Buffer.alloc(512, 0xa5)])],
    ['SSH', Buffer.from('SSH-2.0-OpenSSH_9.9\r\n')],
  ];
  for (const [name, bytes] of rows) {
    const client = openRawClient(t, secure.rig.securePort);
    client.send(bytes);
    await client.untilClosed();
    bystander.write('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
    asked += 1;
    await until(`${name}: the bystander`, () => heard.split('here').length - 1 === asked);
  }
  const spoilt = await shake(t, secure);
  if (typeof spoilt === 'string') return t.fail(spoilt);
  // Noise in the middle of a session, below TLS.
  const raw = connectTcp({ port: secure.rig.securePort, host: '127.0.0.1' });
  raw.on('error', () => {});
  const inside = connect({ socket: raw, servername: 'shop.test', ca: secure.certificates.authority });
  inside.on('error', () => {});
  await new Promise((resolve) => inside.once('secureConnect', resolve));
  raw.write(Buffer.concat([Buffer.from('1703030020', 'hex'), Buffer.alloc(32, 7)]));
  await new Promise((resolve) => raw.once('close', resolve));
  bystander.write('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await until('the bystander', () => heard.split('here').length - 1 === asked + 1);
  t.notMatch(secure.rig.said(), 'broken invariant');
});

t.test('a flood of handshakes from one address is cut, and what was let in is served', async (t) => {
  const secure = await openSecure(t, ['--handshakes-per-second', '2']);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('here'));
  await secure.rig.route([shop]);
  const outcomes = await Promise.all(Array.from({ length: 40 }, () => shake(t, secure)));
  const done = outcomes.filter((each) => typeof each !== 'string');
  t.ok(done.length >= 20 && done.length < 40, `${done.length} of 40 were let in, of a burst of 20`);
  const [kept] = done as TLSSocket[];
  let heard = '';
  kept?.on('data', (bytes) => (heard += bytes.toString('latin1')));
  kept?.write('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await until('one that was let in is served', () => heard.endsWith('here'));
});

t.test('a handshake that stands still is cut in time', async (t) => {
  const secure = await openSecure(t);
  const silent = openRawClient(t, secure.rig.securePort);
  const slow = openRawClient(t, secure.rig.securePort);
  const since = Date.now();
  const trickle = setInterval(() => slow.closed() || slow.send(Buffer.from([1])), 500);
  t.teardown(() => clearInterval(trickle));
  slow.send(Buffer.from('160301020001', 'hex'));
  await Promise.all([silent.untilClosed(), slow.untilClosed()]);
  t.ok(Date.now() - since >= 9_000, 'not before');
});

t.test('sockets outlive a killed dispatcher', async (t) => {
  const secure = await openSecure(t);
  const shop = await openInstance(t, 'shop-1', (_, response) => response.end('here'));
  await secure.rig.route([shop]);
  const gone = new Promise((resolve) => secure.rig.dispatcher().once('exit', resolve));
  secure.rig.dispatcher().kill('SIGKILL');
  await gone;
  const waiting = ask(secure, '/');
  await new Promise((resolve) => setTimeout(resolve, 50));
  await secure.rig.startDispatcher();
  await secure.rig.route([shop]);
  t.equal((await waiting).body, 'here', 'it waited in the backlog');
});
