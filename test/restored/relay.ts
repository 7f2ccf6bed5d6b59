/**
 * Run by Bun inside an edgepoint's network namespace: each connection to its unix socket says "ADDRESS PORT\n" first and is then
 * joined to that address, so that a test outside can speak to instances. An end or error of one side is passed to the other.
 */
import { connect, createServer } from 'node:net';

createServer((client) => {
  client.once('data', (first: Buffer) => {
    const line = first.subarray(0, first.indexOf(10)).toString();
    const [address = '', port = ''] = line.split(' ');
    const upstream = connect(Number(port), address);
    const end = (): void => {
      client.destroy();
      upstream.destroy();
    };
    client.on('error', end).on('close', end);
    upstream.on('error', end).on('close', end);
    upstream.once('connect', () => client.write('joined\n'));
    upstream.write(first.subarray(line.length + 1));
    client.pipe(upstream);
    upstream.pipe(client);
  });
}).listen(process.argv[2], () => console.log('up'));
