import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cpuMs, makeCertificate, othersCpu, proxyCpu, startNginx, startOurs } from './proxies.ts';
import type { BenchCertificate, Proxy } from './proxies.ts';
import type { Report } from './report.ts';
import { median, medianRatio, rounded } from './statistics.ts';

const small = 'x'.repeat(512);
const bigBytes = 1024 * 1024;
const idleConnections = 10_000;

interface Load {
  readonly name: string;
  /** What is counted. */
  readonly unit: string;
  argv(proxy: Proxy, folder: string, seconds: number): readonly string[];
}

const wrk = (url: string, connections: number, more: readonly string[], folder: string, seconds: number): readonly string[] => [
  'wrk', '--threads', '1', '--connections', `${connections}`, '--duration', `${seconds}s`, '--header', 'Host: app.edge.test', '--script', join(folder, 'report.lua'), ...more, url,
];
const close = ['--header', 'Connection: close'];

const loads: readonly Load[] = [
  { name: 'a new connection each', unit: 'requests', argv: ({ port }, folder, seconds) => wrk(`http://127.0.0.1:${port}/`, 32, close, folder, seconds) },
  { name: 'TLS, a handshake each', unit: 'requests', argv: ({ securePort }, folder, seconds) => wrk(`https://localhost:${securePort}/`, 32, close, folder, seconds) },
  { name: 'TLS, keep-alive', unit: 'requests', argv: ({ securePort }, folder, seconds) => wrk(`https://localhost:${securePort}/`, 32, [], folder, seconds) },
  {
    name: 'HTTP/2, 16 connections of 8 streams',
    unit: 'requests',
    argv: ({ securePort }, _folder, seconds) => ['h2load', '-c', '16', '-m', '8', '-D', `${seconds}`, `--connect-to=127.0.0.1:${securePort}`, `https://app.edge.test:${securePort}/`],
  },
  { name: 'answers of 1 MiB', unit: 'MiB', argv: ({ port }, folder, seconds) => wrk(`http://127.0.0.1:${port}/big`, 8, [], folder, seconds) },
  { name: 'answers of 1 MiB, TLS', unit: 'MiB', argv: ({ securePort }, folder, seconds) => wrk(`https://localhost:${securePort}/big`, 8, [], folder, seconds) },
  { name: 'bodies of 1 MiB', unit: 'MiB', argv: ({ port }, folder, seconds) => wrk(`http://127.0.0.1:${port}/`, 8, ['--script', join(folder, 'post.lua')], folder, seconds) },
];

