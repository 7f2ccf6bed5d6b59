import type { Socket } from 'bun';
import { writeOwnAnswer } from './answers.ts';
import type { OwnAnswer } from './answers.ts';
import { SocketFacts } from './client-address.ts';
import { Exchange } from './exchange.ts';
import type { ExchangeClient, ExchangePorts } from './exchange-ports.ts';
import { forwardResponse } from './forward.ts';
import type { ClientFacts, ResponseWay } from './forward.ts';
import { limits } from './limits.ts';
import { Outlet } from './outlet.ts';
import { readRequestHead } from './request-head.ts';
import type { Refusal, RequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';
import type { Served } from './served.ts';
import { StallWatch } from './stall-watch.ts';
import type { Tunnel } from './tunnel.ts';

const processing = Buffer.from('HTTP/1.1 102 Processing\r\n\r\n');

/** Where a connection comes from, and whom its handshake, if there was one, let it ask for. */
export interface ClientOrigin {
  readonly scheme: 'http' | 'https';
  mayAsk(hostName: string): boolean;
}

export const plainOrigin: ClientOrigin = { scheme: 'http', mayAsk: () => true };

/**
 * A client's connection: its requests, one after the other.
 *
 * Modes: open -> tunnel, open -> closing -> closed, tunnel -> closing -> closed. closing: what is queued still leaves, what comes is
 * thrown away, so that the client can read the last answer (RFC 9112, section 9.6).
 */
export class ClientConnection implements ExchangeClient, Served {
  readonly facts: ClientFacts;
  readonly frames = false;
  readonly outlet: Outlet;
  ended = false;
  private mode: 'open' | 'tunnel' | 'closing' | 'closed' = 'open';
  private readonly socket: Socket<Served>;
  private readonly origin: ClientOrigin;
  private readonly ports: ExchangePorts;
  private readonly onGone: (connection: ClientConnection) => void;
  private input: Buffer | null = null;
  private exchange: Exchange | null = null;
  private tunnel: Tunnel | null = null;
  private paused = false;
  private processing = false;
  private probed = false;
  /** At least one request has come on it. */
  private asked = false;
  /** Coarse clock: when it became idle, or the first byte of a head came, or it began to close. */
  private sinceMs: number;
  private readonly stall = new StallWatch();
  private thrownAwayBytes = 0;

  constructor(socket: Socket<Served>, origin: ClientOrigin, ports: ExchangePorts, onGone: (connection: ClientConnection) => void) {
    this.socket = socket;
    this.origin = origin;
    this.ports = ports;
    this.onGone = onGone;
    this.facts = new SocketFacts(socket, origin.scheme);
    this.outlet = new Outlet(() => this.room());
    this.outlet.attach(socket);
    this.sinceMs = ports.nowMs();
  }

  // ---- what the socket says ----

  data(bytes: Buffer): void {
    if (this.mode === 'tunnel') return this.tunnel?.fromClient(bytes);
    if (this.mode !== 'open') return this.throwAway(bytes);
    if (this.input === null && this.exchange === null) this.sinceMs = this.ports.nowMs();
    this.input = this.input === null ? bytes : Buffer.concat([this.input, bytes]);
    this.process();
  }

  drained(): void {
    this.outlet.flush();
  }

  end(): void {
    this.ended = true;
    if (this.mode === 'tunnel') this.tunnel?.clientEnded();
    else if (this.mode === 'closing') this.endWhenShut();
    else if (this.exchange !== null) this.exchange.clientEnded();
    else this.close();
  }

  gone(): void {
    if (this.mode === 'closed') return;
    this.mode = 'closed';
    this.outlet.clear();
    this.exchange?.clientGone();
    this.tunnel?.clientGone();
    this.exchange = null;
    this.tunnel = null;
    this.onGone(this);
  }

  // ---- what its exchange says ----

  takeInput(): Buffer | null {
    const { input } = this;
    this.input = null;
    return input;
  }

  putBack(rest: Buffer): void {
    this.input = rest;
  }

  setReading(on: boolean): void {
    if (this.mode === 'closed' || this.paused === !on) return;
    this.paused = !on;
    if (on) this.socket.resume();
    else this.socket.pause();
  }

  mayAsk(hostName: string): boolean {
    return this.origin.mayAsk(hostName);
  }

  interim(head: ResponseHead): void {
    this.outlet.writeHead(forwardResponse(head, { keepAlive: true, clientMinorVersion: 1, decoded: false }), []);
  }

  final(head: ResponseHead, way: ResponseWay, pieces: readonly Buffer[]): void {
    this.outlet.writeHead(forwardResponse(head, way), pieces);
  }

  body(pieces: readonly Buffer[]): void {
    this.outlet.writeAll(pieces);
  }

  ownAnswer(answer: OwnAnswer, request: RequestHead, keepAlive: boolean): void {
    this.outlet.write(writeOwnAnswer(answer, { keepAlive, head: request.method === 'HEAD', minorVersion: request.minorVersion }));
  }

  askWhetherThere(): void {
    this.outlet.write(processing);
  }

  exchangeOver(keepAlive: boolean): void {
    this.exchange = null;
    this.sinceMs = this.ports.nowMs();
    if (!keepAlive) this.close();
    else this.process();
  }

  tunnelOpened(tunnel: Tunnel): void {
    this.exchange = null;
    this.tunnel = tunnel;
    this.mode = 'tunnel';
    const early = this.takeInput();
    this.setReading(true);
    if (early !== null) tunnel.fromClient(early);
    if (this.ended) tunnel.clientEnded();
  }

  cut(): void {
    if (this.mode === 'closed') return;
    this.gone();
    this.socket.terminate();
  }

  close(): void {
    if (this.mode === 'closing' || this.mode === 'closed') return;
    this.mode = 'closing';
    this.exchange = null;
    this.tunnel = null;
    this.input = null;
    this.sinceMs = this.ports.nowMs();
    this.setReading(true);
    this.outlet.shutdown();
    if (this.ended) this.endWhenShut();
  }

  private endWhenShut(): void {
    if (this.outlet.isShut) this.socket.end();
  }

  /** The dispatcher stops: idle connections close, busy ones after their exchange. `fresh`: also those that have not asked yet. */
  stop(fresh: boolean): void {
    if (this.mode === 'open' && this.exchange === null && this.input === null && (fresh || this.asked)) this.close();
  }

  get isTunnel(): boolean {
    return this.mode === 'tunnel';
  }

  // ---- inside ----

  /** Takes requests off the input, one exchange at a time, and none while the client does not read its answers. */
  private process(): void {
    if (this.processing) return;
    this.processing = true;
    while (this.mode === 'open' && this.exchange === null && this.input !== null && !this.outlet.blocked) if (!this.takeRequest(this.input)) break;
    this.processing = false;
    if (this.mode !== 'open') return;
    this.exchange?.feed();
    this.steerReading();
    if (this.exchange === null && this.ended && !this.outlet.blocked) this.close();
  }

  /** False when more bytes are needed first. */
  private takeRequest(input: Buffer): boolean {
    const result = readRequestHead(input);
    if (result.kind === 'partial') return false;
    if (result.kind === 'refused') {
      this.refuse(result.refusal);
      return false;
    }
    this.input = result.end === input.length ? null : input.subarray(result.end);
    this.asked = true;
    this.exchange = new Exchange(this, result.head, this.ports);
    this.exchange.begin();
    return true;
  }

  private refuse(refusal: Refusal): void {
    this.ports.answered(null, refusal.status);
    this.outlet.write(writeOwnAnswer({ status: refusal.status, reason: `${refusal.reason}.` }, { keepAlive: false, head: false, minorVersion: 1 }));
    this.close();
  }

  private steerReading(): void {
    if (this.mode !== 'open') return;
    const kept = this.input?.length ?? 0;
    this.setReading(this.exchange === null ? !this.outlet.blocked : this.exchange.wantsInput(kept));
  }

  private room(): void {
    if (this.tunnel !== null) this.tunnel.clientRoom();
    else if (this.exchange !== null) this.exchange.clientRoom();
    else if (this.mode === 'closing' && this.ended) this.endWhenShut();
    else this.process();
  }

  private throwAway(bytes: Buffer): void {
    this.thrownAwayBytes += bytes.length;
    if (this.thrownAwayBytes > limits.lingerBytes) this.cut();
  }

  /** Time-outs; called for each connection by the sweep. */
  check(nowMs: number): void {
    this.probe();
    if (this.stall.stalls(this.outlet, nowMs)) return this.cut();
    if (this.mode === 'closing') {
      if (!this.outlet.blocked && nowMs - this.sinceMs >= limits.lingerMs) this.cut();
    } else if (this.exchange !== null) this.exchange.check(nowMs);
    else if (this.mode === 'open') this.checkIdle(nowMs - this.sinceMs);
  }

  /**
   * TCP keepalive finds clients that vanished without a word, which matters for idle tunnels and half-closed connections. It is turned on
   * at the first look rather than at once: most connections are over before, and it is four calls of the kernel for each.
   */
  private probe(): void {
    if (this.probed || this.mode === 'closed') return;
    this.probed = true;
    this.socket.setKeepAlive(true, limits.clientProbeMs);
  }

  private checkIdle(quietMs: number): void {
    if (this.input !== null && quietMs >= limits.headMs) this.refuse({ status: 408, reason: 'The head of the request did not come in time' });
    else if (this.input === null && quietMs >= limits.keepAliveMs) this.close();
  }
}
