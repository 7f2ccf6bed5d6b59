import { createHash } from 'node:crypto';
import { connect, constants } from 'node:http2';
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders, IncomingHttpStatusHeader, OutgoingHttpHeaders } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import t from 'tap';
import type { Test } from 'tap';
import { readHttp2Request } from '../../edgepoint/dispatcher/http2/request.ts';
import { frame, literal } from './frames.ts';
import { openCertificates } from './certificates.ts';
import type { TestCertificates } from './certificates.ts';
import { openInstance, openRawInstance, openRig, until } from './rig.ts';
import type { Rig } from './rig.ts';

interface Secure {
  readonly rig: Rig;
  readonly certificates: TestCertificates;
}

async function openSecure(t: Test): Promise<Secure> {
  const certificates = openCertificates(t);
  certificates.put('shop.pem', ['shop.test', 'other.test']);
  return { rig: await openRig(t, { certificates: certificates.folder }), certificates };
}

async function openSession(t: Test, { rig, certificates }: Secure): Promise<ClientHttp2Session> {
  const tls = { ca: certificates.authority, servername: 'shop.test', host: '127.0.0.1', port: rig.securePort, ALPNProtocols: ['h2'] };
  // Node's own default, 10 MB, would have the client reset streams of the larger tests.
  const session = connect('https://shop.test', { maxSessionMemory: 1000, createConnection: () => connectTls(tls) });
  t.teardown(() => session.destroy());
  await new Promise((resolve, reject) => session.once('connect', resolve).once('error', reject));
  session.on('error', () => {});
  return session;
}

interface Answer {
  readonly headers: IncomingHttpHeaders & IncomingHttpStatusHeader;
  readonly body: Buffer;
  /** Of the RST_STREAM that ended it; 0 when it ended well. */
  readonly code: number;
}

function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  return new Promise((resolve) => {
    let headers: Answer['headers'] = {};
    const pieces: Buffer[] = [];
    stream.on('response', (came) => (headers = came));
    stream.on('data', (bytes: Buffer) => pieces.push(bytes));
    stream.on('error', () => {});
    stream.once('close', () => resolve({ headers, body: Buffer.concat(pieces), code: stream.rstCode ?? 0 }));
  });
}

