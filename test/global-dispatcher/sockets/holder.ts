import { openSockets } from '../../../world/sockets.ts';

/**
 * Run by Bun: `holder.ts HOST ENTRY CONFIG`. Holds a UDP and a TCP socket as the world's supervisor does and starts the dispatcher
 * with them as descriptors 3 and 4; each line on stdin kills it with SIGKILL and starts it again; the end of stdin ends both.
 */
const [host = '', entry = '', config = ''] = process.argv.slice(2);
const descriptors = openSockets('/proc/self/ns/net', (['udp', 'tcp'] as const).map((protocol) => ({ protocol, address: host, port: 53 })));
const start = (): Bun.Subprocess => Bun.spawn([process.execPath, entry, '--config', config], { stdio: ['ignore', 'inherit', 'inherit', ...descriptors] });
let child = start();
for await (const _line of console) {
  child.kill('SIGKILL');
  await child.exited;
  child = start();
}
child.kill('SIGKILL');
await child.exited;
