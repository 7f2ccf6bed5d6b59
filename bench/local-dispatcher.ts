import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Handlers, listenForPeers, type Peer } from '../host/calls.ts';
import { openLog } from '../host/log.ts';
import type { Demand, Route } from '../edgepoint/model/calls.ts';

/** A real dispatcher process under a head that says what the benchmark wants. */
export interface LocalDispatcher {
  readonly pid: number;
  readonly port: number;
  /** With TLS; 0 without `certificatesFolder`. */
  readonly securePort: number;
  /** Of every app, as it was told last. */
  readonly demands: Map<string, Demand>;
  routes(routes: readonly Route[]): Promise<void>;
  /** Resolves when the dispatcher has taken it. */
  route(route: Route): Promise<void>;
  close(): Promise<void>;
}

/** `cpu`: the processor it may run on; any when left out. Its bound on handshakes of one network is out of the way. */
export async function openDispatcher({ cpu, certificatesFolder = '' }: { cpu?: number; certificatesFolder?: string } = {}): Promise<LocalDispatcher> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-bench-dispatcher-'));
  const port = await freePort();
  const securePort = certificatesFolder === '' ? 0 : await freePort();
  const demands = new Map<string, Demand>();
  let connected: (peer: Peer) => void = () => undefined;
  const peerComes = new Promise<Peer>((resolve) => (connected = resolve));
  const handlers = { demand: (demand: Demand) => void demands.set(demand.owner.app, demand), suspect: () => undefined } as Handlers;
  const head = listenForPeers(join(folder, 'head.sock'), handlers, { log: openLog('bench'), onPeer: (peer) => connected(peer) });
  await head.ready;
  const entry = join(import.meta.dir, '../edgepoint/main.ts');
  const argv = [process.execPath, entry, 'dispatcher', '--run-folder', folder, '--listen', JSON.stringify([`127.0.0.1:${port}`])];
  if (securePort !== 0) argv.push('--secure-listen', JSON.stringify([`127.0.0.1:${securePort}`]), '--certificates-folder', certificatesFolder, '--handshakes-per-second', '1000000', '--redirect-to-https', 'false');
  const child = Bun.spawn(cpu === undefined ? argv : ['taskset', '--cpu-list', `${cpu}`, ...argv], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, EDGEPOINT_LOG_LEVEL: 'warn' },
  });
  const peer = await Promise.race([peerComes, child.exited.then((status) => Promise.reject(new Error(`the dispatcher ended with ${status}`)))]);
  return {
    pid: child.pid,
    port,
    securePort,
    demands,
    routes: async (routes) => void (await peer.call('routes', routes)),
    route: async (route) => void (await peer.call('route', route)),
    close: async () => {
      child.kill('SIGKILL');
      await child.exited;
      head.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
