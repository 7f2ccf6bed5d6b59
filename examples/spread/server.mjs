// A stateless app: under load more copies of its template appear, and /whoami tells which one answers.
import { createServer } from 'node:http';
import { hostname } from 'node:os';

let requests = 0;

const server = createServer((request, response) => {
  requests += 1;
  const url = new URL(request.url ?? '/', 'http://app');
  const answer = (value) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(`${JSON.stringify(value)}\n`);
  };
  if (url.pathname === '/whoami') return answer({ instance: hostname(), requests });
  if (url.pathname === '/burn') {
    const ms = Math.min(10_000, Math.max(0, Number(url.searchParams.get('ms') ?? 20) || 0));
    const began = process.cpuUsage();
    let spent = 0;
    while (spent < ms) {
      for (let step = 0; step < 10_000; step += 1) Math.sqrt(step);
      const { user, system } = process.cpuUsage(began);
      spent = (user + system) / 1000;
    }
    return answer({ instance: hostname(), burntMs: ms });
  }
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.end(`spread answers from ${hostname()}\n`);
});

server.listen(Number(process.env.PORT ?? 3000), '0.0.0.0', () => console.log(`spread listens on ${server.address().port}`));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
