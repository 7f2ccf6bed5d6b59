import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const tcpPort = 7000;
export const udpPort = 7001;
export const httpPort = 3000;

/** Greets with who it is and whom it sees, echoes what comes; by UDP the same in one datagram. */
const server = `const fs = require('fs');
const me = () => fs.readFileSync('/run/me', 'utf8').trim();
require('http').createServer((request, response) => {
  const [, what, host, port] = request.url.split('/');
  if (what !== 'reach') return response.end('http ' + me() + '\\n');
  const socket = require('net').connect({ host, port: Number(port), timeout: 1500 });
  const end = (text) => (socket.destroy(), response.end(text));
  socket.once('connect', () => end('reached')).once('error', (error) => end(error.code)).once('timeout', () => end('silent'));
}).listen(${httpPort});
require('net').createServer((socket) => {
  socket.on('error', () => socket.destroy());
  socket.write('tcp ' + me() + ' ' + socket.remoteAddress + ' ' + socket.remotePort + '\\n');
  socket.pipe(socket);
}).listen(${tcpPort}, '::');
for (const type of ['udp4', 'udp6']) {
  const socket = require('dgram').createSocket(type === 'udp6' ? { type, ipv6Only: true } : { type });
  socket.on('error', () => undefined);
  socket.on('message', (bytes, from) => socket.send('udp ' + me() + ' ' + from.address + ' ' + from.port + ' ' + bytes, from.port, from.address));
  socket.bind(${udpPort}, type === 'udp4' ? '0.0.0.0' : '::');
}
`;

/** An app with an address of its own, in a folder; `release` makes it another release, `scale` is of the manifest. */
export function writeOwnApp(folder: string, about: { app: string; scale: string; release?: number; state?: string }): string {
  const path = join(folder, about.app);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'server.js'), `// ${about.release ?? 1}\n${server}`);
  writeFileSync(
    join(path, 'edgepoint.toml'),
    `app = "${about.app}"
command = ["node", "server.js"]
port = ${httpPort}
state = "${about.state ?? 'template'}"

[[ownPort]]
port = ${tcpPort}

[[ownPort]]
protocol = "udp"
port = 53
targetPort = ${udpPort}

[[file]]
path = "/run/me"
text = "{instance} {release}"

[scale]
${about.scale}
`,
  );
  return path;
}