function ask(session: ClientHttp2Session, headers: OutgoingHttpHeaders, body?: Buffer): Promise<Answer> {
  const stream = session.request({ ':authority': 'shop.test', ...headers }, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  return answerOf(stream);
}

t.test('requests in HTTP/2 as heads of HTTP/1.1, or why they are refused', async (t) => {
  const good = [':method', 'GET', ':scheme', 'https', ':path', '/a?b', ':authority', 'shop.test'];
  const read = readHttp2Request([...good, 'cookie', 'a=1', 'x-a', ' b ', 'cookie', 'c=2'], true);
  if ('status' in read) return t.fail(read.reason);
  t.equal(read.section.text, 'host: shop.test\r\nx-a:  b \r\ncookie: a=1; c=2\r\n\r\n');
  t.same([read.method, read.target, read.framing, read.hostName, read.keepAlive, read.upgrade], ['GET', '/a?b', { kind: 'none' }, 'shop.test', true, '']);
  const chunked = readHttp2Request(good, false);
  t.same('status' in chunked ? chunked : chunked.framing, { kind: 'chunked' });
  const told = readHttp2Request([...good, 'content-length', '3'], false);
  t.same('status' in told ? told : told.framing, { kind: 'length', bytes: 3 });
  const without = (name: string): string[] => good.flatMap((each, at) => (at % 2 === 0 && each !== name ? [each, good[at + 1] ?? ''] : []));
  const instead = (name: string, value: string): string[] => [...without(name), name, value];
  const rows: readonly (readonly [string, readonly string[], boolean, number])[] = [
    ['a line end in a value', [...good, 'a', 'b\r\nc: d'], true, 400],
    ['a line feed in a value', [...good, 'a', 'b\nc: d'], true, 400],
    ['a NUL in a value', [...good, 'a', 'b\0'], true, 400],
    ['a character above 255', [...good, 'a', '\u010a'], true, 400],
    ['an upper case name', [...good, 'A', 'b'], true, 400],
    ['a colon in a name', [...good, 'a:b', 'c'], true, 400],
    ['an empty name', [...good, '', 'c'], true, 400],
    ['a space in the path', instead(':path', '/a HTTP/1.1'), true, 400],
    ['a line end in the path', instead(':path', '/a\r\nx: y'), true, 400],
    ['an absolute path', instead(':path', 'http://shop.test/'), true, 400],
    ['an empty path', instead(':path', ''), true, 400],
    ['* of GET', instead(':path', '*'), true, 400],
    ['a method with a space', instead(':method', 'GET /x'), true, 400],
    ['CONNECT', [':method', 'CONNECT', ':authority', 'shop.test:443'], true, 405],
    ['TRACE', instead(':method', 'TRACE'), true, 405],
    ['scheme http', instead(':scheme', 'http'), true, 400],
    ['no scheme', without(':scheme'), true, 400],
    ['no method', without(':method'), true, 400],
    ['no authority', without(':authority'), true, 400],
    ['a user in the authority', instead(':authority', 'a@shop.test'), true, 400],
    ['two hosts', [...good, 'host', 'other.test'], true, 400],
    ['a pseudo-field twice', [...good, ':path', '/b'], true, 400],
    ['a pseudo-field after others', [...without(':path'), 'a', 'b', ':path', '/'], true, 400],
    ['an unknown pseudo-field', [...good, ':protocol', 'websocket'], true, 400],
    ['transfer-encoding', [...good, 'transfer-encoding', 'chunked'], false, 400],
    ['connection', [...good, 'connection', 'keep-alive'], true, 400],
    ['upgrade', [...good, 'upgrade', 'websocket'], true, 400],
    ['te: gzip', [...good, 'te', 'gzip'], true, 400],
    ['transfer_encoding', [...good, 'transfer_encoding', 'chunked'], false, 400],
    ['content-length twice', [...good, 'content-length', '3', 'content-length', '3'], false, 400],
    ['content-length of no number', [...good, 'content-length', '+3'], false, 400],
    ['a told body that never comes', [...good, 'content-length', '3'], true, 400],
    ['200 fields', [...good, ...Array.from({ length: 400 }, () => 'a')], true, 431],
    ['a path of 9 KiB', instead(':path', `/${'a'.repeat(9 * 1024)}`), true, 414],
    ['a value of 40 KiB', [...good, 'a', 'b'.repeat(40 * 1024)], true, 431],
  ];
  for (const [name, fields, bodyless, status] of rows) {
    const result = readHttp2Request(fields, bodyless);
    t.equal('status' in result ? result.status : 'taken', status, name);
  }
});

t.test('a request in HTTP/2: held, forwarded, answered; fields both ways', async (t) => {
  const secure = await openSecure(t);
  const { rig } = secure;
  const seen: string[][] = [];
  const shop = await openInstance(t, 'shop-1', (request, response) => {
    seen.push([`${request.method} ${request.url} HTTP/${request.httpVersion}`, ...request.rawHeaders]);
    response.setHeader('Set-Cookie', ['a=1', 'b=2']);
    response.setHeader('X-Odd', 'caf\xe9');
    response.setHeader('Keep-Alive', 'timeout=7');
    response.writeEarlyHints({ link: '</x.css>; rel=preload' });
    let bytes = 0;
    request.on('data', (data: Buffer) => (bytes += data.length));
    request.on('end', () => {
      response.write('got ');
      response.end(`${bytes}`);
    });
  });
  await rig.route([]);
  const session = await openSession(t, secure);
  const stream = session.request({ ':authority': 'shop.test', ':path': '/a?b=c', cookie: 'one=1' });
  const hints: unknown[] = [];
  stream.on('headers', (headers) => hints.push(headers[':status']));
  const held = answerOf(stream);
  await until('it waits', () => rig.head.lastDemand?.waiting === 1);
  await rig.route([shop]);
  const { headers, body, code } = await held;
  t.same([headers[':status'], headers['set-cookie'], headers['x-odd'], body.toString(), code], [200, ['a=1', 'b=2'], 'caf\xe9', 'got 0', 0]);
  t.same(hints, [103]);
  for (const name of ['keep-alive', 'connection', 'transfer-encoding']) t.notOk(name in headers, `${name} does not go on`);
  const fields = seen[0]?.join('\n') ?? '';
  t.match(fields, /^GET \/a\?b=c HTTP\/1\.1\n/);
  t.match(fields, 'X-Forwarded-Proto\nhttps');
  t.match(fields, 'cookie\none=1');
  t.equal((await ask(session, { ':method': 'POST' }, Buffer.alloc(2_000_000))).body.toString(), 'got 2000000', 'a body of no told length');
  t.equal((await ask(session, { ':method': 'POST', 'content-length': 2_000_000 }, Buffer.alloc(2_000_000))).body.toString(), 'got 2000000', 'a body of a told length');
  t.equal((await ask(session, { ':method': 'HEAD' })).headers[':status'], 200);
  t.equal((await ask(session, { ':authority': 'nobody.test' })).headers[':status'], 421, 'a host of another certificate');
  t.equal((await ask(session, { ':authority': 'other.test' })).headers[':status'], 404, 'no app of that name');
  t.equal((await ask(session, { ':path': '/after' })).body.toString(), 'got 0', 'the connection goes on');
  await until('nothing is under way', () => rig.head.lastDemand?.instances[0]?.outstanding === 0);
  await rig.route([]);
  const uploads = [1, 2, 3].map((times) => ask(session, { ':method': 'POST' }, Buffer.alloc(times * 400_000)));
  await until('bodies that do not fit are held with their requests', () => rig.head.lastDemand?.waiting === 3);
  await rig.route([shop]);
  t.same((await Promise.all(uploads)).map((answer) => answer.body.toString()), ['got 400000', 'got 800000', 'got 1200000']);
});

t.test('many streams at once, of any size both ways, mean what they mean directly', async (t) => {
  const secure = await openSecure(t);
  const shop = await openInstance(t, 'shop-1', (request, response) => {
    const hash = createHash('sha256');
    request.on('data', (data: Buffer) => hash.update(data));
    request.on('end', () => {
      const size = Number(request.headers['x-size']);
      response.setHeader('x-digest', hash.digest('hex'));
      if (request.url === '/told') response.setHeader('content-length', size);
      response.end(Buffer.alloc(size, `${size}`));
    });
  });
  await secure.rig.route([shop], { concurrency: 64 });
  const session = await openSession(t, secure);
  const sizes = [0, 1, 100, 16_383, 16_384, 16_385, 65_535, 65_536, 200_000, 1_000_000];
  const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
  await Promise.all(
    sizes.flatMap((up) =>
      sizes.map(async (down, index) => {
        const body = Buffer.alloc(up, `${index}`);
        const told = index % 2 === 0;
        const answer = await ask(session, { ':method': 'POST', ':path': told ? '/told' : '/chunked', 'x-size': down, ...(told ? { 'content-length': up } : {}) }, body);
        if (answer.headers['x-digest'] !== digest(body) || digest(answer.body) !== digest(Buffer.alloc(down, `${down}`)) || answer.code !== 0) t.fail(`${up} up, ${down} down: ${answer.code}`);
      }),
    ),
  );
  t.pass(`${sizes.length ** 2} streams`);
});

t.test('nobody buffers for those who do not read, and one stream does not hold up another', async (t) => {
  const secure = await openSecure(t);
  const written = { down: 0 };
  let taken = 0;
  const shop = await openInstance(t, 'shop-1', (request, response) => {
    if (request.url === '/down') {
      const more = (): void => {
        while (written.down < 40_000_000) {
          written.down += 100_000;
          if (!response.write(Buffer.alloc(100_000))) return void response.once('drain', more);
        }
        response.end();
      };
      more();
    } else if (request.url === '/up') {
      request.pause();
      setTimeout(() => request.on('data', (data: Buffer) => (taken += data.length)).on('end', () => response.end(`${taken}`)).resume(), 1500);
    } else response.end('quick');
  });
  await secure.rig.route([shop]);
  const session = await openSession(t, secure);
  const down = session.request({ ':authority': 'shop.test', ':path': '/down' });
  down.on('response', () => {});
  down.pause();
  const up = session.request({ ':authority': 'shop.test', ':path': '/up', ':method': 'POST' });
  let sent = 0;
  const feed = (): void => {
    while (sent < 20_000_000) {
      sent += 100_000;
      if (!up.write(Buffer.alloc(100_000))) return void up.once('drain', feed);
    }
    up.end();
  };
  feed();
  const whole = answerOf(up);
  let before = [-1, -1];
  await until('both stand still', () => {
    const same = before[0] === written.down && before[1] === sent && sent > 0 && written.down > 0;
    before = [written.down, sent];
    return same;
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.ok(written.down < 20_000_000, `${written.down} bytes of the answer were taken from the application`);
  t.ok(sent < 15_000_000, `${sent} bytes of the body were taken from the client`);
  t.equal((await ask(session, { ':path': '/' })).body.toString(), 'quick', 'another stream');
  t.equal((await whole).body.toString(), '20000000');
  let got = 0;
  down.on('data', (bytes: Buffer) => (got += bytes.length));
  const ended = new Promise((resolve) => down.once('end', resolve));
  down.resume();
  await ended;
  t.equal(got, 40_000_000);
});

t.test("one stream's failure is its own", async (t) => {
  const secure = await openSecure(t);
  const gone: string[] = [];
  const shop = await openRawInstance(t, 'shop-1', (socket) => {
    let path = '';
    socket.on('close', () => gone.push(path));
    socket.on('data', (bytes) => {
      path = /^\w+ (\S+)/.exec(bytes.toString('latin1'))?.[1] ?? path;
      if (path === '/garbage') socket.write('SSH-2.0\r\n\r\n');
      else if (path === '/cut') socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort', () => socket.end());
      else if (path === '/until-close') socket.write('HTTP/1.1 200 OK\r\n\r\nall of it', () => socket.end());
      else if (path === '/unasked') socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
      else if (path === '/bad-chunk') socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n');
      else if (path === '/late-bad-chunk') socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n', () => setTimeout(() => socket.write('zz\r\n'), 30));
      else if (path === '/cut-chunked') socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n', () => setTimeout(() => socket.end(), 30));
      else if (path === '/trailers') socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n');
      else if (path === '/early') socket.write('HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n', () => socket.end());
      else if (path === '/silent') return;
      else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood');
    });
  });
  await secure.rig.route([shop], { concurrency: 100 });
  const session = await openSession(t, secure);
  const other = session.request({ ':authority': 'shop.test', ':path': '/silent' });
  other.on('error', () => {});
  const rows: readonly (readonly [string, number | undefined, string, number])[] = [
    ['/garbage', 502, '', 0],
    ['/cut', 200, 'short', constants.NGHTTP2_INTERNAL_ERROR],
    ['/until-close', 200, 'all of it', 0],
    ['/unasked', 502, '', 0],
    ['/cut-chunked', 200, 'abc', constants.NGHTTP2_INTERNAL_ERROR],
    ['/bad-chunk', 502, '', 0],
    ['/late-bad-chunk', 200, 'abc', constants.NGHTTP2_INTERNAL_ERROR],
    ['/trailers', 200, 'abc', 0],
  ];
  for (const [path, status, body, code] of rows) {
    const answer = await ask(session, { ':path': path });
    t.equal(answer.headers[':status'], status, path);
    if (body !== '') t.equal(answer.body.toString(), body, `${path}: body`);
    t.equal(answer.code, code, `${path}: code`);
    t.equal((await ask(session, { ':path': '/good' })).body.toString(), 'good', `${path}, then a good one`);
  }
  const early = session.request({ ':authority': 'shop.test', ':path': '/early', ':method': 'POST' });
  const answered = answerOf(early);
  early.write(Buffer.alloc(1000));
  const { headers, code } = await answered;
  t.same([headers[':status'], code], [413, constants.NGHTTP2_NO_ERROR], 'an answer before the end of its request');
  other.close(constants.NGHTTP2_CANCEL);
  await until('the application sees that a request was taken back', () => gone.includes('/silent'));
  await until('nothing is under way', () => secure.rig.head.lastDemand?.instances[0]?.outstanding === 0);
  t.notOk(session.closed, 'the connection is still there');
});

// ---- below the library: frames by hand ----

/** :method GET, :scheme https, :path /, :authority shop.test */
const get = Buffer.concat([Buffer.from([0x82, 0x87, 0x84, 0x41, 9]), Buffer.from('shop.test')]);
const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0)]);
const number32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