/**
 * What `dispatch` leaves out, beside nginx as a reverse proxy to the same server: new connections, TLS, HTTP/2, large bodies (per second of
 * processor time), and what 10,000 idle connections hold in memory.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-bench-dispatch-more-'));
  const closing: { close(): Promise<void> }[] = [];
  try {
    writeScripts(folder);
    const certificate = makeCertificate(folder);
    const backend = await startNginx(folder, 'backend', othersCpu, (port) => backendServer(port, folder));
    closing.push(backend);
    const ours = await startOurs(backend.port, certificate);
    closing.push(ours);
    const nginx = await startNginx(folder, 'nginx', proxyCpu, (port, securePort) => nginxServer({ port, securePort, backendPort: backend.port, certificate }));
    closing.push(nginx);
    const rounds = quick ? 5 : 15;
    const seconds = quick ? 2 : 4;
    const rows: Record<string, string | number>[] = [];
    const ratios: Record<string, number> = {};
    /** Of ours. */
    let failed = 0;
    for (const proxy of [ours, nginx]) rows.push(await holdIdle(proxy));
    const only = process.env['ONLY'] ?? '';
    for (const load of loads.filter(({ name }) => name.includes(only))) {
      const samples = await compare(load, [ours, nginx], { folder, rounds, seconds });
      const [mine = [], theirs = []] = samples.map((each) => each.map(({ perCpuSecond }) => perCpuSecond));
      const [ourFailed = 0, theirFailed = 0] = samples.map((each) => each.reduce((sum, one) => sum + one.failed, 0));
      failed += ourFailed;
      // medianRatio(a, b) is the median of a / b.
      const ratio = rounded(medianRatio(mine, theirs));
      ratios[`${load.name}, over nginx`] = ratio;
      rows.push({ 'for each CPU second': load.name, n: rounds, edgepoint: rounded(median(mine), 0), nginx: rounded(median(theirs), 0), unit: load.unit, ratio, failed: `${ourFailed} / ${theirFailed}` });
    }
    return { bench: 'dispatch-more', ratios, figures: { failed }, rows, notes: [`${idleConnections} idle connections after one answer each; keep-alive GETs are in \`dispatch\`.`] };
  } finally {
    for (const open of closing.toReversed()) await open.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function writeScripts(folder: string): void {
  const report =
    'done = function(summary, latency)\n  local e = summary.errors\n' +
    '  io.write(string.format("RESULT %d %d\\n", summary.requests, e.connect + e.read + e.write + e.status + e.timeout))\nend\n';
  writeFileSync(join(folder, 'report.lua'), report);
  writeFileSync(join(folder, 'post.lua'), `wrk.method = "POST"\nwrk.body = string.rep("x", ${bigBytes})\n${report}`);
  writeFileSync(join(folder, 'big'), Buffer.alloc(bigBytes, 'y'));
}

const backendServer = (port: number, folder: string): string =>
  `server { listen 127.0.0.1:${port} backlog=4096; keepalive_requests 100000000; root ${folder}; client_max_body_size 2m; location / { return 200 "${small}"; } location /big { } }`;

function nginxServer(of: { port: number; securePort: number; backendPort: number; certificate: BenchCertificate }): string {
  const { port, securePort, backendPort, certificate } = of;
  return (
    `upstream app { server 127.0.0.1:${backendPort}; keepalive 64; keepalive_requests 100000000; } ` +
    `server { listen 127.0.0.1:${port} backlog=4096; listen 127.0.0.1:${securePort} ssl http2 backlog=4096; ssl_certificate ${certificate.chain}; ssl_certificate_key ${certificate.key}; ` +
    'ssl_protocols TLSv1.2 TLSv1.3; keepalive_requests 100000000; http2_max_concurrent_streams 100; client_max_body_size 2m; ' +
    'location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off; ' +
    'proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; } }'
  );
}

interface Sample {
  readonly perCpuSecond: number;
  readonly failed: number;
}

/** Samples of each proxy, taken in turn, in another order each round; the first round is not counted. */
async function compare(load: Load, proxies: readonly Proxy[], { folder, rounds, seconds }: { folder: string; rounds: number; seconds: number }): Promise<readonly Sample[][]> {
  const samples: Sample[][] = proxies.map(() => []);
  for (let round = 0; round <= rounds; round += 1) {
    for (let turn = 0; turn < proxies.length; turn += 1) {
      const index = (turn + round) % proxies.length;
      const proxy = proxies[index] as Proxy;
      const sample = await measure(load, proxy, folder, round === 0 ? 1 : seconds);
      if (round > 0) samples[index]?.push(sample);
    }
  }
  return samples;
}

async function measure(load: Load, proxy: Proxy, folder: string, seconds: number): Promise<Sample> {
  const before = cpuMs(proxy.pid);
  const child = Bun.spawn(['taskset', '--cpu-list', `${othersCpu}`, ...load.argv(proxy, folder, seconds)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const text = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
  const usedMs = cpuMs(proxy.pid) - before;
  const ofWrk = /^RESULT (\d+) (\d+)$/m.exec(text);
  const ofH2load = /requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed/.exec(text);
  const [, done, failed] = (ofWrk ?? ofH2load ?? []).map(Number);
  if (done === undefined || failed === undefined) throw new Error(`${load.name}, ${proxy.name}: ${text}`);
  return { perCpuSecond: done / (usedMs / 1000), failed };
}

const rssBytes = (pid: number): number => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;

/** What many idle connections hold, and what they cost while nothing happens. */
async function holdIdle(proxy: Proxy): Promise<Record<string, string | number>> {
  const before = rssBytes(proxy.pid);
  const child = Bun.spawn(['node', join(import.meta.dir, 'idle-connections.mjs'), `${proxy.port}`, `${idleConnections}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  const reader = child.stdout.getReader();
  await reader.read();
  const held = rssBytes(proxy.pid) - before;
  const cpuBefore = cpuMs(proxy.pid);
  await Bun.sleep(5000);
  const idleMs = cpuMs(proxy.pid) - cpuBefore;
  child.kill('SIGKILL');
  await child.exited;
  return { 'for each CPU second': `${idleConnections} idle connections: ${proxy.name}`, n: 1, 'KiB each': rounded(held / idleConnections / 1024), 'CPU ms / s': rounded(idleMs / 5) };
}
