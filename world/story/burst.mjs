// Concurrent load, run by Node in an end user's network namespace: burst.mjs URL CONNECTIONS SECONDS REQUESTS_MAX
// Prints one line of JSON: what was answered, by status and by answering copy, and what was lost.
import http from 'node:http';

const [url, connections, seconds, requestsMax] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: Number(connections) });
const endMs = performance.now() + Number(seconds) * 1000;
const statuses = {};
const latenciesMs = [];
let begun = 0;
let lost = 0;

function ask() {
  return new Promise((resolve) => {
    const startMs = performance.now();
    const request = http.get(url, { agent }, (response) => {
      response.resume();
      response.on('end', () => {
        statuses[response.statusCode] = (statuses[response.statusCode] ?? 0) + 1;
        latenciesMs.push(performance.now() - startMs);
        resolve();
      });
      response.on('error', () => {
        lost += 1;
        resolve();
      });
    });
    request.on('error', () => {
      lost += 1;
      resolve();
    });
  });
}

async function client() {
  while (performance.now() < endMs && begun < Number(requestsMax)) {
    begun += 1;
    await ask();
  }
}

await Promise.all(Array.from({ length: Number(connections) }, client));
agent.destroy();
latenciesMs.sort((a, b) => a - b);
const at = (part) => latenciesMs[Math.floor(part * (latenciesMs.length - 1))] ?? null;
process.stdout.write(`${JSON.stringify({ requests: begun, lost, statuses, p50Ms: at(0.5), p99Ms: at(0.99) })}\n`);
