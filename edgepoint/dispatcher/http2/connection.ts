import { EventEmitter } from 'node:events';
import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'bun';
import { ownBody, ownFields } from '../answers.ts';
import { SocketFacts } from '../client-address.ts';
import type { ClientOrigin } from '../client-connection.ts';
import type { ExchangePorts } from '../exchange-ports.ts';
import { endStreamFlag, http2Codes } from './codes.ts';
import { Http2FrameGuard } from './frame-guard.ts';
import { readHttp2Request } from './request.ts';
import { Http2Stream } from './stream.ts';
import { limits } from '../limits.ts';
import { Outlet } from '../outlet.ts';
import type { Refusal } from '../request-head.ts';
import type { Served } from '../served.ts';
import { StallWatch } from '../stall-watch.ts';

/** Options of Bun's `node:http2` beside those of Node's types. */
const sessionOptions = {
  settings: {
    enablePush: false,
    maxConcurrentStreams: limits.http2Streams,
    initialWindowSize: limits.http2StreamWindowBytes,
    maxHeaderListSize: limits.requestHeadBytes,
  },
  maxHeaderListPairs: limits.requestFields,
  maxSettings: 32,
  maxOutstandingSettings: 4,
  maxSessionInvalidFrames: 100,
  maxSessionRejectedStreams: 100,
  streamResetBurst: limits.http2Resets,
  streamResetRate: limits.http2ResetsPerSecond,
  strictSingleValueFields: false,
};

/**
 * A client's connection that speaks HTTP/2: framing, HPACK and flow control are Bun's `node:http2`, on our socket; each stream is an
 * exchange as on any other connection.
 *
 * Modes: open -> closing -> closed. closing: GOAWAY has been sent, streams under way go on.
 */
export class Http2Connection implements Served {
  readonly isTunnel = false;
  private mode: 'open' | 'closing' | 'closed' = 'open';
  private readonly socket: Socket<Served>;
  private readonly facts: SocketFacts;
  private readonly origin: ClientOrigin;
  private readonly ports: ExchangePorts;
  private readonly onGone: (connection: Http2Connection) => void;
  private readonly outlet: Outlet;
  private readonly transport: Transport;
  private readonly session: ServerHttp2Session;
  private readonly streams = new Set<Http2Stream>();
  private readonly stall = new StallWatch();
  private readonly guard: Http2FrameGuard;
  private asked = false;
  /** TCP keepalive is on, as on other connections of clients. */
  private probed = false;
  /** When the last stream ended, or the connection was accepted. */
  private quietSinceMs: number;
  private resetsLeft: number = limits.http2Resets;
  private resetMs: number;

  constructor(socket: Socket<Served>, origin: ClientOrigin, ports: ExchangePorts, onGone: (connection: Http2Connection) => void) {
    this.socket = socket;
    this.origin = origin;
    this.ports = ports;
    this.onGone = onGone;
    this.facts = new SocketFacts(socket, origin.scheme);
    this.quietSinceMs = ports.nowMs();
    this.resetMs = this.quietSinceMs;
    this.guard = new Http2FrameGuard(this.quietSinceMs);
    this.outlet = new Outlet(() => this.transport.emit('drain'));
    this.outlet.attach(socket);
    this.transport = new Transport(this.outlet, () => this.transportOver());
    // Loaded when somebody first speaks HTTP/2: it is 2 MB of every dispatcher's memory otherwise.
    const { performServerHandshake } = process.getBuiltinModule('node:http2');
    this.session = performServerHandshake(this.transport as unknown as Parameters<typeof performServerHandshake>[0], sessionOptions as Parameters<typeof performServerHandshake>[1]);
    this.session.setLocalWindowSize(limits.http2WindowBytes);
    this.session.on('stream', (stream, _headers, flags, rawFields) => this.streamCame(stream, flags, rawFields as unknown as readonly string[]));
    // The client broke the protocol or flooded: the library has said GOAWAY.
    this.session.on('error', () => this.cut());
    this.session.once('close', () => this.finish());
  }

  // ---- what the socket says ----

  data(bytes: Buffer): void {
    if (this.mode === 'closed') return;
    if (this.guard.see(bytes, this.ports.nowMs()) !== '') return this.sendAway();
    this.transport.emit('data', bytes);
    if (this.outlet.queuedBytes > limits.http2QueuedBytes) this.cut();
  }

  drained(): void {
    this.outlet.flush();
  }

  /** A client of HTTP/2 that ends its side has gone: it could send no window, so no answer could end. */
  end(): void {
    this.cut();
  }

  gone(): void {
    if (this.mode === 'closed') return;
    this.mode = 'closed';
    this.outlet.clear();
    this.transport.destroyed = true;
    this.transport.emit('close');
    this.onGone(this);
  }

  cut(): void {
    if (this.mode === 'closed') return;
    this.transport.flush();
    this.gone();
    this.socket.end();
  }

