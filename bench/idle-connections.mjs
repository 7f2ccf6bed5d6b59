// Opens connections, asks once on each, and holds them until it is killed: node idle-connections.mjs PORT COUNT
import { connect } from 'node:net';

const [port, count] = process.argv.slice(2).map(Number);
let answered = 0;
const open = () =>
  new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('error', reject);
    socket.write('GET / HTTP/1.1\r\nHost: app.edge.test\r\n\r\n');
    let bytes = 0;
    socket.on('data', (data) => {
      bytes += data.length;
      // Head and 512 bytes.
      if (bytes > 512) resolve();
    });
  });
for (let at = 0; at < count; at += 100) {
  await Promise.all(Array.from({ length: Math.min(100, count - at) }, open));
  answered += 100;
}
console.log(`open ${answered}`);
