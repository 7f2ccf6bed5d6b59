import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cpuMs, othersCpu, proxyCpu, startHaproxy, startNginx, startOurs } from './proxies.ts';
import type { Proxy } from './proxies.ts';
import type { Report } from './report.ts';
import { median, medianRatio, rounded } from './statistics.ts';

const connections = 32;
const answer = 'x'.repeat(512);

interface Measured {
  readonly perCpuSecond: number;
  readonly perSecond: number;
  readonly p99Ms: number;
  readonly failed: number;
}

/**
 * Keep-alive GETs through the shared address, beside nginx and haproxy as reverse proxies to the same server: requests for each second of
 * processor time, and the 99th percentile. Each proxy has one processor to itself in its turn; the load (wrk) and the server behind
 * have the other.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-bench-dispatch-'));
  const closing: { close(): Promise<void> }[] = [];
  try {
    const backend = await startNginx(folder, 'backend', othersCpu, (port) => `server { listen 127.0.0.1:${port}; keepalive_requests 100000000; location / { return 200 "${answer}"; } }`);
    closing.push(backend);
    const ours = await startOurs(backend.port);
    closing.push(ours);
    const nginx = await startNginx(
      folder,
      'nginx',
      proxyCpu,
      (port) =>
        `upstream app { server 127.0.0.1:${backend.port}; keepalive 64; keepalive_requests 100000000; } ` +
        `server { listen 127.0.0.1:${port}; keepalive_requests 100000000; location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; ` +
        'proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto http; } }',
    );
    closing.push(nginx);
    const haproxy = await startHaproxy(folder, backend.port);
    closing.push(haproxy);
    const proxies = [ours, nginx, haproxy];
    const seconds = quick ? 2 : 5;
    const rounds = quick ? 5 : 15;
    const samples = new Map(proxies.map((proxy) => [proxy.name, [] as Measured[]]));
    for (const proxy of proxies) await load(folder, proxy, 1);
    for (let round = 0; round < rounds; round += 1) {
      // In another order each round, so that none always follows the same one.
      for (let turn = 0; turn < proxies.length; turn += 1) {
        const proxy = proxies[(turn + round) % proxies.length] as Proxy;
        samples.get(proxy.name)?.push(await load(folder, proxy, seconds));
      }
    }
    return summarize(samples, rounds);
  } finally {
    for (const open of closing.toReversed()) await open.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

const reportScript = `done = function(summary, latency)
  io.write(string.format("RESULT %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(99), summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
`;

async function load(folder: string, proxy: Proxy, seconds: number): Promise<Measured> {
  const script = join(folder, 'report.lua');
  writeFileSync(script, reportScript);
  const cpuBefore = cpuMs(proxy.pid);
  const argv = ['taskset', '--cpu-list', `${othersCpu}`, 'wrk', '--threads', '1', '--connections', `${connections}`, '--duration', `${seconds}s`, '--header', 'Host: app.edge.test', '--script', script, `http://127.0.0.1:${proxy.port}/`];
  const wrk = Bun.spawn(argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  const text = await new Response(wrk.stdout).text();
  const usedMs = cpuMs(proxy.pid) - cpuBefore;
  const [, requests, durationUs, p99Us, failed] = (/^RESULT (\d+) (\d+) (\d+) (\d+)$/m.exec(text) ?? []).map(Number);
  if (requests === undefined || durationUs === undefined || p99Us === undefined || failed === undefined) throw new Error(`wrk said: ${text}`);
  return { perCpuSecond: requests / (usedMs / 1000), perSecond: requests / (durationUs / 1e6), p99Ms: p99Us / 1000, failed };
}

function summarize(samples: ReadonlyMap<string, readonly Measured[]>, rounds: number): Report {
  const of = (name: string, value: (measured: Measured) => number): number[] => (samples.get(name) ?? []).map(value);
  const perCpu = ({ perCpuSecond }: Measured): number => perCpuSecond;
  const p99 = ({ p99Ms }: Measured): number => p99Ms;
  return {
    bench: 'dispatch',
    ratios: {
      overNginx: rounded(medianRatio(of('edgepoint', perCpu), of('nginx', perCpu))),
      overHaproxy: rounded(medianRatio(of('edgepoint', perCpu), of('haproxy', perCpu))),
      p99OverNginx: rounded(medianRatio(of('edgepoint', p99), of('nginx', p99))),
      p99OverHaproxy: rounded(medianRatio(of('edgepoint', p99), of('haproxy', p99))),
    },
    figures: { n: rounds, connections, failed: [...samples.values()].flat().reduce((sum, { failed }) => sum + failed, 0) },
    rows: [...samples].map(([name, measured]) => ({
      'keep-alive GETs, one processor': name,
      n: measured.length,
      'requests / CPU second': rounded(median(measured.map(perCpu)), 0),
      'requests / s': rounded(median(measured.map(({ perSecond }) => perSecond)), 0),
      'p99 ms': rounded(median(measured.map(p99))),
    })),
    notes: [`${connections} connections, ${answer.length} byte answers; the server behind is nginx.`],
  };
}
