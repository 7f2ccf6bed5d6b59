import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createUser } from '@nats-io/nkeys';
import { connect } from '@nats-io/transport-node';
import type { NatsConnection } from '@nats-io/transport-node';
import { tools } from '../../host/tools.ts';

/** A message server and a metering daemon of a test's own, in a temporary folder, on ports and sockets of their own. */
export interface Bench {
  readonly folder: string;
  readonly configPath: string;
  /** Connected as one who may do anything. */
  readonly nats: NatsConnection;
  /** Its ledger lies in the bench's folder unless told otherwise. */
  startMetering(databaseUrl?: string): Promise<ChildProcess>;
  endMetering(): Promise<void>;
  /** Runs `metering/main.ts ARGUMENTS` to its end. */
  run(...argv: string[]): Promise<{ code: number | null; stdout: string; stderr: string }>;
  get(path: string): Promise<{ status: number; body: string }>;
  stop(): Promise<void>;
}

const bun = join(process.cwd(), 'node_modules/.bin/bun');

export async function until(what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 15_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
  return child.exitCode;
}

async function startNats(folder: string, publicKey: string): Promise<{ server: ChildProcess; url: string }> {
  const config = join(folder, 'nats.conf');
  mkdirSync(join(folder, 'ports'));
  writeFileSync(
    config,
    `listen: "127.0.0.1:-1"
    ports_file_dir: "${join(folder, 'ports')}"
    jetstream { store_dir: "${join(folder, 'jetstream')}" }
    authorization { users: [ { nkey: "${publicKey}" }, { user: "test", password: "test" } ] }\n`,
  );
  const server = spawn(tools.natsServer, ['-c', config], { stdio: 'ignore' });
  await until('the message server says its port', () => readdirSync(join(folder, 'ports')).length > 0);
  const portsFile = join(folder, 'ports', readdirSync(join(folder, 'ports'))[0] ?? '');
  let url = '';
  await until('its ports file is whole', () => {
    url = /"(nats:\/\/[^"]+)"/.exec(readFileSync(portsFile, 'utf8'))?.[1] ?? '';
    return url !== '';
  });
  return { server, url };
}

export async function openBench(): Promise<Bench> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-test-metering-'));
  const user = createUser();
  const { server, url } = await startNats(folder, user.getPublicKey());
  const nats = await connect({ servers: url, user: 'test', pass: 'test' });
  const seedFile = join(folder, 'seed');
  writeFileSync(seedFile, user.getSeed(), { mode: 0o600 });
  const socket = join(folder, 'health.sock');
  const configPath = join(folder, 'metering.json');
  writeFileSync(configPath, JSON.stringify({ databaseUrl: `file:${join(folder, 'metering.db')}`, natsUrl: url, natsSeedFile: seedFile, health: `unix:${socket}` }));
  const children = new Set<ChildProcess>([server]);

  const get = (path: string): Promise<{ status: number; body: string }> =>
    new Promise((resolve, reject) => {
      const asking = request({ socketPath: socket, path, agent: false }, (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      asking.on('error', reject);
      asking.end();
    });

  return {
    folder,
    configPath,
    nats,
    get,
    async startMetering(databaseUrl) {
      rmSync(socket, { force: true });
      const elsewhere = databaseUrl === undefined ? [] : ['--database-url', databaseUrl];
      const child = spawn(bun, ['metering/main.ts', '--config', configPath, ...elsewhere], { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, EDGEPOINT_LOG_LEVEL: 'silent' } });
      children.add(child);
      await until('metering is healthy', async () => {
        if (child.exitCode !== null) throw new Error(`metering ended with ${child.exitCode}`);
        return existsSync(socket) && (await get('/healthz').catch(() => ({ status: 0 }))).status === 200;
      });
      return child;
    },
    run: (...argv) =>
      new Promise((resolve) => {
        const child = spawn(bun, ['metering/main.ts', ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
        children.add(child);
        let stdout = '';
        let stderr = '';
        child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
        child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
        child.on('close', (code) => resolve({ code, stdout, stderr }));
      }),
    async endMetering() {
      for (const child of children) {
        if (child === server) continue;
        child.kill('SIGKILL');
        await ended(child);
      }
    },
    async stop() {
      await nats.close();
      for (const child of children) {
        if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
        await ended(child);
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
