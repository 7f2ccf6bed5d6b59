import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createUser } from '@nats-io/nkeys';
import type { Test } from 'tap';
import { until } from '../host/nats.ts';

const repository = new URL('../..', import.meta.url).pathname;
export const bun = join(repository, 'node_modules/.bin/bun');
export const entry = join(repository, 'global-dispatcher/main.ts');

/** A dispatcher in a process of its own, at an address of the loopback network that only this test process uses. */
export interface DispatcherProcess {
  readonly host: string;
  readonly port: number;
  readonly folder: string;
  readonly cacheFile: string;
  readonly configPath: string;
  readonly pid: number;
  /** What it wrote to stderr. */
  readonly output: string;
  kill(signal: NodeJS.Signals): Promise<number | null>;
  start(): void;
  /** The answer to one datagram; null when none came in time. */
  askUdp(message: Uint8Array, timeoutMs?: number): Promise<Buffer | null>;
  healthy(): Promise<Record<string, unknown> | null>;
  metrics(): Promise<string>;
}

let places = 0;
/** An address of the loopback network that no other test process and no other call gets. */
export const ownLoopback = (): string => `127.${64 + ((process.pid >> 13) & 63)}.${(process.pid >> 5) & 255}.${((process.pid & 31) << 3) + (places += 1)}`;

export function startDispatcher(t: Test, settings: Record<string, unknown>, seed?: string): DispatcherProcess {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-dns-'));
  const host = ownLoopback();
  const healthPath = join(folder, 'health.sock');
  const configPath = join(folder, 'config.json');
  const cacheFile = join(folder, 'cache.json');
  const seedFile = join(folder, 'seed');
  writeFileSync(seedFile, seed ?? new TextDecoder().decode(createUser().getSeed()));
  const config = { listen: [`${host}:53`], zoneName: 'edge.test', nameserverName: 'ns1.edge.test', natsUrl: 'nats://127.0.0.1:9', natsSeedFile: seedFile, cacheFile, health: `unix:${healthPath}`, ...settings };
  writeFileSync(configPath, JSON.stringify(config));
  let output = '';
  let child = launch();
  let ended = end();

  function launch(): ReturnType<typeof spawn> {
    const begun = spawn(bun, [entry, '--config', configPath], { stdio: ['ignore', 'ignore', 'pipe'] });
    begun.stderr?.on('data', (bytes: Buffer) => {
      output = `${output}${bytes.toString()}`.slice(-100_000);
      if (process.env['TEST_LOG']) process.stderr.write(bytes);
    });
    return begun;
  }
  function end(): Promise<number | null> {
    return new Promise((resolve) => child.once('exit', (code) => resolve(code)));
  }
  const get = (path: string): Promise<{ status: number; body: string }> =>
    new Promise((resolve, reject) => {
      const request = http.get({ socketPath: healthPath, path, timeout: 1000 }, (response) => {
        let body = '';
        response.on('data', (bytes: Buffer) => (body += bytes.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      request.on('error', reject);
    });
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    host,
    port: 53,
    folder,
    cacheFile,
    configPath,
    get pid() {
      return child.pid ?? 0;
    },
    get output() {
      return output;
    },
    kill: (signal) => {
      child.kill(signal);
      return ended;
    },
    start: () => {
      child = launch();
      ended = end();
    },
    askUdp: (message, timeoutMs = 1000) => askUdp(host, message, timeoutMs),
    healthy: async () => {
      const { status, body } = await get('/healthz').catch(() => ({ status: 0, body: '' }));
      return status === 200 ? (JSON.parse(body) as Record<string, unknown>) : null;
    },
    metrics: async () => (await get('/metrics')).body,
  };
}

export async function untilAnswering(dispatcher: DispatcherProcess): Promise<void> {
  await until('the dispatcher knows all and answers', async () => (await dispatcher.healthy()) !== null);
}

export function askUdp(host: string, message: Uint8Array, timeoutMs: number, port = 53): Promise<Buffer | null> {
  return new Promise((resolve, reject) => {
    const socket = dgram.createSocket('udp4');
    const done = (answer: Buffer | null): void => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => done(null), timeoutMs);
    socket.on('message', done);
    socket.on('error', reject);
    // Not connected: a port that is closed for a moment must look like loss, not like an error.
    socket.send(message, port, host);
  });
}

/** A TCP client that can misbehave: sends what it is told, collects whole answers. */
export class TcpClient {
  readonly socket: net.Socket;
  readonly answers: Buffer[] = [];
  closed = false;
  #held = Buffer.alloc(0);

  constructor(host: string, port = 53) {
    this.socket = net.connect({ host, port });
    this.socket.on('error', () => (this.closed = true));
    this.socket.on('close', () => (this.closed = true));
    this.socket.on('data', (bytes: Buffer) => {
      this.#held = Buffer.concat([this.#held, bytes]);
      while (this.#held.length >= 2 && this.#held.length >= 2 + this.#held.readUInt16BE(0)) {
        const end = 2 + this.#held.readUInt16BE(0);
        this.answers.push(this.#held.subarray(2, end));
        this.#held = this.#held.subarray(end);
      }
    });
  }

  send(message: Uint8Array): void {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(message.length);
    this.socket.write(Buffer.concat([length, message]));
  }

  close(): void {
    this.socket.destroy();
  }
}
