'use strict';
// Counts primes, and how often it was asked. The unix socket between the two is one instance's own.
const { rmSync } = require('node:fs');
const { createServer } = require('node:net');

const path = process.env.WORKER_SOCKET ?? '/tmp/worker.sock';
let asked = 0;

function primesBelow(limit) {
  const composite = new Uint8Array(limit);
  let count = 0;
  for (let number = 2; number < limit; number += 1) {
    if (composite[number] === 1) continue;
    count += 1;
    for (let multiple = number * number; multiple < limit; multiple += number) composite[multiple] = 1;
  }
  return count;
}

rmSync(path, { force: true });
const server = createServer((socket) => {
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
    if (!text.includes('\n')) return;
    asked += 1;
    socket.end(`${JSON.stringify({ below: Number(text), primes: primesBelow(Number(text)), asked, worker: process.pid })}\n`);
  });
  socket.on('error', (error) => console.error(`a socket failed: ${error.message}`));
});
server.listen(path, () => console.log('worker is ready'));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
