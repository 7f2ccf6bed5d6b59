import { serveHealth } from '../host/health.ts';
import { openMetrics } from '../host/metrics.ts';

/**
 * `relay.ts ADDRESS PORT UPSTREAM HEALTH`: passes GET and HEAD on to a registry of packages, for the edgepoints of a world, whose instances do
 * not reach the internet; at the unix socket HEALTH it says that it is well. Bodies pass as they are, packed or not; links in them lead where
 * the registry says. Nothing of what was sent but the path and what is accepted goes out.
 */
const [address = '', port = '', upstream = '', health = ''] = process.argv.slice(2);
const base = new URL(upstream);
/** A file that takes so long is given up; npm asks again. */
const answerMs = 120_000;
const passedOn = ['accept', 'accept-encoding', 'if-none-match', 'if-modified-since', 'user-agent'] as const;
const passedBack = ['content-type', 'content-encoding', 'content-length', 'etag', 'last-modified', 'cache-control', 'vary', 'location'] as const;

const picked = (from: Headers, names: readonly string[]): Record<string, string> => Object.fromEntries(names.flatMap((name) => (from.get(name) === null ? [] : [[name, from.get(name) ?? '']])));

Bun.serve({
  hostname: address,
  port: Number(port),
  idleTimeout: 120,
  async fetch(request) {
    if (request.method !== 'GET' && request.method !== 'HEAD') return new Response('only GET passes\n', { status: 405 });
    const { pathname, search } = new URL(request.url);
    const target = new URL(base);
    // Set by parts: a path that begins with two slashes would be another host's. It stays below the upstream's own, for its dots are gone.
    target.pathname = `${base.pathname.replace(/\/$/, '')}${pathname}`;
    target.search = search;
    try {
      const answer = await fetch(target, { method: request.method, headers: picked(request.headers, passedOn), decompress: false, redirect: 'manual', signal: AbortSignal.timeout(answerMs) });
      return new Response(answer.body, { status: answer.status, headers: picked(answer.headers, passedBack) });
    } catch (thrown) {
      return new Response(`${target.host} cannot be reached: ${thrown instanceof Error ? thrown.message : String(thrown)}\n`, { status: 502 });
    }
  },
});
serveHealth({ listen: `unix:${health}`, metrics: openMetrics('relay'), check: () => ({ ok: true, detail: {} }) });
