import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, openDispatcher } from './local-dispatcher.ts';

/** Proxies have the one processor, the load and the server behind the other. */
export const proxyCpu = 0;
export const othersCpu = 1;
const tickMs = 10; // USER_HZ (proc(5))

export interface Proxy {
  readonly name: string;
  readonly port: number;
  /** With TLS; 0 without. */
  readonly securePort: number;
  readonly pid: number;
  close(): Promise<void>;
}

/** Where a certificate for the benchmark lies: as one file for us, as two for nginx. */
export interface BenchCertificate {
  readonly folder: string;
  readonly chain: string;
  readonly key: string;
}

/** For `localhost`, which wrk asks for, and the app's own name. */
export function makeCertificate(folder: string): BenchCertificate {
  const certificates = join(folder, 'certificates');
  mkdirSync(certificates, { mode: 0o700 });
  const [key, chain] = [join(folder, 'bench.key'), join(folder, 'bench.crt')];
  const made = Bun.spawnSync(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', chain, '-days', '30', '-subj', '/CN=bench', '-addext', 'subjectAltName=DNS:localhost,DNS:app.edge.test'], { stderr: 'ignore' });
  if (made.exitCode !== 0) throw new Error('openssl made no certificate');
  writeFileSync(join(certificates, 'bench.pem'), readFileSync(key, 'utf8') + readFileSync(chain, 'utf8'), { mode: 0o600 });
  return { folder: certificates, chain, key };
}

export async function startOurs(backendPort: number, certificate: BenchCertificate | null = null): Promise<Proxy> {
  const dispatcher = await openDispatcher({ cpu: proxyCpu, ...(certificate === null ? {} : { certificatesFolder: certificate.folder }) });
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
  return { name: 'edgepoint', port: dispatcher.port, securePort: dispatcher.securePort, pid: dispatcher.pid, close: dispatcher.close };
}

/** `serverOf` is given its port and one for TLS. */
export async function startNginx(folder: string, name: string, cpu: number, serverOf: (port: number, securePort: number) => string): Promise<Proxy> {
  const [port, securePort] = [await freePort(), await freePort()];
  const config = join(folder, `${name}.conf`);
  writeFileSync(
    config,
    `daemon off; master_process off; worker_processes 1; pid ${folder}/${name}.pid; error_log stderr error; events { worker_connections 32768; } ` +
      `http { access_log off; tcp_nodelay on; client_body_temp_path ${folder}/${name}-body; proxy_temp_path ${folder}/${name}-proxy; ` +
      `fastcgi_temp_path ${folder}/${name}-f; uwsgi_temp_path ${folder}/${name}-u; scgi_temp_path ${folder}/${name}-s; ${serverOf(port, securePort)} }`,
  );
  return startPeer(name, { port, securePort }, ['taskset', '--cpu-list', `${cpu}`, '/usr/sbin/nginx', '-c', config, '-p', folder]);
}

export async function startHaproxy(folder: string, backendPort: number): Promise<Proxy> {
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
  return startPeer('haproxy', { port, securePort: 0 }, ['taskset', '--cpu-list', `${proxyCpu}`, '/usr/sbin/haproxy', '-db', '-f', config]);
}

async function startPeer(name: string, { port, securePort }: { port: number; securePort: number }, argv: readonly string[]): Promise<Proxy> {
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
    securePort,
    pid: child.pid,
    close: async () => {
      child.kill('SIGKILL');
      await child.exited;
    },
  };
}

/** Of all threads of a process; what has ended is counted with it. */
export function cpuMs(pid: number): number {
  if (!readdirSync('/proc').includes(`${pid}`)) throw new Error(`process ${pid} has ended`);
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * tickMs;
}