  // ---- its streams ----

  private streamCame(stream: ServerHttp2Stream, flags: number, fields: readonly string[]): void {
    // Its close says all that matters; without a listener the error would end the process.
    stream.on('error', () => {});
    if (this.mode === 'closed') return;
    this.asked = true;
    const head = readHttp2Request(fields, (flags & endStreamFlag) !== 0);
    if ('status' in head) return this.refuse(stream, head);
    const made = new Http2Stream(stream, head, {
      facts: this.facts,
      exchange: this.ports,
      mayAsk: (hostName) => this.origin.mayAsk(hostName),
      over: (over, unanswered) => this.streamOver(over, unanswered),
    });
    this.streams.add(made);
    made.begin();
  }

  private refuse(stream: ServerHttp2Stream, refusal: Refusal): void {
    this.ports.answered(null, refusal.status);
    const answer = { status: refusal.status, reason: `${refusal.reason}.` };
    const body = ownBody(answer);
    const fields = Object.fromEntries(ownFields(answer, body).map(([name, value]) => [name.toLowerCase(), value]));
    stream.respond({ ':status': answer.status, ...fields });
    stream.end(body);
    stream.resume();
  }

  private streamOver(stream: Http2Stream, unanswered: boolean): void {
    this.streams.delete(stream);
    this.quietSinceMs = this.ports.nowMs();
    if (unanswered && this.mode === 'open') this.countReset();
  }

  /** Requests taken back cost work for nobody (CVE-2023-44487); who takes back too many is sent away. */
  private countReset(): void {
    const nowMs = this.ports.nowMs();
    this.resetsLeft = Math.min(limits.http2Resets, this.resetsLeft + ((nowMs - this.resetMs) * limits.http2ResetsPerSecond) / 1000) - 1;
    this.resetMs = nowMs;
    if (this.resetsLeft < 0) this.sendAway();
  }

  private sendAway(): void {
    this.session.goaway(http2Codes.enhanceYourCalm);
    this.cut();
  }

  // ---- its end ----

  /** GOAWAY; what is under way goes on, and then the session closes. */
  private close(): void {
    if (this.mode !== 'open') return;
    this.mode = 'closing';
    this.session.close();
  }

  stop(fresh: boolean): void {
    if (fresh || this.asked) this.close();
  }

  check(nowMs: number): void {
    if (!this.probed) this.socket.setKeepAlive(true, limits.clientProbeMs);
    this.probed = true;
    if (this.stall.stalls(this.outlet, nowMs)) return this.cut();
    for (const stream of this.streams) stream.check(nowMs);
    if (this.streams.size > 0) return;
    const quietMs = nowMs - this.quietSinceMs;
    if (quietMs >= limits.keepAliveMs + limits.lingerMs) this.cut();
    else if (quietMs >= limits.keepAliveMs) this.close();
  }

  /** The library has ended or destroyed its transport. */
  private transportOver(): void {
    if (this.mode !== 'closed') this.finish();
  }

  /** Closes after what is queued. */
  private finish(): void {
    if (this.mode === 'closed') return;
    if (this.transport.flush()) return this.cut();
    this.mode = 'closing';
    this.outlet.shutdown();
  }
}

/** What `node:http2` takes for a socket: bytes come by `data` events and leave through the outlet. */
class Transport extends EventEmitter {
  destroyed = false;
  writableEnded = false;
  readonly connecting = false;
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  private flushing: ReturnType<typeof setImmediate> | null = null;
  private readonly outlet: Outlet;
  private readonly onOver: () => void;

  constructor(outlet: Outlet, onOver: () => void) {
    super();
    this.outlet = outlet;
    this.onOver = onOver;
  }

  /** Frames of one turn of the event loop leave together. False: wait for `drain`. */
  write(bytes: Buffer): boolean {
    this.pending.push(bytes);
    this.pendingBytes += bytes.length;
    if (this.pendingBytes >= limits.joinedWriteBytes) return this.flush();
    this.flushing ??= setImmediate(() => this.flush());
    return !this.outlet.blocked;
  }

  flush(): boolean {
    if (this.flushing !== null) clearImmediate(this.flushing);
    this.flushing = null;
    const { pending, pendingBytes } = this;
    this.pending = [];
    this.pendingBytes = 0;
    if (pendingBytes > 0) this.outlet.write(pending.length === 1 ? (pending[0] as Buffer) : Buffer.concat(pending, pendingBytes));
    return !this.outlet.blocked;
  }

  end(bytes?: unknown): void {
    if (Buffer.isBuffer(bytes)) this.write(bytes);
    this.flush();
    this.writableEnded = true;
    this.onOver();
  }

  destroySoon(): void {
    this.end();
  }

  destroy(): this {
    this.destroyed = true;
    this.onOver();
    return this;
  }

  setTimeout(): this {
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  pause(): this {
    return this;
  }

  resume(): this {
    return this;
  }
}
