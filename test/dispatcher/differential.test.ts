import fc from 'fast-check';
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import t from 'tap';
import { openInstance, openRig } from './rig.ts';

/** What an application saw of one request, and what it answers: a function of the request alone. */
interface Seen {
  readonly line: string;
  readonly fields: readonly string[];
  readonly body: string;
}

interface Wanted {
  readonly method: string;
  readonly path: string;
  readonly fields: readonly (readonly [string, string])[];
  readonly body: string;
  readonly framing: 'none' | 'length' | 'chunked';
  readonly chunkSizes: readonly number[];
  /** How the application answers. */
  readonly answer: 'length' | 'chunked' | 'empty' | 'none';
}

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

const wanted: fc.Arbitrary<Wanted> = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'PROPFIND'),
  path: fc.stringMatching(/^\/[a-z0-9/?&=%._~-]{0,30}$/),
  fields: fc.array(fc.tuple(fc.stringMatching(/^X-[A-Za-z0-9-]{1,12}$/), fc.stringMatching(/^[!-~][ -~]{0,30}[!-~]$/)), { maxLength: 5 }),
  body: fc.uint8Array({ minLength: 0, maxLength: 3000 }).map(latin1),
  framing: fc.constantFrom('none', 'length', 'chunked'),
  chunkSizes: fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 8 }),
  answer: fc.constantFrom('length', 'chunked', 'empty', 'none'),
});

function wire(request: Wanted, last: boolean): string {
  const head = [`${request.method} ${request.path} HTTP/1.1`, 'Host: shop.test', `X-Answer: ${request.answer}`, ...request.fields.map(([name, value]) => `${name}: ${value}`)];
  if (last) head.push('Connection: close');
  if (request.framing === 'none') return `${head.join('\r\n')}\r\n\r\n`;
  if (request.framing === 'length') return `${[...head, `Content-Length: ${request.body.length}`].join('\r\n')}\r\n\r\n${request.body}`;
  let chunks = '';
  let at = 0;
  for (let index = 0; at < request.body.length; index += 1) {
    const piece = request.body.slice(at, at + (request.chunkSizes[index % request.chunkSizes.length] ?? 1));
    chunks += `${piece.length.toString(16)}\r\n${piece}\r\n`;
    at += piece.length;
  }
  return `${[...head, 'Transfer-Encoding: chunked'].join('\r\n')}\r\n\r\n${chunks}0\r\n\r\n`;
}

/** Sends bytes cut at the given places, and gives all that comes back. */
function exchange(port: number, bytes: Buffer, cuts: readonly number[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    let text = '';
    socket.setTimeout(5000, () => reject(new Error(`no end; have ${JSON.stringify(text.slice(-300))}`)));
    socket.on('data', (data) => (text += data.toString('latin1')));
    socket.on('error', reject);
    socket.on('close', () => resolve(text));
    const edges = [...new Set([0, ...cuts.map((cut) => cut % bytes.length), bytes.length])].toSorted((a, b) => a - b);
    const send = (index: number): void => {
      if (index >= edges.length) return;
      socket.write(bytes.subarray(edges[index - 1], edges[index]), () => setImmediate(() => send(index + 1)));
    };
    send(1);
  });
}

/** Answers without what belongs to one connection only, and with chunks joined: how a body is cut into chunks may differ. */
function normal(text: string): readonly string[] {
  const answers: string[] = [];
  let rest = text;
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n');
    if (end < 0) return [...answers, `cut: ${rest}`];
    const lines = rest.slice(0, end).split('\r\n').filter((line) => !/^(Connection|Keep-Alive|Date):/i.test(line));
    rest = rest.slice(end + 4);
    const marked = lines.find((line) => line.startsWith('X-Method:')) ?? '';
    let body = '';
    const length = lines.find((line) => /^Content-Length:/i.test(line));
    if (/HEAD/.test(marked) || lines[0]?.startsWith('HTTP/1.1 204') === true) body = '';
    else if (length !== undefined) {
      body = rest.slice(0, Number(length.split(':')[1]));
      rest = rest.slice(body.length);
    } else {
      for (;;) {
        const size = parseInt(rest, 16);
        const data = rest.indexOf('\r\n') + 2;
        body += rest.slice(data, data + size);
        rest = rest.slice(data + size + 2);
        if (size === 0 || Number.isNaN(size)) break;
      }
    }
    answers.push(`${lines.join('\n')}\n\n${body}`);
  }
  return answers;
}

t.test('random requests, pipelined and cut anywhere, mean through the dispatcher what they mean directly', async (t) => {
  const rig = await openRig(t);
  let seen: Seen[] = [];
  const ours = /^(x-forwarded-.*|forwarded|connection)$/i;
  const shop = await openInstance(t, 'shop-1', (request, response) => {
    let body = '';
    request.on('data', (bytes: Buffer) => (body += bytes.toString('latin1')));
    request.on('end', () => {
      const fields: string[] = [];
      for (let index = 0; index < request.rawHeaders.length; index += 2) {
        if (!ours.test(request.rawHeaders[index] ?? '')) fields.push(`${request.rawHeaders[index]}: ${request.rawHeaders[index + 1]}`);
      }
      seen.push({ line: `${request.method} ${request.url}`, fields, body });
      const text = Buffer.from(`${request.method} ${request.url} ${body}`, 'latin1');
      response.setHeader('X-Method', request.method ?? '');
      const answer = request.headers['x-answer'];
      if (answer === 'none') response.writeHead(204).end();
      else if (answer === 'empty') response.writeHead(200, { 'Content-Length': 0 }).end();
      else if (answer === 'length') response.writeHead(200, { 'Content-Length': text.length }).end(text);
      else {
        response.write(text.subarray(0, 10));
        response.end(text.subarray(10));
      }
    });
  });
  await rig.route([shop], { concurrency: 64 });
  const runs = Number(process.env['LONG'] ?? 0) > 0 ? 3000 : 250;
  await fc.assert(
    fc.asyncProperty(fc.array(wanted, { minLength: 1, maxLength: 5 }), fc.array(fc.nat(20_000), { maxLength: 6 }), async (requests, cuts) => {
      const bytes = Buffer.from(requests.map((request, index) => wire(request, index === requests.length - 1)).join(''), 'latin1');
      seen = [];
      const direct = normal(await exchange(shop.port, bytes, cuts));
      const seenDirect = seen;
      seen = [];
      const through = normal(await exchange(rig.port, bytes, cuts));
      assert.deepEqual(seen, seenDirect, 'the application sees the same');
      assert.deepEqual(through, direct, 'the client sees the same');
      assert.equal(seen.length, requests.length);
    }),
    { numRuns: runs },
  );
  t.pass(`${runs} runs`);
});
