import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, openDispatcher } from './local-dispatcher.ts';
import type { Report } from './report.ts';
import { median, medianRatio, rounded } from './statistics.ts';

const proxyCpu = 0;
const othersCpu = 1;
const connections = 32;
const answer = 'x'.repeat(512);
const tickMs = 10; // USER_HZ (proc(5))

interface Proxy {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  close(): Promise<void>;
}

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

async function startOurs(backendPort: number): Promise<Proxy> {
  const dispatcher = await openDispatcher({ cpu: proxyCpu });
  await dispatcher.routes([
    {
      owner: { provider: 'bench', scope: 'main', app: 'app' },
      hosts: ['app.edge.test'],
      status: 'ready',
      reason: '',
      concurrency: 1000,
      holdMs: 60_000,
      instances: [{ instance: 'i-1', address: '127.0.0.1', port: backendPort }],
    },
  ]);
  return { name: 'edgepoint', port: dispatcher.port, pid: dispatcher.pid, close: dispatcher.close };
}

async function startNginx(folder: string, name: string, cpu: number, serverOf: (port: number) => string): Promise<Proxy> {
  const port = await freePort();
  const config = join(folder, `${name}.conf`);
  writeFileSync(
    config,
    `daemon off; master_process off; worker_processes 1; pid ${folder}/${name}.pid; error_log stderr error; events { worker_connections 4096; } ` +
      `http { access_log off; tcp_nodelay on; client_body_temp_path ${folder}/${name}-body; proxy_temp_path ${folder}/${name}-proxy; ` +
      `fastcgi_temp_path ${folder}/${name}-f; uwsgi_temp_path ${folder}/${name}-u; scgi_temp_path ${folder}/${name}-s; ${serverOf(port)} }`,
  );
  return startPeer(name, port, ['taskset', '--cpu-list', `${cpu}`, '/usr/sbin/nginx', '-c', config, '-p', folder]);
}

async function startHaproxy(folder: string, backendPort: number): Promise<Proxy> {
  const port = await freePort();
  const config = join(folder, 'haproxy.cfg');
  writeFileSync(
    config,
    `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend front
  bind 127.0.0.1:${port}
  default_backend app
backend app
  server one 127.0.0.1:${backendPort}
`,
  );
  return startPeer('haproxy', port, ['taskset', '--cpu-list', `${proxyCpu}`, '/usr/sbin/haproxy', '-db', '-f', config]);
}

async function startPeer(name: string, port: number, argv: readonly string[]): Promise<Proxy> {
  const child = Bun.spawn([...argv], { stdio: ['ignore', 'ignore', 'inherit'] });
  for (let waited = 0; ; waited += 1) {
    const up = await fetch(`http://127.0.0.1:${port}/`).then(
      () => true,
      () => false,
    );
    if (up) break;
    if (child.exitCode !== null || waited > 500) throw new Error(`${name} does not answer`);
    await Bun.sleep(10);
  }
  return {
    name,
    port,
    pid: child.pid,
    close: async () => {
      child.kill('SIGKILL');
      await child.exited;
    },
  };
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

/** Of all threads of a process; what has ended is counted with it. */
function cpuMs(pid: number): number {
  if (!readdirSync('/proc').includes(`${pid}`)) throw new Error(`process ${pid} has ended`);
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * tickMs;
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
