import { createServer } from 'node:http';
import { rmSync } from 'node:fs';
import type { Metrics } from './metrics.ts';

/**
 * GET /healthz: 200, or 503 when `check` says so, with its detail as JSON. GET /metrics: Prometheus' text.
 * `listen` is `unix:/path` (a socket file left there is replaced) or `host:port`; `address` says it back with the real port.
 */
export function serveHealth(options: {
  listen: string;
  metrics: Metrics;
  check: () => { ok: boolean; detail: Record<string, unknown> };
}): { stop(): void; readonly address: string } {
  const { listen, metrics, check } = options;
  const server = createServer((request, response) => {
    const answer = (status: number, type: string, body: string): void => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
      response.end(request.method === 'HEAD' ? undefined : body);
    };
    const path = (request.url ?? '').split('?')[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(405, 'text/plain', 'only GET\n');
    if (path === '/healthz') {
      const { ok, detail } = check();
      return answer(ok ? 200 : 503, 'application/json', `${JSON.stringify({ ok, ...detail })}\n`);
    }
    if (path !== '/metrics') return answer(404, 'text/plain', 'here are /healthz and /metrics\n');
    metrics.text().then(
      (text) => answer(200, 'text/plain; version=0.0.4; charset=utf-8', text),
      (thrown: unknown) => answer(500, 'text/plain', `${String(thrown)}\n`),
    );
  });
  const path = listen.startsWith('unix:') ? listen.slice('unix:'.length) : null;
  if (path === null) {
    const { host, port } = splitAddress(listen);
    server.listen(port, host);
  } else {
    rmSync(path, { force: true });
    server.listen(path);
  }
  return {
    get address() {
      const bound = server.address();
      if (path !== null || bound === null || typeof bound === 'string') return listen;
      return bound.family === 'IPv6' ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`;
    },
    stop: () => {
      server.closeAllConnections?.();
      server.close();
      if (path !== null) rmSync(path, { force: true });
    },
  };
}

/** `127.0.0.1:80`, `[::1]:80`, `:80` (every address). */
function splitAddress(listen: string): { host: string; port: number } {
  const colon = listen.lastIndexOf(':');
  const host = listen.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return { host: host === '' ? '::' : host, port: Number(listen.slice(colon + 1)) };
}
