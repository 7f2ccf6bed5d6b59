import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jetstream } from '@nats-io/jetstream';
import { connect, nkeyAuthenticator } from '@nats-io/transport-node';
import type { NatsConnection } from '@nats-io/transport-node';
import { natsServerConfig, newBusUser } from '../../host/credentials.ts';
import type { BusUser } from '../../host/credentials.ts';
import { streamTable } from '../../host/streams.ts';
import { tools } from '../../host/tools.ts';
import { siteKey } from '../../kit/ids.ts';
import { streams } from '../../kit/wire/subjects.ts';
import type { UsageMessage } from '../../metering/ledger.ts';

/** A message server and a metering daemon of a test's own, in a temporary folder, on ports and sockets of their own. */
export interface Bench {
  readonly folder: string;
  readonly configPath: string;
  /** Connected as the conduit, which may ask. */
  readonly conduit: NatsConnection;
  /** Connected as the operator, who may look at streams. */
  readonly operator: NatsConnection;
  /** Appends to the stream as the edgepoint that the subject names. */
  publish(message: UsageMessage): Promise<unknown>;
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

/** A message server with the very accounts and allow-lists of a world. */
async function startNats(folder: string, users: readonly BusUser[]): Promise<{ server: ChildProcess; url: string }> {
  const config = join(folder, 'nats.conf');
  const portsFolder = join(folder, 'ports');
  mkdirSync(portsFolder);
  writeFileSync(config, natsServerConfig({ operator: 'us', listen: '127.0.0.1:-1', storeFolder: join(folder, 'jetstream'), users, portsFolder }));
  // It ends with whoever runs this, killed or not.
  const server = spawn('setpriv', ['--pdeathsig', 'KILL', tools.natsServer, '-c', config], { stdio: 'ignore' });
  await until('the message server says its port', () => readdirSync(portsFolder).length > 0);
  const portsFile = join(portsFolder, readdirSync(portsFolder)[0] ?? '');
  let url = '';
  await until('its ports file is whole', () => {
    url = /"(nats:\/\/[^"]+)"/.exec(readFileSync(portsFile, 'utf8'))?.[1] ?? '';
    return url !== '';
  });
  return { server, url };
}

function connectAs({ user, seed }: { user: BusUser; seed: string }, url: string): Promise<NatsConnection> {
  return connect({ servers: url, authenticator: nkeyAuthenticator(new TextEncoder().encode(seed)), inboxPrefix: `_INBOX.${user.publicKey}` });
}

export async function openBench(): Promise<Bench> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-test-metering-'));
  const sites = ['north-0', 'north-1'].map((edgepoint) => ({ zone: 'north', edgepoint }));
  const [metering, operator, conduit] = [newBusUser('metering', null), newBusUser('operator', null), newBusUser('conduit', null)] as const;
  const edgepoints = sites.map((site) => newBusUser('edgepoint', site));
  const { server, url } = await startNats(folder, [metering, operator, conduit, ...edgepoints].map(({ user }) => user));
  const connections = {
    operator: await connectAs(operator, url),
    conduit: await connectAs(conduit, url),
    edgepoints: new Map(await Promise.all(edgepoints.map(async (edgepoint, place) => [siteKey(sites[place] ?? { zone: '', edgepoint: '' }), await connectAs(edgepoint, url)] as const))),
  };
  const usageRow = streamTable(sites).find(({ name }) => name === streams.usage);
  await connections.operator.request('$JS.API.STREAM.CREATE.USAGE', JSON.stringify(usageRow));
  const seedFile = join(folder, 'seed');
  writeFileSync(seedFile, metering.seed, { mode: 0o600 });
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
    conduit: connections.conduit,
    operator: connections.operator,
    publish({ subject, text }) {
      const connection = connections.edgepoints.get(subject.split('.').slice(1, 3).join('.'));
      if (!connection) throw new Error(`no edgepoint may write ${subject}`);
      return jetstream(connection).publish(subject, text);
    },
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
      await Promise.all([connections.operator, connections.conduit, ...connections.edgepoints.values()].map((connection) => connection.close()));
      for (const child of children) {
        if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
        await ended(child);
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
