import t from 'tap';
import { openInstance, openRawClient, openRawInstance, openRig, until } from './rig.ts';

const host = 'Host: shop.test\r\n';
const hidden = `GET /smuggled HTTP/1.1\r\n${host}\r\n`;

/** Name, bytes, status of the (last) answer, and whether the connection is closed after it. */
const rows: readonly (readonly [string, string, number, 'closes' | 'stays'])[] = [
  ['a plain request', `GET /ok HTTP/1.1\r\n${host}\r\n`, 200, 'stays'],
  ['an unknown host', 'GET /ok HTTP/1.1\r\nHost: other.test\r\n\r\n', 404, 'stays'],
  ['no host', `GET /ok HTTP/1.1\r\n\r\n`, 400, 'closes'],
  ['two hosts', `GET /ok HTTP/1.1\r\n${host}Host: other.test\r\n\r\n${hidden}`, 400, 'closes'],
  ['two equal hosts', `GET /ok HTTP/1.1\r\n${host}${host}\r\n`, 400, 'closes'],
  ['absolute-form for another host', `GET http://other.test/smuggled HTTP/1.1\r\n${host}\r\n`, 400, 'closes'],
  ['absolute-form for the same host', `GET http://shop.test/ok HTTP/1.1\r\n${host}\r\n`, 200, 'stays'],
  ['content-length twice, equal', `POST /ok HTTP/1.1\r\n${host}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc`, 400, 'closes'],
  ['content-length twice, different', `POST /ok HTTP/1.1\r\n${host}Content-Length: 0\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`, 400, 'closes'],
  ['content-length as a list', `POST /ok HTTP/1.1\r\n${host}Content-Length: 3, 3\r\n\r\nabc`, 400, 'closes'],
  ['content-length with a sign', `POST /ok HTTP/1.1\r\n${host}Content-Length: +3\r\n\r\nabc`, 400, 'closes'],
  ['TE and CL', `POST /ok HTTP/1.1\r\n${host}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['CL and TE, hidden by a tab', `POST /ok HTTP/1.1\r\n${host}Content-Length: 4\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['TE with a vertical tab', `POST /ok HTTP/1.1\r\n${host}Content-Length: 4\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['TE twice', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['TE of another coding', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding: gzip\r\n\r\n`, 501, 'closes'],
  ['TE with a space before the colon', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['TE folded', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['TE in HTTP/1.0', `POST /ok HTTP/1.0\r\n${host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['TE hidden behind a bare line feed', `POST /ok HTTP/1.1\r\n${host}A: b\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['TE hidden behind a bare carriage return', `POST /ok HTTP/1.1\r\n${host}A: b\rTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['an underscore for a hyphen', `POST /ok HTTP/1.1\r\n${host}Transfer_Encoding: chunked\r\n\r\n`, 400, 'closes'],
  ['lines of bare line feeds', `GET /ok HTTP/1.1\nHost: shop.test\n\n`, 400, 'closes'],
  ['a NUL in a value', `GET /ok HTTP/1.1\r\n${host}A: b\0c\r\n\r\n`, 400, 'closes'],
  ['a NUL in the target', `GET /o\0k HTTP/1.1\r\n${host}\r\n`, 400, 'closes'],
  ['a folded field', `GET /ok HTTP/1.1\r\n${host}A: b\r\n c: d\r\n\r\n`, 400, 'closes'],
  ['a field without a colon', `GET /ok HTTP/1.1\r\n${host}A b\r\n\r\n`, 400, 'closes'],
  ['a field without a name', `GET /ok HTTP/1.1\r\n${host}: b\r\n\r\n`, 400, 'closes'],
  ['a space in the target', `GET /ok /smuggled HTTP/1.1\r\n${host}\r\n`, 400, 'closes'],
  ['HTTP/0.9', 'GET /ok\r\n\r\n', 400, 'closes'],
  ['HTTP/2 by prior knowledge', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505, 'closes'],
  ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400, 'closes'],
  ['CONNECT', `CONNECT shop.test:80 HTTP/1.1\r\n${host}\r\n`, 405, 'closes'],
  ['TRACE', `TRACE /ok HTTP/1.1\r\n${host}\r\n`, 405, 'closes'],
  ['another expectation', `POST /ok HTTP/1.1\r\n${host}Expect: tea\r\n\r\n`, 417, 'closes'],
  ['a request line of 9 KiB', `GET /${'a'.repeat(9 * 1024)} HTTP/1.1\r\n${host}\r\n`, 414, 'closes'],
  ['a head of 40 KiB', `GET /ok HTTP/1.1\r\n${host}A: ${'a'.repeat(40 * 1024)}\r\n\r\n`, 431, 'closes'],
  ['200 fields', `GET /ok HTTP/1.1\r\n${host}${'A: b\r\n'.repeat(200)}\r\n`, 431, 'closes'],
  ['a chunk size that is no number', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\nxyz\r\n${hidden}`, 400, 'closes'],
  ['a chunk size with a sign', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n`, 400, 'closes'],
  ['a chunk size that overflows', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['a chunk longer than its size', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['a chunk size ended by a line feed', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['an extension that hides a line', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n${hidden}`, 400, 'closes'],
  ['a bad trailer', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n0\r\nA b\r\n\r\n${hidden}`, 400, 'closes'],
  ['extensions, which are dropped', `POST /ok HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n3;a="b"\r\nabc\r\n0;c\r\nX: y\r\n\r\n`, 200, 'stays'],
  ['h2c, which is not taken', `GET /ok HTTP/1.1\r\n${host}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n`, 200, 'stays'],
  ['Connection that names Content-Length', `POST /ok HTTP/1.1\r\n${host}Connection: content-length\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`, 200, 'stays'],
  ['Connection that names Host', `GET /ok HTTP/1.1\r\n${host}Connection: host\r\n\r\n`, 200, 'stays'],
  ['a body that looks like a request', `POST /ok HTTP/1.1\r\n${host}Content-Length: ${hidden.length}\r\n\r\n${hidden}`, 200, 'stays'],
  ['GET with a body that looks like a request', `GET /ok HTTP/1.1\r\n${host}Content-Length: ${hidden.length}\r\n\r\n${hidden}`, 200, 'stays'],
  ['an upgrade with a body', `POST /ok HTTP/1.1\r\n${host}Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`, 200, 'stays'],
];

t.test('hostile bytes get their answer, hurt nobody else, and reach the application only as what they mean', async (t) => {
  const rig = await openRig(t);
  const seen: string[] = [];
  const broken: string[] = [];
  const shop = await openInstance(t, 'shop-1', (request, response) => {
    let body = '';
    request.on('data', (bytes: Buffer) => (body += bytes.toString('latin1')));
    request.on('end', () => {
      seen.push(`${request.method} ${request.url}`);
      response.end(`got ${body.length}`);
    });
    request.on('error', () => {});
  });
  shop.server.on('clientError', (error: Error & { code?: string }, socket: { destroy(): void }) => {
    if (error.code?.startsWith('HPE_') === true && error.code !== 'HPE_INVALID_EOF_STATE') broken.push(error.code);
    socket.destroy();
  });
  await rig.route([shop], { concurrency: 64 });
  const bystander = openRawClient(t, rig.port);
  let asked = 0;
  for (const [name, bytes, status, after] of rows) {
    const client = openRawClient(t, rig.port);
    client.send(Buffer.from(bytes, 'latin1'));
    const text = await client.until(name, (text) => /^HTTP\/1\.1 (?!1)\d\d\d [^]*\r\n\r\n[^]+/.test(text) || client.closed());
    t.equal(Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]), status, name);
    t.equal(/\r\nConnection: close\r\n/i.test(text), after === 'closes', `${name}: ${after}`);
    if (after === 'closes') await client.untilClosed();
    t.equal(text.split('HTTP/1.1 ').length - 1, 1, `${name}: one answer`);
    bystander.send(`GET /ok HTTP/1.1\r\n${host}\r\n`);
    asked += 1;
    await bystander.until(`${name}: the bystander`, (text) => text.split('got 0').length - 1 === asked);
  }
  t.same(seen.filter((line) => line.includes('smuggled')), [], 'no hidden request was seen');
  t.same(broken, [], "the application's parser found nothing wrong");
});

t.test('pipelined requests are answered in order, and the one after a refused one is never looked at', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (request, response) => setTimeout(() => response.end(`<${request.url}>`), request.url === '/slow' ? 60 : 0));
  await rig.route([shop]);
  const client = openRawClient(t, rig.port);
  client.send(`GET /slow HTTP/1.1\r\n${host}\r\nGET /a HTTP/1.1\r\n${host}\r\nGET /x HTTP/1.1\r\nHost: nobody.test\r\n\r\nGET /b HTTP/1.1\r\n${host}\r\nBAD\r\n\r\n${hidden}`);
  const text = await client.untilClosed();
  t.same(text.match(/<[^>]*>|HTTP\/1\.1 [45]\d\d/g), ['</slow>', '</a>', 'HTTP/1.1 404', '</b>', 'HTTP/1.1 400']);
});

t.test('a client that sends without end and reads nothing is held back', async (t) => {
  const rig = await openRig(t);
  let answered = 0;
  const shop = await openInstance(t, 'shop-1', (_, response) => {
    answered += 1;
    response.end('x'.repeat(16 * 1024));
  });
  await rig.route([shop]);
  const client = openRawClient(t, rig.port);
  client.socket.pause();
  const many = 20_000;
  client.send(`GET / HTTP/1.1\r\n${host}\r\n`.repeat(many));
  let before = -1;
  await until('it stands still', () => {
    const same = before === answered && answered > 0;
    before = answered;
    return same;
  });
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.ok(answered < many / 2, `${answered} of ${many} were answered`);
});

t.test('what an application says wrongly never reaches another exchange', async (t) => {
  const rig = await openRig(t);
  const poison = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison';
  const answers: Readonly<Record<string, string>> = {
    '/extra': `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok${poison}`,
    '/head-body': `HTTP/1.1 204 No Content\r\n\r\n${poison}`,
    '/both': `HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${poison}`,
    '/garbage': 'SSH-2.0-OpenSSH\r\n\r\n',
    '/unasked': `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n${poison}`,
    '/short': 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort',
    '/bad-chunk': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    '/good': 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood',
  };
  const shop = await openRawInstance(t, 'shop-1', (socket) => {
    socket.on('data', (bytes) => {
      const path = /^\w+ (\S+)/.exec(bytes.toString('latin1'))?.[1] ?? '';
      socket.write(answers[path] ?? '');
      if (path === '/short') socket.end();
      if (path === '/extra') setTimeout(() => socket.write(poison), 5);
    });
  });
  await rig.route([shop]);
  const expected: Readonly<Record<string, RegExp>> = {
    '/extra': /\r\n\r\nok$/,
    '/head-body': /^HTTP\/1\.1 204 No Content\r\n\r\n$/,
    '/both': /^HTTP\/1\.1 502/,
    '/garbage': /^HTTP\/1\.1 502/,
    '/unasked': /^HTTP\/1\.1 502/,
    '/short': /\r\n\r\nshort$/,
    '/bad-chunk': /^HTTP\/1\.1 502/,
  };
  for (const [path, pattern] of Object.entries(expected)) {
    const client = openRawClient(t, rig.port);
    client.send(`GET ${path} HTTP/1.1\r\n${host}\r\n`);
    await client.until(path, (text) => pattern.test(text));
    const closes = path === '/short';
    if (closes) await client.untilClosed();
    else client.send(`GET /good HTTP/1.1\r\n${host}\r\n`);
    if (!closes) await client.until(`${path}, then a good one`, (text) => text.endsWith('good'));
    t.notMatch(client.text(), 'poison', path);
  }
});
