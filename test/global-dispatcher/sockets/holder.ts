import { openSockets } from '../../../world/sockets.ts';

/**
 * Run by Bun: `holder.ts HOST ENTRY CONFIG`. Holds a UDP and a TCP socket as the world's supervisor does and starts the dispatcher
 * with them as descriptors 3 and 4. The line `kill` on stdin kills it with SIGKILL and answers `dead` on stdout, the line `start`
 * starts it again; the end of stdin ends both.
 */
const [host = '', entry = '', config = ''] = process.argv.slice(2);
const descriptors = openSockets('/proc/self/ns/net', (['udp', 'tcp'] as const).map((protocol) => ({ protocol, address: host, port: 53 })));
const start = (): Bun.Subprocess => Bun.spawn([process.execPath, entry, '--config', config], { stdio: ['ignore', 'ignore', 'inherit', ...descriptors] });
let child = start();
for await (const line of console) {
  if (line === 'start') child = start();
  else {
    child.kill('SIGKILL');
    await child.exited;
    process.stdout.write('dead\n');
  }
}
child.kill('SIGKILL');
await child.exited;