interface RawSession {
  readonly socket: TLSSocket;
  /** Types of the frames that came, with the code of RST_STREAM and GOAWAY. */
  readonly came: string[];
  closed(): boolean;
}

async function openRaw(t: Test, { rig, certificates }: Secure): Promise<RawSession> {
  const socket = connectTls({ port: rig.securePort, host: '127.0.0.1', servername: 'shop.test', ca: certificates.authority, ALPNProtocols: ['h2'] });
  t.teardown(() => socket.destroy());
  let closed = false;
  socket.on('error', () => (closed = true));
  socket.on('close', () => (closed = true));
  const came: string[] = [];
  let input: Buffer = Buffer.alloc(0);
  socket.on('data', (bytes: Buffer) => {
    input = Buffer.concat([input, bytes]);
    while (input.length >= 9 && input.length >= 9 + input.readUIntBE(0, 3)) {
      const end = 9 + input.readUIntBE(0, 3);
      const type = input[3] ?? 0;
      came.push(type === 3 ? `reset ${input.readUInt32BE(9)}` : type === 7 ? `goaway ${input.readUInt32BE(13)}` : `${type}`);
      input = input.subarray(end);
    }
  });
  await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  return { socket, came, closed: () => closed };
}

const rssOf = async (rig: Rig): Promise<number> => {
  const { readFileSync } = await import('node:fs');
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${rig.dispatcher().pid}/status`, 'utf8'))?.[1]) * 1024;
};

t.test('hostile frames end their own connection or stream, in bounded memory, and nobody else notices', async (t) => {
  const secure = await openSecure(t);
  let asked = 0;
  const shop = await openInstance(t, 'shop-1', (request, response) => {
    asked += 1;
    request.resume();
    setTimeout(() => response.end('x'.repeat(100_000)), 50);
  });
  await secure.rig.route([shop], { concurrency: 100 });
  const bystander = await openSession(t, secure);
  const block = Buffer.concat([Buffer.from([0x40, 1, 97, 0x7f, 0x81, 1]), Buffer.alloc(256, 97)]);
  /** Frames that are sent again and again, by their number. */
  const floods: Readonly<Record<string, (n: number) => Buffer>> = {
    'rapid reset': (n) => Buffer.concat([frame(1, 5, n * 2 + 1, get), frame(3, 0, n * 2 + 1, number32(8))]),
    settings: () => frame(4, 0, 0, Buffer.from([0, 3, 0, 0, 0, 100])),
    pings: () => frame(6, 0, 0, Buffer.alloc(8)),
    'continuation without end': (n) => (n === 0 ? frame(1, 0, 1, get) : frame(9, 0, 1, block)),
    'empty continuation without end': (n) => (n === 0 ? frame(1, 0, 1, get) : frame(9, 0, 1)),
    'empty data': (n) => (n === 0 ? frame(1, 4, 1, Buffer.concat([Buffer.from([0x83, 0x87, 0x84, 0x41, 9]), Buffer.from('shop.test')])) : frame(0, 0, 1)),
    'more streams than allowed': (n) => frame(1, 5, n * 2 + 1, get),
    'frames of no known type': () => frame(200, 0, 0, Buffer.alloc(100)),
    'priorities of streams that are not there': (n) => frame(2, 0, n * 2 + 1, Buffer.from([0, 0, 0, 0, 16])),
    'window updates': () => frame(8, 0, 0, number32(1)),
  };
  const before = await rssOf(secure.rig);
  for (const [name, make] of Object.entries(floods)) {
    const raw = await openRaw(t, secure);
    raw.socket.write(preface);
    const sinceMs = Date.now();
    for (let n = 0; n < 20_000 && !raw.closed() && Date.now() - sinceMs < 1500; ) {
      const frames: Buffer[] = [];
      for (let index = 0; index < 100; index += 1, n += 1) frames.push(make(n));
      raw.socket.write(Buffer.concat(frames));
      await new Promise((resolve) => setImmediate(resolve));
    }
    t.equal((await ask(bystander, {})).body.length, 100_000, `${name}: the bystander; ${raw.closed() ? 'closed' : 'open'}, ${raw.came.find((each) => each.startsWith('goaway')) ?? ''}`);
    if (name !== 'window updates') await until(`${name}: it is closed`, () => raw.closed());
    raw.socket.destroy();
  }
  t.ok((await rssOf(secure.rig)) - before < 150_000_000, 'memory is bounded');
  t.ok(asked < 5000, `${asked} requests reached the application`);
});

t.test('broken frames', async (t) => {
  const secure = await openSecure(t);
  const shop = await openInstance(t, 'shop-1', (request, response) => {
    request.resume();
    request.on('end', () => response.end('good'));
    request.on('error', () => {});
  });
  await secure.rig.route([shop], { concurrency: 100 });
  const post = (...more: readonly Buffer<ArrayBuffer>[]): Buffer<ArrayBuffer> => Buffer.concat([Buffer.from([0x83, 0x87, 0x84, 0x41, 9]), Buffer.from('shop.test'), ...more]);
  /** A header bomb: one long entry in the dynamic table, then references to it. */
  const bomb = Buffer.concat([get, Buffer.from([0x40, 1, 97, 0x7f, 0xa1, 0x1e]), Buffer.alloc(4000, 97), Buffer.alloc(12_000, 0xbe)]);
  const rows: readonly (readonly [string, Buffer<ArrayBuffer>, 'closes' | 'either' | 'answers'])[] = [
    ['no preface', Buffer.from('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n'), 'closes'],
    ['noise', Buffer.from(Array.from({ length: 3000 }, (_, index) => (index * 7919) % 256)), 'closes'],
    ['a frame larger than allowed', Buffer.concat([preface, frame(0, 0, 1, Buffer.alloc(20_000))]), 'closes'],
    ['headers on stream 0', Buffer.concat([preface, frame(1, 5, 0, get)]), 'closes'],
    ['headers on an even stream', Buffer.concat([preface, frame(1, 5, 2, get)]), 'closes'],
    ['data on an idle stream', Buffer.concat([preface, frame(0, 0, 1, Buffer.alloc(10))]), 'either'],
    ['settings of odd length', Buffer.concat([preface, frame(4, 0, 0, Buffer.alloc(5))]), 'closes'],
    ['a ping of odd length', Buffer.concat([preface, frame(6, 0, 0, Buffer.alloc(7))]), 'closes'],
    ['a window of 0', Buffer.concat([preface, frame(8, 0, 0, number32(0))]), 'closes'],
    ['a window that overflows', Buffer.concat([preface, frame(8, 0, 0, number32(0x7fffffff))]), 'closes'],
    ['padding longer than the frame', Buffer.concat([preface, frame(1, 13, 1, Buffer.concat([Buffer.from([255]), get]))]), 'closes'],
    ['HPACK that ends in the middle', Buffer.concat([preface, frame(1, 5, 1, get.subarray(0, 7))]), 'closes'],
    ['an HPACK index that is not there', Buffer.concat([preface, frame(1, 5, 1, Buffer.concat([get, Buffer.from([0xff, 0x80, 0x80, 0x80, 0x80, 0x10])]))]), 'closes'],
    ['an HPACK table larger than allowed', Buffer.concat([preface, frame(1, 5, 1, Buffer.concat([Buffer.from([0x3f, 0xe1, 0xff, 0xff, 0x7f]), get]))]), 'closes'],
    ['continuation of nothing', Buffer.concat([preface, frame(9, 4, 1, get)]), 'closes'],
    ['data between headers and continuation', Buffer.concat([preface, frame(1, 0, 1, get), frame(6, 0, 0, Buffer.alloc(8))]), 'closes'],
    ['push from a client', Buffer.concat([preface, frame(5, 4, 1, Buffer.concat([number32(2), get]))]), 'closes'],
    ['a header bomb', Buffer.concat([preface, frame(1, 5, 1, bomb.subarray(0, 16_000))]), 'either'],
    ['a line end in a value', Buffer.concat([preface, frame(1, 5, 1, Buffer.concat([get, literal('a', 'b\r\nx: y')]))]), 'either'],
    ['an upper case name', Buffer.concat([preface, frame(1, 5, 1, Buffer.concat([get, literal('A', 'b')]))]), 'either'],
    ['transfer-encoding', Buffer.concat([preface, frame(1, 5, 1, Buffer.concat([get, literal('transfer-encoding', 'chunked')]))]), 'either'],
    ['two paths', Buffer.concat([preface, frame(1, 5, 1, Buffer.concat([get, Buffer.from([0x84])]))]), 'either'],
    ['more body than told', Buffer.concat([preface, frame(1, 4, 1, post(literal('content-length', '3'))), frame(0, 1, 1, Buffer.from('four'))]), 'either'],
    ['less body than told', Buffer.concat([preface, frame(1, 4, 1, post(literal('content-length', '3'))), frame(0, 1, 1, Buffer.from('22'))]), 'either'],
    ['a good one', Buffer.concat([preface, frame(1, 5, 1, get)]), 'answers'],
  ];
  const bystander = await openSession(t, secure);
  for (const [name, bytes, wanted] of rows) {
    const raw = await openRaw(t, secure);
    raw.socket.write(bytes);
    const answered = (): boolean => raw.came.includes('1');
    const reset = (): boolean => raw.came.some((each) => each.startsWith('reset'));
    const holds = { closes: raw.closed, either: () => raw.closed() || reset() || answered(), answers: answered }[wanted];
    await until(`${name}: ${wanted}; have ${raw.came.join(', ')}`, holds, 5000);
    if (wanted === 'closes') t.notOk(answered(), `${name}: no answer`);
    t.equal((await ask(bystander, { ':method': 'POST' }, Buffer.from('a'))).body.toString(), 'good', `${name}: the bystander`);
    raw.socket.destroy();
  }
});

t.test('a stop lets streams end, and a killed dispatcher is followed by another', async (t) => {
  const secure = await openSecure(t);
  const shop = await openInstance(t, 'shop-1', (request, response) => setTimeout(() => response.end('slow'), request.url === '/slow' ? 500 : 0));
  await secure.rig.route([shop]);
  const session = await openSession(t, secure);
  const slow = ask(session, { ':path': '/slow' });
  await until('it is under way', () => secure.rig.head.lastDemand?.instances[0]?.outstanding === 1);
  const exited = new Promise((resolve) => secure.rig.dispatcher().once('exit', resolve));
  secure.rig.dispatcher().kill('SIGTERM');
  t.equal((await slow).body.toString(), 'slow');
  await exited;
  await secure.rig.startDispatcher();
  await secure.rig.route([shop]);
  t.equal((await ask(await openSession(t, secure), {})).body.toString(), 'slow');
});
