import type { Socket, SocketHandler } from 'bun';
import { codeOf } from '../../kit/errors.ts';
import { limits } from './limits.ts';
import { Outlet } from './outlet.ts';

/** Who uses a connection to an instance now. */
export interface UpstreamUser {
  opened(): void;
  data(bytes: Buffer): void;
  /** The application ended its side. */
  ended(): void;
  /** The connection is gone; `reason` is '' after a clean end. */
  closed(reason: string): void;
  /** What was queued has left. */
  room(): void;
}

/**
 * One connection to an instance.
 *
 * Modes: opening -> busy <-> idle (in its instance's pool) ; any -> closed. Bytes that arrive while idle belong to nobody: the
 * connection is cut, for whatever came next would be taken for the answer to another request.
 */
export class UpstreamConnection {
  readonly outlet: Outlet;
  mode: 'opening' | 'open' | 'closed' = 'opening';
  user: UpstreamUser | null;
  /** Whether it has carried an exchange before. */
  reused = false;
  /** Coarse clock when it was opened, or last became idle. */
  sinceMs: number;
  /** How long it may stay idle. */
  idleMs = 0;
  /** Of the one client whose requests it carries, as it was told to the app; '' when it carries anybody's. */
  endpoints = '';
  private socket: Socket<UpstreamConnection> | null = null;
  private paused = false;
  private readonly onGone: (connection: UpstreamConnection) => void;

  constructor(options: { user: UpstreamUser; nowMs: number; onGone: (connection: UpstreamConnection) => void }) {
    this.user = options.user;
    this.sinceMs = options.nowMs;
    this.onGone = options.onGone;
    this.outlet = new Outlet(() => this.user?.room());
  }

  open(socket: Socket<UpstreamConnection>): void {
    if (this.mode === 'closed') {
      socket.terminate();
      return;
    }
    this.socket = socket;
    this.mode = 'open';
    socket.setNoDelay(true);
    // Keepalive probes would reach into an instance that sleeps with its connections.
    socket.setKeepAlive(false);
    this.outlet.attach(socket);
    if (this.paused) socket.pause();
    this.user?.opened();
  }

  data(bytes: Buffer): void {
    if (this.user === null) this.abort();
    else this.user.data(bytes);
  }

  ended(): void {
    if (this.user === null) this.abort();
    else this.user.ended();
  }

  gone(reason: string): void {
    if (this.mode === 'closed') return;
    this.mode = 'closed';
    this.outlet.clear();
    this.onGone(this);
    const user = this.user;
    this.user = null;
    user?.closed(reason);
  }

  pause(): void {
    if (this.paused) return;
    this.paused = true;
    this.socket?.pause();
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.socket?.resume();
  }

  /** Its exchange is over; it waits for another for at most `idleMs`. */
  becomeIdle(nowMs: number, idleMs: number): void {
    this.user = null;
    this.reused = true;
    this.sinceMs = nowMs;
    this.idleMs = idleMs;
    this.resume();
  }

  /** Time-outs: a connection that does not come to stand, or was idle for too long. */
  check(nowMs: number): void {
    if (this.mode === 'opening' && nowMs - this.sinceMs >= limits.connectMs) this.gone('ETIMEDOUT');
    else if (this.mode === 'open' && this.user === null && nowMs - this.sinceMs >= this.idleMs) this.end();
  }

  /** Closes it at once; its user hears nothing more. */
  abort(): void {
    this.user = null;
    const wasOpen = this.mode === 'open';
    this.gone('');
    if (wasOpen) this.socket?.terminate();
  }

  /** Closes it in order, after what was written. */
  end(): void {
    this.user = null;
    const wasOpen = this.mode === 'open';
    this.gone('');
    if (wasOpen) this.socket?.end();
  }
}

const handlersOf = (broken: (error: Error) => void): SocketHandler<UpstreamConnection> => ({
  open: (socket) => socket.data.open(socket),
  data: (socket, bytes) => socket.data.data(bytes),
  drain: (socket) => socket.data.outlet.flush(),
  end: (socket) => socket.data.ended(),
  close: (socket, error) => socket.data.gone(error === undefined || error === null ? '' : codeOf(error)),
  // Called when a handler of ours threw: a broken invariant, not a failure of the peer.
  error: (socket, error) => {
    broken(error);
    socket.data.gone('EPROTO');
    socket.terminate();
  },
  connectError: (socket, error) => socket.data.gone(codeOf(error)),
});

/** Connects to an instance; the user hears `opened`, or `closed` with the reason. */
export function connectUpstream(
  to: { address: string; port: number },
  options: { user: UpstreamUser; nowMs: number; onGone: (connection: UpstreamConnection) => void; broken: (error: Error) => void },
): UpstreamConnection {
  const connection = new UpstreamConnection(options);
  const socket = handlersOf(options.broken);
  Bun.connect({ hostname: to.address, port: to.port, allowHalfOpen: true, data: connection, socket }).catch((error: unknown) => connection.gone(codeOf(error)));
  return connection;
}
