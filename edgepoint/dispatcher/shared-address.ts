import type { Socket, SocketHandler, TCPSocketListener } from 'bun';
import { Failure, messageOf } from '../../kit/errors.ts';
import type { CertificateSource } from './tls/certificate-folder.ts';
import { covers } from './tls/certificates.ts';
import { ClientConnection, plainOrigin } from './client-connection.ts';
import type { ClientOrigin } from './client-connection.ts';
import type { ExchangePorts } from './exchange-ports.ts';
import type { InstanceState } from './fleet.ts';
import type { Handshake, HandshakeOutcome } from './tls/handshake.ts';
import { Http2Connection } from './http2/connection.ts';
import { limits } from './limits.ts';
import { protocolList, secureHandlers } from './tls/secure-listener.ts';
import type { Served } from './served.ts';
import type { Switchboard } from './switchboard.ts';
import { connectUpstream } from './upstream-connection.ts';
import type { UpstreamConnection, UpstreamUser } from './upstream-connection.ts';
import { OwnRequest } from './own-request.ts';
import type { MessageOrder, TaskAnswer, TaskOrder } from '../model/calls.ts';

/** Where to listen. */
export interface Places {
  /** Listening sockets that were inherited: they outlive this process. */
  readonly listenFds: readonly number[];
  readonly listen: readonly { readonly hostname: string; readonly port: number }[];
}

export interface SecureSettings extends Places {
  readonly certificates: CertificateSource;
  /** That one network may begin, in the long run. */
  readonly handshakesPerSecond: number;
  handshakeOver(outcome: HandshakeOutcome): void;
}

export interface SharedAddressOptions extends Places {
  /** The same address with TLS; null: there is none. */
  readonly secure: SecureSettings | null;
  readonly switchboard: Switchboard;
  readonly nowMs: () => number;
  /** Where requests of plain HTTP may be sent instead; null: nowhere. */
  readonly https: ExchangePorts['https'];
  challenge: ExchangePorts['challenge'];
  /** A final answer's status; `app` null when the request did not say whose it was. */
  answered: ExchangePorts['answered'];
  /** An invariant of ours broke while bytes of one connection were handled; that connection is cut, the others go on. */
  broken(error: Error): void;
}

/** Whatever asks, on a socket or not. */
type Timed = Pick<Served, 'check' | 'cut' | 'stop' | 'isTunnel'>;

/** The shared address: listens, and keeps the time of every connection. */
export class SharedAddress {
  private readonly listeners: Opened[];
  private readonly clients = new Set<Timed>();
  private handshakes = 0;
  private http2Connections = 0;
  private readonly upstreams = new Set<UpstreamConnection>();
  private readonly options: SharedAddressOptions;
  private readonly ports: ExchangePorts;
  private timer: ReturnType<typeof setInterval> | null = null;
  private stopping = false;
  private keeps = true;

  constructor(options: SharedAddressOptions) {
    this.options = options;
    this.ports = {
      switchboard: options.switchboard,
      nowMs: options.nowMs,
      connect: (instance, user) => this.connect(instance, user),
      keepsConnections: () => this.keeps && !this.stopping,
      https: options.https,
      challenge: options.challenge,
      answered: options.answered,
    };
    const plain = this.handlers();
    const { secure } = options;
    this.listeners = openListeners(options, { socket: plain });
    if (secure === null) return;
    const socket = secureHandlers(plain, {
      certificates: secure.certificates,
      nowMs: options.nowMs,
      handshakesPerSecond: secure.handshakesPerSecond,
      began: (handshake) => this.handshakeBegan(handshake),
      over: (handshake) => this.handshakeOver(handshake, secure),
      accept: (accepted, certificate, protocol) => {
        const origin: ClientOrigin = { scheme: 'https', mayAsk: (hostName) => covers(certificate, hostName) };
        return protocol === 'h2' ? this.acceptHttp2(accepted, origin) : this.accept(accepted, origin);
      },
    });
    this.listeners.push(...openListeners(secure, { socket, tls: { ALPNProtocols: protocolList(['h2', 'http/1.1']) } }));
  }

  /** Where it listens, for people; Bun does not tell the address of an inherited socket. */
  get addresses(): readonly string[] {
    return this.listeners.map(({ listener: { hostname, port }, fd, secure }) => {
      const where = fd === null ? `${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}` : `descriptor ${fd}`;
      return secure ? `${where} with TLS` : where;
    });
  }

  get connections(): { readonly clients: number; readonly upstreams: number; readonly tunnels: number; readonly handshakes: number } {
    let tunnels = 0;
    for (const client of this.clients) if (client.isTunnel) tunnels += 1;
    return { clients: this.clients.size - this.handshakes, upstreams: this.upstreams.size, tunnels, handshakes: this.handshakes };
  }

