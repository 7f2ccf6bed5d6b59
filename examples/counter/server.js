'use strict';
// Its memory is the point: with state = "keep" the count goes on where it was after each sleep.
const { createServer } = require('node:http');
const { hostname } = require('node:os');
const { WebSocketServer } = require('ws');

let count = 0;
let messages = 0;
const bootedMs = Date.now();

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url ?? '/', 'http://app');
  if (request.method === 'POST' && pathname === '/count') count += 1;
  else if (pathname === '/count/next') count += 1;
  else if (pathname !== '/' && pathname !== '/count') {
    response.writeHead(404, { 'content-type': 'text/plain' });
    response.end('here are / and /count; POST /count counts\n');
    return;
  }
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify({ count, messages, bootedMs, instance: hostname() })}\n`);
});

// Each message comes back with its number, so that one lost across a sleep would be seen.
const sockets = new WebSocketServer({ server, path: '/echo', maxPayload: 1024 * 1024 });
sockets.on('connection', (socket) => {
  let own = 0;
  socket.on('message', (data) => {
    own += 1;
    messages += 1;
    socket.send(JSON.stringify({ number: own, echo: String(data) }));
  });
  socket.on('error', (error) => console.error(`a socket failed: ${error.message}`));
});

server.listen(Number(process.env.PORT ?? 3000), '0.0.0.0', () => console.log(`counter listens on ${server.address().port}`));
process.on('SIGTERM', () => {
  for (const socket of sockets.clients) socket.close(1001);
  server.close(() => process.exit(0));
});
