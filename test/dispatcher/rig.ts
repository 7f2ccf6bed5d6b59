import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { RequestListener, Server } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import type { AddressInfo, Server as TcpServer, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { Demand, Route } from '../../edgepoint/model/calls.ts';
import { listenForPeers } from '../../host/calls.ts';
import type { Handlers, Peer } from '../../host/calls.ts';
import { openLog } from '../../host/log.ts';

interface TcpHandle {
  readonly fd: number;
  bind(address: string, port: number): number;
  getsockname(out: { port?: number }): number;
  close(): void;
}
interface TcpBinding {
  readonly TCP: new (type: number) => TcpHandle;
  readonly constants: { readonly SOCKET: number };
}

/**
 * A bound socket that this process holds and never accepts from, as whoever starts a dispatcher does. Node's public interface
 * would accept the connections itself; the dispatcher listens on it.
 */
function holdSocket(): { handle: TcpHandle; port: number } {
  const { TCP, constants } = (process as unknown as { binding(name: string): TcpBinding }).binding('tcp_wrap');
  const handle = new TCP(constants.SOCKET);
  if (handle.bind('127.0.0.1', 0) !== 0) throw new Error('no free port');
  const name: { port?: number } = {};
  handle.getsockname(name);
  return { handle, port: name.port ?? 0 };
}

const bun = fileURLToPath(new URL('../../node_modules/.bin/bun', import.meta.url));
const entry = fileURLToPath(new URL('./start.ts', import.meta.url));
export const owner = { provider: 'ann', scope: 'main', app: 'shop' };

/** Waits until the condition holds, and fails with what was waited for. */
export async function until(what: string, holds: () => boolean, timeoutMs = 20_000): Promise<void> {
  const endMs = Date.now() + timeoutMs;
  while (!holds()) {
    if (Date.now() > endMs) throw new Error(`waited ${timeoutMs} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** The head as the dispatcher sees it: orders what the test says, remembers what it is told. */
export class FakeHead {
  demands: Demand[] = [];
  suspects: { instance: string; reason: string }[] = [];
  peers: Peer[] = [];
  private readonly path: string;
  private listening: { stop(): void } | null = null;

  constructor(path: string) {
    this.path = path;
    this.start();
  }

  start(): void {
    const handlers = { demand: (demand: Demand) => void this.demands.push(demand), suspect: (news: { instance: string; reason: string }) => void this.suspects.push(news), sealTo: () => undefined };
    this.listening = listenForPeers(this.path, handlers as Handlers, { log: openLog('fake-head'), onPeer: (peer) => void this.peers.push(peer) });
  }

  /** As if it had been killed. */
  stop(): void {
    this.listening?.stop();
    this.peers = [];
  }

  async order(method: string, params: unknown): Promise<unknown> {
    await until('the dispatcher connects to the head', () => this.peers.length > 0);
    return this.peers.at(-1)?.call(method, params);
  }

  get lastDemand(): Demand | undefined {
    return this.demands.at(-1);
  }
}

export interface Rig {
  readonly head: FakeHead;
  readonly port: number;
  /** Of the socket that speaks TLS; 0 without `certificates`. */
  readonly securePort: number;
  readonly folder: string;
  /** Starts the dispatcher (again) on the listening socket that the test holds. */
  startDispatcher(): Promise<ChildProcess>;
  dispatcher(): ChildProcess;
  /** What it logged, from warnings on. */
  said(): string;
  route(instances: readonly TestInstance[], change?: Partial<Route>): Promise<void>;
}

/** A real dispatcher process with a fake head; all of it goes when the test ends. `certificates`: the folder for its socket with TLS. */
export async function openRig(t: Test, { certificates = '', settings = [] }: { certificates?: string; settings?: readonly string[] } = {}): Promise<Rig> {
  const folder = mkdtempSync(join(tmpdir(), 'dispatcher-'));
  const { handle, port } = holdSocket();
  const secure = certificates === '' ? null : holdSocket();
  const head = new FakeHead(join(folder, 'head.sock'));
  let process_: ChildProcess | null = null;
  /** What dispatchers wrote on stderr. */
  let said = '';
  /** The first order after a start is the whole table. */
  let tableSent = false;
  const startDispatcher = async (): Promise<ChildProcess> => {
    const before = head.peers.length;
    tableSent = false;
    const args = [entry, '--run-folder', folder, '--listen-fds', '[3]', '--health', `unix:${folder}/health.sock`, ...settings];
    if (secure !== null) args.push('--secure-listen-fds', '[4]', '--certificates-folder', certificates, '--https-port', `${secure.port}`);
    const child = spawn(bun, args, { stdio: ['ignore', 'ignore', 'pipe', handle.fd, ...(secure === null ? [] : [secure.handle.fd])], env: { ...process.env, EDGEPOINT_LOG_LEVEL: 'warn' } });
    child.stderr?.on('data', (text: Buffer) => (said += text.toString()));
    process_ = child;
    if (head.peers.length === before) await until('the dispatcher connects', () => head.peers.length > before);
    return child;
  };
  t.teardown(async () => {
    if (said.includes('broken invariant')) t.fail(said);
    if (!t.passing()) t.comment(said);
    if (process_ !== null && process_.exitCode === null && process_.signalCode === null) {
      process_.kill('SIGKILL');
      await new Promise((resolve) => process_?.once('exit', resolve));
    }
    head.stop();
    handle.close();
    secure?.handle.close();
    rmSync(folder, { recursive: true, force: true });
  });
  await startDispatcher();
  return {
    head,
    port,
    securePort: secure?.port ?? 0,
    folder,
    startDispatcher,
    said: () => said,
    dispatcher: () => {
      if (process_ === null) throw new Error('no dispatcher');
      return process_;
    },
    route: async (instances, change = {}) => {
      const route = routeOf(instances, change);
      await (tableSent ? head.order('route', route) : head.order('routes', [route]));
      tableSent = true;
    },
  };
}

export function routeOf(instances: readonly TestInstance[], change: Partial<Route> = {}): Route {
  const listed = instances.map(({ instance, port }) => ({ instance, address: '127.0.0.1', port }));
  return { owner, hosts: ['shop.test'], status: 'ready', reason: '', concurrency: 8, holdMs: 5000, instances: listed, ...change };
}

export interface TestInstance {
  readonly instance: string;
  readonly port: number;
  readonly server: Server | TcpServer;
  readonly sockets: Set<Socket>;
  /** Cuts every connection and listens no more. */
  kill(): void;
}

async function track(t: Test, instance: string, server: Server | TcpServer): Promise<TestInstance> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 512, () => resolve()));
  const kill = (): void => {
    server.close();
    for (const socket of sockets) socket.resetAndDestroy();
  };
  t.teardown(kill);
  return { instance, port: (server.address() as AddressInfo).port, server, sockets, kill };
}

/** A real HTTP server of Node as an instance. */
export const openInstance = (t: Test, instance: string, listener: RequestListener): Promise<TestInstance> => track(t, instance, createServer(listener));

/** An instance that speaks whatever the test says. */
export const openRawInstance = (t: Test, instance: string, onConnection: (socket: Socket) => void): Promise<TestInstance> =>
  track(t, instance, createTcpServer({ allowHalfOpen: true }, onConnection));

/** Sends bytes on one connection and collects what comes until the other side closes or the condition holds. */
export interface RawClient {
  readonly socket: Socket;
  text(): string;
  closed(): boolean;
  send(bytes: string | Buffer): void;
  until(what: string, holds: (text: string) => boolean): Promise<string>;
  untilClosed(): Promise<string>;
}

export function openRawClient(t: Test, port: number): RawClient {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  let text = '';
  let closed = false;
  socket.on('data', (bytes) => (text += bytes.toString('latin1')));
  socket.on('end', () => (closed = true));
  socket.on('error', () => (closed = true));
  socket.on('close', () => (closed = true));
  t.teardown(() => socket.destroy());
  const client: RawClient = {
    socket,
    text: () => text,
    closed: () => closed,
    send: (bytes) => void socket.write(bytes),
    until: async (what, holds) => {
      await until(`${what}; have ${JSON.stringify(text.slice(0, 400))}`, () => holds(text));
      return text;
    },
    untilClosed: async () => {
      await until('the connection closes', () => closed, 20_000);
      return text;
    },
  };
  return client;
}