  /** HTTP/2 has a message for it (GOAWAY); HTTP/1.1 is told with an answer. */
  keepConnections({ keeps }: { keeps: boolean }): void {
    this.keeps = keeps;
    if (!keeps) this.endHttp2();
  }

  private endHttp2(): void {
    for (const client of this.clients) if (client instanceof Http2Connection) client.stop(false);
  }

  /** A request of the edgepoint's own; resolves with its end, whatever that is. */
  ask(order: TaskOrder | MessageOrder): Promise<TaskAnswer> {
    return new Promise((resolve) => {
      const request = new OwnRequest(order, this.ports, (over, answer) => {
        this.clients.delete(over);
        resolve(answer);
      });
      this.add(request);
      request.begin();
    });
  }

  /** Has clients leave with their next answer, then accepts nothing more, lets exchanges end, and cuts what is left. */
  async stop(): Promise<void> {
    this.keepConnections({ keeps: false });
    const leaveUntilMs = this.options.nowMs() + limits.leaveMs;
    while (this.clients.size > this.connections.tunnels && this.options.nowMs() < leaveUntilMs) await Bun.sleep(10);
    this.stopping = true;
    for (const { listener } of this.listeners) listener.stop(false);
    for (const client of this.clients) client.stop(false);
    setTimeout(() => this.clients.forEach((client) => client.stop(true)), limits.stopFreshMs);
    const untilMs = this.options.nowMs() + limits.stopMs;
    while (this.clients.size > this.connections.tunnels && this.options.nowMs() < untilMs) await Bun.sleep(10);
    for (const client of this.clients) client.cut();
    for (const upstream of this.upstreams) upstream.abort();
    if (this.timer !== null) clearInterval(this.timer);
  }

  private handlers(): SocketHandler<Served> {
    return {
      open: (socket) => void (socket.data = this.accept(socket, plainOrigin)),
      data: (socket, bytes) => socket.data.data(bytes),
      drain: (socket) => socket.data?.drained(),
      end: (socket) => socket.data.end(),
      close: (socket) => socket.data?.gone(),
      error: (socket, error) => {
        this.options.broken(error);
        socket.data?.cut();
      },
    };
  }

  private accept(socket: Socket<Served>, origin: ClientOrigin): Served {
    const client = new ClientConnection(socket, origin, this.ports, (gone) => this.clients.delete(gone));
    socket.setNoDelay(true);
    this.add(client);
    return client;
  }

  private acceptHttp2(socket: Socket<Served>, origin: ClientOrigin): Served {
    const client = new Http2Connection(socket, origin, this.ports, (gone) => {
      this.http2Connections -= 1;
      this.clients.delete(gone);
    });
    socket.setNoDelay(true);
    this.http2Connections += 1;
    this.add(client);
    if (this.http2Connections > limits.http2Connections) client.cut();
    return client;
  }

  private add(client: Timed): void {
    this.clients.add(client);
    if (this.clients.size > limits.clientConnections) client.cut();
    this.timer ??= setInterval(() => this.sweep(), limits.sweepMs);
  }

  private handshakeBegan(handshake: Handshake): void {
    this.handshakes += 1;
    this.add(handshake);
  }

  private handshakeOver(handshake: Handshake, secure: SecureSettings): void {
    this.handshakes -= 1;
    this.clients.delete(handshake);
    secure.handshakeOver(handshake.outcome);
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
    if (!this.keeps) this.endHttp2();
    for (const upstream of this.upstreams) upstream.check(nowMs);
    if (this.clients.size > 0 || this.upstreams.size > 0 || this.timer === null) return;
    clearInterval(this.timer);
    this.timer = null;
  }
}

interface Opened {
  readonly listener: TCPSocketListener<Served>;
  readonly fd: number | null;
  readonly secure: boolean;
}

function openListeners(places: Places, common: { socket: SocketHandler<Served>; tls?: Bun.TLSOptions }): Opened[] {
  const open = (name: string, fd: number | null, where: object): Opened => {
    try {
      const listener = Bun.listen<Served>({ ...where, ...common, allowHalfOpen: true } as Bun.TCPSocketListenOptions<Served>);
      return { listener, fd, secure: common.tls !== undefined };
    } catch (cause) {
      throw new Failure('cannot-listen', `the dispatcher cannot listen on ${name}: ${messageOf(cause)}`, { cause, remedy: 'Give it a free address, or a descriptor of a bound socket.' });
    }
  };
  return [
    ...places.listenFds.map((fd) => open(`descriptor ${fd}`, fd, { fd })),
    ...places.listen.map((address) => open(`${address.hostname}:${address.port}`, null, address)),
  ];
}
