import type { Socket, SocketHandler, TCPSocketListener } from 'bun';
import { Failure, messageOf } from '../../kit/errors.ts';
import { ClientConnection } from './client-connection.ts';
import type { ExchangePorts } from './exchange-ports.ts';
import type { InstanceState } from './fleet.ts';
import { limits } from './limits.ts';
import type { Switchboard } from './switchboard.ts';
import { connectUpstream } from './upstream-connection.ts';
import type { UpstreamConnection, UpstreamUser } from './upstream-connection.ts';

export interface SharedAddressOptions {
  /** Listening sockets that were inherited: they outlive this process. */
  readonly listenFds: readonly number[];
  readonly listen: readonly { readonly hostname: string; readonly port: number }[];
  readonly switchboard: Switchboard;
  readonly nowMs: () => number;
  /** A final answer's status; `app` null when the request did not say whose it was. */
  answered: ExchangePorts['answered'];
  /** An invariant of ours broke while bytes of one connection were handled; that connection is cut, the others go on. */
  broken(error: Error): void;
}

/** The shared address: listens, and keeps the time of every connection. */
export class SharedAddress {
  private readonly listeners: TCPSocketListener<ClientConnection>[];
  private readonly clients = new Set<ClientConnection>();
  private readonly upstreams = new Set<UpstreamConnection>();
  private readonly options: SharedAddressOptions;
  private readonly ports: ExchangePorts;
  private timer: ReturnType<typeof setInterval> | null = null;
  private stopping = false;

  constructor(options: SharedAddressOptions) {
    this.options = options;
    this.ports = {
      switchboard: options.switchboard,
      nowMs: options.nowMs,
      connect: (instance, user) => this.connect(instance, user),
      keepsConnections: () => !this.stopping,
      answered: options.answered,
    };
    const common = { allowHalfOpen: true, socket: this.handlers() };
    const open = (name: string, where: object): TCPSocketListener<ClientConnection> => {
      try {
        return Bun.listen<ClientConnection>({ ...where, ...common } as Bun.TCPSocketListenOptions<ClientConnection>);
      } catch (cause) {
        throw new Failure('cannot-listen', `the dispatcher cannot listen on ${name}: ${messageOf(cause)}`, { cause, remedy: 'Give it a free address, or a descriptor of a bound socket.' });
      }
    };
    this.listeners = [
      ...options.listenFds.map((fd) => open(`descriptor ${fd}`, { fd })),
      ...options.listen.map((address) => open(`${address.hostname}:${address.port}`, address)),
    ];
  }

  /** Where it listens, for people; Bun does not tell the address of an inherited socket. */
  get addresses(): readonly string[] {
    const { listenFds } = this.options;
    return this.listeners.map(({ hostname, port }, index) => {
      if (index < listenFds.length) return `descriptor ${listenFds[index]}`;
      return hostname.includes(':') ? `[${hostname}]:${port}` : `${hostname}:${port}`;
    });
  }

  get connections(): { readonly clients: number; readonly upstreams: number; readonly tunnels: number } {
    let tunnels = 0;
    for (const client of this.clients) if (client.isTunnel) tunnels += 1;
    return { clients: this.clients.size, upstreams: this.upstreams.size, tunnels };
  }

  /** Accepts nothing more, lets exchanges end, then cuts what is left. */
  async stop(): Promise<void> {
    this.stopping = true;
    for (const listener of this.listeners) listener.stop(false);
    for (const client of this.clients) client.stop(false);
    setTimeout(() => this.clients.forEach((client) => client.stop(true)), limits.stopFreshMs);
    const untilMs = this.options.nowMs() + limits.stopMs;
    while (this.clients.size > this.connections.tunnels && this.options.nowMs() < untilMs) await Bun.sleep(10);
    for (const client of this.clients) client.cut();
    for (const upstream of this.upstreams) upstream.abort();
    if (this.timer !== null) clearInterval(this.timer);
  }

  private handlers(): SocketHandler<ClientConnection> {
    return {
      open: (socket) => this.accept(socket),
      data: (socket, bytes) => socket.data.data(bytes),
      drain: (socket) => socket.data?.outlet.flush(),
      end: (socket) => socket.data.end(),
      close: (socket) => socket.data?.gone(),
      error: (socket, error) => {
        this.options.broken(error);
        socket.data?.cut();
      },
    };
  }

  private accept(socket: Socket<ClientConnection>): void {
    const client = new ClientConnection(socket, this.ports, (gone) => this.clients.delete(gone));
    socket.data = client;
    socket.setNoDelay(true);
    // Finds clients that vanished without a word, which matters for idle tunnels and half-closed connections.
    socket.setKeepAlive(true, limits.clientProbeMs);
    this.clients.add(client);
    if (this.clients.size > limits.clientConnections) client.cut();
    this.timer ??= setInterval(() => this.sweep(), limits.sweepMs);
  }

  private connect(instance: InstanceState, user: UpstreamUser): UpstreamConnection {
    const onGone = (gone: UpstreamConnection): void => {
      this.upstreams.delete(gone);
      instance.forget(gone);
    };
    const connection = connectUpstream({ address: instance.address, port: instance.port }, { user, nowMs: this.options.nowMs(), onGone, broken: this.options.broken });
    this.upstreams.add(connection);
    return connection;
  }

  /** Time-outs of all connections; runs only while there are any. */
  private sweep(): void {
    const nowMs = this.options.nowMs();
    for (const client of this.clients) client.check(nowMs);
    for (const upstream of this.upstreams) upstream.check(nowMs);
    if (this.clients.size > 0 || this.upstreams.size > 0 || this.timer === null) return;
    clearInterval(this.timer);
    this.timer = null;
  }
}
