'use strict';
// The front of two processes in one instance: it takes requests and has the worker do what is slow.
const { createServer } = require('node:http');
const { connect } = require('node:net');

const worker = process.env.WORKER_SOCKET ?? '/tmp/worker.sock';

/** One number a line there, one answer a line back. */
function ask(number) {
  return new Promise((resolve, reject) => {
    const socket = connect(worker, () => socket.write(`${number}\n`));
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk) => (text += chunk));
    socket.once('error', reject).once('end', () => resolve(text.trim()));
  });
}

const server = createServer((request, response) => {
  const end = (status, value) => response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(value)}\n`);
  const number = /^\/primes\/(\d{1,6})$/.exec(request.url ?? '')?.[1];
  if (number === undefined) return end(request.url === '/' ? 200 : 404, { ask: '/primes/N, N of at most six digits' });
  ask(number).then(
    (answer) => end(200, JSON.parse(answer)),
    (error) => end(502, { error: `the worker does not answer: ${error.message}` }),
  );
});
server.listen(Number(process.env.PORT ?? 3000), '0.0.0.0', () => console.log('web is ready'));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
