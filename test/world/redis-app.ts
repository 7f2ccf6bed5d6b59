import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import { tools } from '../../host/tools.ts';
import { writeApp } from './faults/fault-world.ts';

export const echoPort = 7000;
export const sourcePort = 7001;
export const redisPort = 6379;

/** Port 7000 echoes, and ends when its client has ended; 7001 writes without end, and GET /written tells how much of it left the program. */
const server = `import { createServer } from 'node:http';
import { createServer as listen } from 'node:net';
let written = 0;
createServer((request, response) => response.end(String(written))).listen(3000, '0.0.0.0');
listen({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => socket.destroy());
  socket.pipe(socket);
}).listen(${echoPort}, '0.0.0.0');
listen((socket) => {
  socket.on('error', () => socket.destroy());
  const bytes = Buffer.alloc(65536, 'x');
  const more = () => {
    if (socket.destroyed) return;
    written += bytes.length;
    if (socket.write(bytes)) setImmediate(more);
    else socket.once('drain', more);
  };
  more();
}).listen(${sourcePort}, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
`;

/** Where the runtimes root has the server and its client. */
const root = tools.runtimesRoot;

/** An app with a real Redis beside its HTTP server, brought along with the libraries that the base root has not. */
export function writeRedisApp(parent: string, app: string): string {
  const folder = writeApp(parent, app, {
    server,
    manifest: `[scale]\nidleSeconds = 1\n[[process]]\nname = "redis"\ncommand = ["/app/redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/tmp"]\nenv = { LD_LIBRARY_PATH = "/app/lib" }`,
  });
  mkdirSync(join(folder, 'lib'));
  const asked = spawnSync('chroot', [root, 'ldd', '/usr/bin/redis-server'], { encoding: 'utf8' });
  for (const [, path = ''] of asked.stdout.matchAll(/=> (\/\S+)/g)) {
    if (/lib(atomic|lzf|jemalloc)/.test(path)) copyFileSync(realpathSync(join(root, path)), join(folder, 'lib', basename(path)));
  }
  copyFileSync(realpathSync(join(root, 'usr/bin/redis-server')), join(folder, 'redis-server'));
  return folder;
}

/** The real client, by the port of this machine. */
export const redisCli = (port: number, words: readonly string[]): string[] => ['chroot', root, 'redis-cli', '-p', String(port), ...words];
