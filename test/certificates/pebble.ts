import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

/** Debian's ACME test authority, which refuses one nonce of twenty unless told otherwise. It forgets everything when it ends. */
export interface Pebble {
  readonly directoryUrl: string;
  /** Who vouches for its own server; readable by all. */
  readonly caFile: string;
  /** Who signs what it issues, as PEM, by the process that runs now. */
  root(): Promise<string>;
  log(): string;
  start(): Promise<void>;
  kill(): Promise<void>;
}

export interface PebbleOptions {
  /** ADDRESS:PORT of the resolver it looks by. */
  readonly resolver: string;
  /** Of its certificates. */
  readonly lifetimeSeconds?: number;
  /** Wants an external account binding with this key id and key. */
  readonly binding?: { readonly kid: string; readonly hmacKey: string };
  /** Of a hundred. */
  readonly noncesRefused?: number;
}

export async function openPebble(t: Test, options: PebbleOptions): Promise<Pebble> {
  const folder = mkdtempSync(join(tmpdir(), 'pebble-'));
  chmodSync(folder, 0o755);
  const [port, managementPort] = [await freePort(), await freePort()];
  const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '30', '-subj', '/CN=authority of pebble');
  openssl('req', ...newKey, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=pebble');
  writeFileSync(join(folder, 'names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  openssl('x509', '-req', '-in', 'server.csr', '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-out', 'server.crt', '-days', '30', '-extfile', 'names');
  writeFileSync(join(folder, 'config.json'), JSON.stringify({
    pebble: {
      listenAddress: `127.0.0.1:${port}`, managementListenAddress: `127.0.0.1:${managementPort}`, certificate: join(folder, 'server.crt'), privateKey: join(folder, 'server.key'),
      httpPort: 80, tlsPort: 443, ocspResponderURL: '', certificateValidityPeriod: options.lifetimeSeconds ?? 90 * 86_400,
      externalAccountBindingRequired: options.binding !== undefined, ...(options.binding === undefined ? {} : { externalAccountMACKeys: { [options.binding.kid]: options.binding.hmacKey } }),
    },
  }));
  let child: ChildProcess | null = null;
  let ended: Promise<void> = Promise.resolve();
  let output = '';
  const caFile = join(folder, 'ca.crt');
  const pebble: Pebble = {
    directoryUrl: `https://127.0.0.1:${port}/dir`,
    caFile,
    root: () => fetchText(`https://127.0.0.1:${managementPort}/roots/0`, caFile),
    log: () => output,
    async start() {
      const env = { PATH: process.env['PATH'] ?? '', PEBBLE_VA_NOSLEEP: '1', PEBBLE_WFE_NONCEREJECT: `${options.noncesRefused ?? 5}` };
      const begun = spawn('pebble', ['-config', join(folder, 'config.json'), '-dnsserver', options.resolver], { env, stdio: ['ignore', 'pipe', 'pipe'] });
      child = begun;
      for (const stream of [begun.stdout, begun.stderr]) stream.on('data', (bytes: Buffer) => (output += bytes.toString()));
      ended = new Promise((resolve) => begun.once('exit', () => resolve()));
      begun.once('error', (error) => (output += String(error)));
      for (const fromMs = performance.now(); ; await new Promise((resolve) => setTimeout(resolve, 20))) {
        if (begun.exitCode !== null || performance.now() - fromMs > 20_000) throw new Error(`pebble does not answer: ${output}`);
        if ((await fetchText(pebble.directoryUrl, caFile).catch(() => '')) !== '') return;
      }
    },
    async kill() {
      child?.kill('SIGKILL');
      await ended;
    },
  };
  t.teardown(async () => {
    await pebble.kill();
    rmSync(folder, { recursive: true, force: true });
  });
  return pebble;
}

function fetchText(url: string, caFile: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get(url, { ca: readFileSync(caFile), agent: false }, (response) => {
      let text = '';
      response.on('data', (bytes: Buffer) => (text += bytes.toString()));
      response.on('end', () => (response.statusCode === 200 ? resolve(text) : reject(new Error(`${url}: ${response.statusCode}`))));
    }).on('error', reject);
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
