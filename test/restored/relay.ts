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
    client.on('error', () => upstream.destroy()).on('close', () => upstream.destroy());
    /* What is still on its way to the client is delivered before the end; after an error too, for its bytes came first. */
    upstream.on('error', () => client.destroySoon()).on('close', () => client.end());
    upstream.once('connect', () => client.write('joined\n'));
    upstream.write(first.subarray(line.length + 1));
    client.pipe(upstream);
    upstream.pipe(client);
  });
}).listen(process.argv[2], () => console.log('up'));
