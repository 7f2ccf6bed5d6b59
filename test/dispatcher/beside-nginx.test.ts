import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import t from 'tap';
import type { Test } from 'tap';
import { frame, literal } from './frames.ts';
import { openCertificates } from './certificates.ts';
import { openInstance, openRig } from './rig.ts';

const nginx = '/usr/sbin/nginx';

/** nginx with the same certificate in front of the same application. Gives its port for TLS. */
async function openNginx(t: Test, pem: string, appPort: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'nginx-'));
  const free = await openInstance(t, 'port', () => {});
  free.kill();
  writeFileSync(join(folder, 'shop.pem'), pem, { mode: 0o600 });
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ');
  const tls = `ssl_certificate ${folder}/shop.pem; ssl_certificate_key ${folder}/shop.pem; ssl_protocols TLSv1.2 TLSv1.3;`;
  const server = `server { listen 127.0.0.1:${free.port} ssl http2; ${tls} location / { proxy_pass http://127.0.0.1:${appPort}; proxy_http_version 1.1; proxy_set_header Host $host; } }`;
  writeFileSync(join(folder, 'nginx.conf'), `daemon off; master_process off; pid ${folder}/pid; error_log stderr crit; events {} http { access_log off; ${temporary} ${server} }`);
  const child = spawn(nginx, ['-c', join(folder, 'nginx.conf'), '-p', folder], { stdio: 'ignore' });
  t.teardown(async () => {
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    rmSync(folder, { recursive: true, force: true });
  });
  const answers = (): Promise<boolean> => new Promise((resolve) => connectTcp(free.port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false)));
  while (!(await answers())) await new Promise((resolve) => setTimeout(resolve, 20));
  return free.port;
}

const authority = Buffer.concat([Buffer.from([0x41, 9]), Buffer.from('shop.test')]);
const get = Buffer.concat([Buffer.from([0x82, 0x87, 0x84]), authority]);
const post = Buffer.concat([Buffer.from([0x83, 0x87, 0x84]), authority]);
const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0)]);

/** What became of a connection within a moment: the application's own answer, a refusal of ours, a reset, or its end. */
function outcomeOf(port: number, authorityPem: string, bytes: Buffer): Promise<'served' | 'refused'> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', servername: 'shop.test', ca: authorityPem, ALPNProtocols: ['h2'] });
    let input: Buffer = Buffer.alloc(0);
    let served = false;
    const finish = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(served ? 'served' : 'refused');
    };
    const timer = setTimeout(finish, 5000);
    socket.on('error', finish);
    socket.on('close', finish);
    socket.once('secureConnect', () => socket.write(bytes));
    socket.on('data', (data: Buffer) => {
      input = Buffer.concat([input, data]);
      while (input.length >= 9 && input.length >= 9 + input.readUIntBE(0, 3)) {
        const end = 9 + input.readUIntBE(0, 3);
        const type = input[3];
        // The application's body says so; everything else is somebody's refusal.
        if (type === 0 && input.toString('latin1', 9, end).includes('from the application')) served = true;
        const over = (type === 0 && ((input[4] ?? 0) & 1) === 1) || type === 3 || type === 7;
        input = input.subarray(end);
        if (over) return finish();
      }
    });
  });
}

t.test('what is served and what is refused over HTTP/2 is what nginx serves and refuses', { skip: existsSync(nginx) ? false : 'nginx is not installed' }, async (t) => {
  const certificates = openCertificates(t);
  const pem = certificates.put('shop.pem', ['shop.test']);
  const rig = await openRig(t, { certificates: certificates.folder });
  let seen: string[] = [];
  const shop = await openInstance(t, 'shop-1', (request, response) => {
    seen.push(`${request.method} ${request.url}`);
    request.resume();
    request.on('error', () => {});
    request.on('end', () => response.end('from the application'));
  });
  await rig.route([shop], { concurrency: 100 });
  const other = await openNginx(t, pem, shop.port);
  const rows: readonly (readonly [string, Buffer])[] = [
    ['a good one', frame(1, 5, 1, get)],
    ['in continuations', Buffer.concat([frame(1, 1, 1, get.subarray(0, 5)), frame(9, 0, 1, get.subarray(5, 8)), frame(9, 4, 1, get.subarray(8))])],
    ['padded', frame(1, 13, 1, Buffer.concat([Buffer.from([3]), get, Buffer.alloc(3)]))],
    ['with a priority', frame(1, 37, 1, Buffer.concat([Buffer.from([0, 0, 0, 0, 15]), get]))],
    ['a body', Buffer.concat([frame(1, 4, 1, post), frame(0, 1, 1, Buffer.from('abc'))])],
    ['a body of the told length', Buffer.concat([frame(1, 4, 1, Buffer.concat([post, literal('content-length', '3')])), frame(0, 1, 1, Buffer.from('abc'))])],
    ['a body in empty pieces', Buffer.concat([frame(1, 4, 1, post), frame(0, 0, 1), frame(0, 0, 1, Buffer.from('a')), frame(0, 1, 1)])],
    ['te: trailers', frame(1, 5, 1, Buffer.concat([get, literal('te', 'trailers')]))],
    ['a frame of no known type before', Buffer.concat([frame(200, 0, 0, Buffer.alloc(5)), frame(1, 5, 1, get)])],
    ['an even stream', frame(1, 5, 2, get)],
    ['stream 0', frame(1, 5, 0, get)],
    ['a line end in a value', frame(1, 5, 1, Buffer.concat([get, literal('a', 'b\r\nx: y')]))],
    ['an upper case name', frame(1, 5, 1, Buffer.concat([get, literal('Abc', 'b')]))],
    ['two paths', frame(1, 5, 1, Buffer.concat([get, Buffer.from([0x84])]))],
    ['no path', frame(1, 5, 1, Buffer.concat([Buffer.from([0x82, 0x87]), authority]))],
    ['no authority', frame(1, 5, 1, Buffer.from([0x82, 0x87, 0x84]))],
    ['a pseudo-field that is not known', frame(1, 5, 1, Buffer.concat([literal(':x', 'y'), get]))],
    ['more body than told', Buffer.concat([frame(1, 4, 1, Buffer.concat([post, literal('content-length', '2')])), frame(0, 1, 1, Buffer.from('abc'))])],
    ['less body than told', Buffer.concat([frame(1, 4, 1, Buffer.concat([post, literal('content-length', '5')])), frame(0, 1, 1, Buffer.from('abc'))])],
    ['an HPACK index that is not there', frame(1, 5, 1, Buffer.concat([get, Buffer.from([0xff, 0x80, 0x80, 0x10])]))],
    ['padding longer than the frame', frame(1, 13, 1, Buffer.concat([Buffer.from([255]), get]))],
    ['continuation of nothing', frame(9, 4, 1, get)],
    ['CONNECT', frame(1, 5, 1, Buffer.concat([literal(':method', 'CONNECT'), authority]))],
  ];
  for (const [name, frames] of rows) {
    seen = [];
    const ours = await outcomeOf(rig.securePort, certificates.authority, Buffer.concat([preface, frames]));
    const reached = seen.length;
    const theirs = await outcomeOf(other, certificates.authority, Buffer.concat([preface, frames]));
    t.equal(ours, theirs, `${name}: ${theirs} by nginx`);
    if (ours === 'refused' && !name.includes('body')) t.equal(reached, 0, `${name}: nothing of it reaches the application`);
  }
  t.notMatch(rig.said(), readFileSync(join(certificates.folder, 'shop.pem'), 'utf8').split('\n')[1] ?? '', 'no key in the log');
});
