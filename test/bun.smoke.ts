import { describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { openSockets } from '../world/sockets.ts';

/** tap runs on Node, and `bunx tap` silently does as well: this one file proves that the daemons' runtime is what it should be. */
describe('the runtime of the daemons', () => {
  test('is Bun, in the version that package.json pins', async () => {
    const pinned = (await Bun.file(join(import.meta.dirname, '../package.json')).json()) as { dependencies: { bun: string } };
    expect(process.versions.bun).toBe(pinned.dependencies.bun);
  });

  test('adopts a listening socket that its parent opened through libc', async () => {
    const [descriptor = -1] = openSockets('/proc/self/ns/net', [{ protocol: 'tcp', address: '127.0.0.1', port: 0 }]);
    const child = Bun.spawn([process.execPath, '-e', "const server = require('net').createServer((socket) => socket.end('adopted')); server.listen({ fd: 3 }, () => console.log(server.address().port))"], {
      stdio: ['ignore', 'pipe', 'inherit', descriptor],
    });
    try {
      const { value } = await child.stdout.getReader().read();
      const port = Number(new TextDecoder().decode(value));
      const answer = await new Promise<string>((resolve, reject) => {
        let text = '';
        const socket = { data: (_: unknown, bytes: Buffer) => void (text += bytes.toString()), close: () => resolve(text), error: (_: unknown, error: Error) => reject(error) };
        Bun.connect({ hostname: '127.0.0.1', port, socket }).catch(reject);
      });
      expect(answer).toBe('adopted');
    } finally {
      child.kill();
      await child.exited;
    }
  });
});
