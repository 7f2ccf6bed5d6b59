import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { Failure, codeOf } from '../kit/errors.ts';
import { openWire } from './call-lines.ts';
import type { Handlers, Peer } from './call-lines.ts';
import type { Log } from './log.ts';

export type { Handlers, Peer } from './call-lines.ts';

/** Reconnecting begins at once and then waits 5, 10, 20 ... ms, at most this long. */
const retryMsMax = 200;
/** Calls that wait for a connection; more are refused. */
const waitingMax = 1024;
const timeoutMsDefault = 60_000;

/**
 * Answers the calls of whoever connects to a unix socket. A socket file nobody answers on is replaced; when somebody does,
 * `ready` rejects with Failure `socket-taken` (and, left alone, ends the process). The file has the given mode from the start.
 */
export function listenForPeers(
  path: string,
  handlers: Handlers,
  options: { log: Log; onPeer?: (peer: Peer) => void; mode?: number },
): { stop(): void; readonly ready: Promise<void> } {
  const mode = options.mode ?? 0o660;
  const wires = new Set<{ end(): void }>();
  const server = createServer((socket) => {
    const wire = openWire(socket, handlers, options.log);
    wires.add(wire);
    void wire.peer.closed.then(() => wires.delete(wire));
    options.onPeer?.(wire.peer);
  });
  let stopped = false;
  const listen = (): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      const before = process.umask(0o777 & ~mode);
      try {
        server.listen(path, () => {
          server.removeListener('error', reject);
          server.on('error', (error) => options.log.error('listening failed', { path, error }));
          resolve();
        });
      } finally {
        process.umask(before);
      }
    });
  const ready = (async (): Promise<void> => {
    try {
      await listen();
    } catch (thrown) {
      if (codeOf(thrown) !== 'EADDRINUSE') throw thrown;
      if (await somebodyAnswers(path)) {
        throw new Failure('socket-taken', `another process already answers on ${path}`, { remedy: 'End that process, or give this one another folder for its sockets.' });
      }
      rmSync(path, { force: true });
      await listen();
    }
    if (stopped) server.close();
    else chmodSync(path, mode);
  })();
  return {
    ready,
    stop: () => {
      if (stopped) return;
      stopped = true;
      if (server.listening) rmSync(path, { force: true });
      server.close();
      for (const wire of wires) wire.end();
    },
  };
}

function somebodyAnswers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    const finish = (answered: boolean): void => {
      probe.destroy();
      resolve(answered);
    };
    probe.once('connect', () => finish(true));
    // A full backlog answers EAGAIN: somebody is there. Only a refusal says that nobody is.
    probe.once('error', (error) => finish(codeOf(error) !== 'ECONNREFUSED' && codeOf(error) !== 'ENOENT'));
  });
}

/** The calling side: stays connected to whoever listens on the path, through its restarts, until stopped. */
export interface PeerConnection {
  /** Waits until connected; rejects with Failure `peer-gone` when the connection breaks, `peer-slow` after timeoutMs (default 60,000). */
  call(method: string, params: unknown, options?: { timeoutMs?: number }): Promise<unknown>;
  /** False when there is no connection: the news is dropped. */
  tell(method: string, params: unknown): boolean;
  readonly up: boolean;
  stop(): void;
}

interface WaitingCall {
  readonly start: (peer: Peer) => void;
  readonly refuse: (failure: Failure) => void;
}

export function connectToPeer(path: string, handlers: Handlers, options: { log: Log; onUp?: (peer: Peer) => void; onDown?: () => void }): PeerConnection {
  let peer: Peer | null = null;
  let socket: Socket | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  let retries = 0;
  let stopped = false;
  const waiting = new Set<WaitingCall>();

  const retryLater = (): void => {
    if (stopped) return;
    const waitMs = retries === 0 ? 0 : Math.min(retryMsMax, 5 * 2 ** (retries - 1));
    retries = Math.min(retries + 1, 10);
    timer = setTimeout(attempt, waitMs);
  };
  const attempt = (): void => {
    timer = null;
    const next = connect(path);
    socket = next;
    next.once('error', (error) => {
      if (peer === null) options.log.debug('peer not there yet', { path, error: codeOf(error) });
    });
    const failed = (): void => retryLater();
    next.once('close', failed);
    next.once('connect', () => {
      next.removeListener('close', failed);
      begin(next);
    });
  };
  const begin = (connected: Socket): void => {
    const wire = openWire(connected, handlers, options.log);
    const sinceMs = performance.now();
    peer = wire.peer;
    void wire.peer.closed.then(() => {
      peer = null;
      // A peer that hangs up at once is not asked again in a tight loop.
      if (performance.now() - sinceMs > retryMsMax) retries = 0;
      options.onDown?.();
      retryLater();
    });
    options.onUp?.(wire.peer);
    for (const call of waiting) call.start(wire.peer);
    waiting.clear();
  };
  attempt();

  return {
    get up() {
      return peer !== null;
    },
    tell: (method, params) => {
      peer?.tell(method, params);
      return peer !== null;
    },
    call: (method, params, { timeoutMs = timeoutMsDefault } = {}) => {
      if (stopped) return Promise.reject(new Failure('peer-gone', `the connection to ${path} is closed`));
      if (peer !== null) return peer.call(method, params, { timeoutMs });
      if (waiting.size >= waitingMax) return Promise.reject(new Failure('too-many-calls', `${waitingMax} calls already wait for ${path}`));
      return waitForPeer(waiting, path, timeoutMs, (found, leftMs) => found.call(method, params, { timeoutMs: leftMs }));
    },
    stop: () => {
      stopped = true;
      if (timer !== null) clearTimeout(timer);
      socket?.destroy();
      for (const call of waiting) call.refuse(new Failure('peer-gone', `the connection to ${path} was closed`));
      waiting.clear();
    },
  };
}

function waitForPeer(waiting: Set<WaitingCall>, path: string, timeoutMs: number, make: (peer: Peer, leftMs: number) => Promise<unknown>): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const fromMs = performance.now();
    const entry: WaitingCall = {
      start: (peer) => {
        clearTimeout(timer);
        resolve(make(peer, Math.max(1, timeoutMs - (performance.now() - fromMs))));
      },
      refuse: (failure) => {
        clearTimeout(timer);
        reject(failure);
      },
    };
    const timer = setTimeout(() => {
      waiting.delete(entry);
      reject(new Failure('peer-slow', `nobody answers on ${path} since ${timeoutMs} ms`));
    }, timeoutMs);
    waiting.add(entry);
  });
}
