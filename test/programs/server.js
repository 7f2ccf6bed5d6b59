// A server for tests, for Node and Bun: each GET counts one further in memory, in a worker's memory and in a file, and answers
// `MEMORY WORKER FILE`. GET /ticks says how often its timer has fired.
const { appendFileSync, statSync } = require('node:fs');
const { createServer } = require('node:http');
const { Worker, isMainThread, parentPort } = require('node:worker_threads');

function countInWorker() {
  let count = 0;
  parentPort.on('message', () => parentPort.postMessage(++count));
}

function serve() {
  const worker = new Worker(__filename);
  let count = 0;
  let ticks = 0;
  setInterval(() => (ticks += 1), 10);
  createServer(async (request, response) => {
    if (request.url === '/ticks') return response.end(`${ticks}\n`);
    count += 1;
    appendFileSync('/tmp/counted', 'x');
    const answered = new Promise((resolve) => worker.once('message', resolve));
    worker.postMessage('count');
    response.end(`${count} ${await answered} ${statSync('/tmp/counted').size}\n`);
  }).listen(8080, '0.0.0.0');
}

if (isMainThread) serve();
else countInWorker();
