import { writeOwnAnswer } from './answers.ts';
import type { OwnAnswer } from './answers.ts';
import { openBodyScanner } from './body-scanner.ts';
import type { BodyScanner } from './body-scanner.ts';
import type { AppState, InstanceState } from './fleet.ts';
import { forwardRequest, forwardResponse } from './forward.ts';
import { limits } from './limits.ts';
import type { Outlet } from './outlet.ts';
import type { RequestHead } from './request-head.ts';
import { isIdempotent, mayResend } from './resend.ts';
import { readResponseHead } from './response-head.ts';
import type { ResponseHead } from './response-head.ts';
import type { Hold, Switchboard, Waiter } from './switchboard.ts';
import { Tunnel } from './tunnel.ts';
import type { TunnelClient } from './tunnel.ts';
import type { UpstreamConnection, UpstreamUser } from './upstream-connection.ts';

/** The client connection as one of its exchanges sees it. */
export interface ExchangeClient extends TunnelClient {
  readonly address: string;
  readonly outlet: Outlet;
  /** The client has ended its side. */
  readonly ended: boolean;
  /** Bytes that came after the head and belong to nobody yet. */
  takeInput(): Buffer | null;
  putBack(rest: Buffer): void;
  setReading(on: boolean): void;
  /** The exchange is over; without `keepAlive` the connection closes after what is queued. */
  exchangeOver(keepAlive: boolean): void;
  tunnelOpened(tunnel: Tunnel): void;
  /** Cuts the connection: the client must see that its answer is not whole. */
  cut(): void;
  close(): void;
}

/** What an exchange needs of its surroundings. */
export interface ExchangePorts {
  readonly switchboard: Switchboard;
  readonly nowMs: () => number;
  connect(instance: InstanceState, user: UpstreamUser): UpstreamConnection;
  /** False while the dispatcher is about to stop. */
  keepsConnections(): boolean;
  answered(app: AppState | null, status: number): void;
}

const none = Buffer.alloc(0);

/**
 * One request and its answer.
 *
 * Modes: waiting -> connecting -> sending -> answering -> over, back to `waiting` when an attempt failed and may be repeated.
 * waiting: the switchboard looks for an instance. connecting: no byte has left. sending: the head has left, no byte of the final
 * answer has gone to the client. answering: the head of the final answer has gone. The request's body may still flow in the last two.
 */
export class Exchange implements Waiter, UpstreamUser {
  hold: Hold | null = null;
  readonly head: RequestHead;
  private mode: 'waiting' | 'connecting' | 'sending' | 'answering' | 'over' = 'waiting';
  private readonly client: ExchangeClient;
  private readonly ports: ExchangePorts;
  private app: AppState | null = null;
  private instance: InstanceState | null = null;
  private upstream: UpstreamConnection | null = null;
  private readonly body: BodyScanner;
  /** Body bytes that were sent, while they can all be held; null afterwards. */
  private sentBody: Buffer[] | null = [];
  private sentBodyBytes = 0;
  private bodyBytesSeen = false;
  private continued = false;
  /** What its connection had carried before this attempt. */
  private writtenBefore = 0;
  private attempts = 0;
  private resends = 0;
  /** Bytes of an answer's head that is not whole yet. */
  private answerInput: Buffer = none;
  private anyAnswer = false;
  private interims = 0;
  private answer: ResponseHead | null = null;
  private answerBody: BodyScanner | null = null;
  private answerDone = false;
  private keepAlive = true;
  /** Coarse clock of the last byte either way. */
  private activeMs: number;
  /** Coarse clock when the client ended its side, or was last asked whether it is there; 0 while it has not. */
  private clientEndedMs = 0;

  constructor(client: ExchangeClient, head: RequestHead, ports: ExchangePorts) {
    this.client = client;
    this.head = head;
    this.ports = ports;
    this.body = openBodyScanner(head.framing);
    this.activeMs = ports.nowMs();
  }

  get host(): string {
    return this.head.host;
  }

  get hostName(): string {
    return this.head.hostName;
  }

  begin(): void {
    this.ports.switchboard.submit(this);
  }

  /** The client may send more: its body is wanted, or so little is kept that a hang-up should be noticed. */
  wantsInput(keptBytes: number): boolean {
    if (this.upstream !== null && this.mode !== 'connecting' && !this.body.done) return !this.upstream.outlet.blocked;
    return keptBytes < limits.joinedWriteBytes;
  }

  // ---- what the switchboard says ----

  assign(app: AppState, instance: InstanceState): void {
    this.app = app;
    this.instance = instance;
    this.attempts += 1;
    const idle = instance.takeIdle(this.ports.nowMs(), isIdempotent(this.head.method) ? limits.upstreamIdleMs : limits.upstreamFreshMs);
    this.mode = 'connecting';
    if (idle === null) {
      this.upstream = this.ports.connect(instance, this);
    } else {
      this.upstream = idle;
      idle.user = this;
      this.send(idle);
    }
  }

  refuse(answer: OwnAnswer): void {
    this.answerOurselves(answer);
  }

  // ---- the request's way ----

  opened(): void {
    if (this.upstream !== null) this.send(this.upstream);
  }

  private send(upstream: UpstreamConnection): void {
    this.mode = 'sending';
    this.activeMs = this.ports.nowMs();
    this.writtenBefore = upstream.outlet.writtenBytes;
    const parts: Buffer[] = [forwardRequest(this.head, { address: this.client.address, scheme: 'http' }), ...(this.sentBody ?? [])];
    const more = this.nextBody();
    if (more === null) return;
    const bytes = joined([...parts, ...more]);
    this.client.setReading(this.writeUpstream(upstream, bytes));
    this.bodyMoved();
  }

  /** The client has sent something while this exchange is its current one. */
  feed(): void {
    const { upstream } = this;
    if (upstream === null || this.mode === 'connecting' || this.mode === 'waiting' || this.body.done) return;
    this.activeMs = this.ports.nowMs();
    const more = this.nextBody();
    if (more === null) return;
    for (const bytes of more) if (!this.writeUpstream(upstream, [bytes])) this.client.setReading(false);
    this.bodyMoved();
  }

  /** Takes what the client has sent of the body; null when its framing was refused and the exchange is over. */
  private nextBody(): readonly Buffer[] | null {
    if (this.body.done) return [];
    const input = this.client.takeInput();
    if (input === null) return [];
    this.bodyBytesSeen = true;
    const scanned = this.body.scan(input);
    if (scanned.bad !== '') {
      this.badBody(scanned.bad);
      return null;
    }
    if (scanned.consumed < input.length) this.client.putBack(input.subarray(scanned.consumed));
    this.keepForResend(scanned.pieces);
    return scanned.pieces;
  }

  private bodyMoved(): void {
    if (this.body.done) {
      if (this.answerDone) this.finish();
    } else if (this.client.ended) this.abandon();
  }

  /** The client's body is not what its framing says: the application sees a request that never ends whole. */
  private badBody(reason: string): void {
    this.dropUpstream();
    if (this.mode === 'answering') this.endClient();
    else this.answerOurselves({ status: 400, reason });
  }

  private keepForResend(pieces: readonly Buffer[]): void {
    if (this.sentBody === null) return;
    for (const piece of pieces) this.sentBodyBytes += piece.length;
    if (this.sentBodyBytes > limits.resendBytes) this.sentBody = null;
    else this.sentBody.push(...pieces);
  }

  private writeUpstream(upstream: UpstreamConnection, parts: readonly Buffer[]): boolean {
    let flows = true;
    for (const bytes of parts) {
      if (this.instance !== null) this.instance.bytesIn += bytes.length;
      flows = upstream.outlet.write(bytes);
    }
    this.touch();
    return flows;
  }

  room(): void {
    this.activeMs = this.ports.nowMs();
    this.client.setReading(true);
  }

  // ---- the answer's way ----

  data(bytes: Buffer): void {
    this.anyAnswer = true;
    this.activeMs = this.ports.nowMs();
    if (this.instance !== null) this.instance.bytesOut += bytes.length;
    this.touch();
    if (this.answer !== null) return this.passAnswer(none, bytes);
    this.answerInput = this.answerInput.length === 0 ? bytes : Buffer.concat([this.answerInput, bytes]);
    this.readAnswerHead();
  }

  private readAnswerHead(): void {
    while (this.answerInput.length > 0 && this.answer === null && this.mode === 'sending') {
      const result = readResponseHead(this.answerInput, this.head.method);
      if (result.kind === 'partial') return;
      if (result.kind === 'refused') return this.badAnswer(result.reason);
      this.answerInput = this.answerInput.subarray(result.end);
      const { head } = result;
      if (head.status === 101) return this.openTunnel(head);
      if (head.status < 200) this.passInterim(head);
      else this.passFinal(head);
    }
  }

  private passInterim(head: ResponseHead): void {
    this.interims += 1;
    if (this.interims > limits.interimResponses) return this.badAnswer('the application gave too many interim answers');
    if (head.status === 100) this.continued = true;
    if (this.head.minorVersion === 0) return;
    this.client.outlet.write(forwardResponse(head, { keepAlive: true, clientMinorVersion: 1, decoded: false }));
  }

  private passFinal(head: ResponseHead): void {
    const decoded = this.head.minorVersion === 0 && head.framing.kind === 'chunked';
    // A client that was not told to continue may or may not send its body: the next bytes could be either.
    const bodyUncertain = this.head.expectContinue && !this.body.done && !this.continued && !this.bodyBytesSeen;
    this.keepAlive = this.head.keepAlive && !decoded && head.framing.kind !== 'until-close' && !bodyUncertain && this.ports.keepsConnections();
    this.mode = 'answering';
    this.answer = head;
    this.answerBody = openBodyScanner(head.framing, { decoded });
    this.answerDone = this.answerBody.done;
    if (this.instance !== null) this.instance.requests += 1;
    this.ports.answered(this.app, head.status);
    const rest = this.answerInput;
    this.answerInput = none;
    this.passAnswer(forwardResponse(head, { keepAlive: this.keepAlive, clientMinorVersion: this.head.minorVersion, decoded }), rest);
  }

  private passAnswer(head: Buffer, bytes: Buffer): void {
    const { upstream, answerBody } = this;
    if (upstream === null || answerBody === null) return;
    const scanned = answerBody.scan(bytes);
    if (scanned.bad !== '') {
      // Nothing has gone to the client while the head is still in our hand.
      if (head.length > 0) this.mode = 'sending';
      return this.badAnswer(scanned.bad);
    }
    for (const part of joined(head.length === 0 ? scanned.pieces : [head, ...scanned.pieces])) this.client.outlet.write(part);
    if (this.client.outlet.blocked) upstream.pause();
    if (!scanned.done && !this.answerDone) return;
    this.answerDone = true;
    // Bytes after the end of the answer belong to no exchange: such a connection carries no other.
    if (scanned.consumed < bytes.length) {
      this.dropUpstream();
      this.keepAlive &&= this.body.done;
    }
    if (this.body.done || !this.keepAlive) this.finish();
  }

  private openTunnel(head: ResponseHead): void {
    const { upstream, app, instance } = this;
    if (upstream === null || app === null || instance === null) return;
    if (this.head.upgrade === '') return this.badAnswer('the application switched protocols unasked');
    this.mode = 'over';
    instance.requests += 1;
    this.ports.answered(app, 101);
    this.client.outlet.write(forwardResponse(head, { keepAlive: true, clientMinorVersion: 1, decoded: false }));
    const tunnel = new Tunnel({ client: this.client, upstream, app, instance, switchboard: this.ports.switchboard });
    upstream.user = tunnel;
    this.upstream = null;
    this.ports.switchboard.release(app, instance);
    if (this.answerInput.length > 0) tunnel.data(this.answerInput);
    this.client.tunnelOpened(tunnel);
  }

  /** The application's answer cannot be passed on. */
  private badAnswer(reason: string): void {
    this.dropUpstream();
    if (this.mode === 'answering') this.cutClient();
    else this.answerOurselves({ status: 502, reason: `The application's answer is not HTTP as we know it: ${reason}.` });
  }

  /** What was queued for the client has left. */
  clientRoom(): void {
    this.activeMs = this.ports.nowMs();
    this.upstream?.resume();
  }

  // ---- ends ----

  ended(): void {
    if (this.answer?.framing.kind === 'until-close') {
      this.answerDone = true;
      this.finish();
    } else this.lost('it ended the connection');
  }

  closed(reason: string): void {
    this.lost(reason === '' ? 'it closed the connection' : reason);
  }

  /** The instance broke off. */
  private lost(reason: string): void {
    const { upstream, app, instance, mode } = this;
    if (upstream === null || app === null || instance === null) return;
    const sent = mode !== 'connecting' && upstream.outlet.writtenBytes > this.writtenBefore;
    // An idle connection that the application closed at the same moment says nothing against it.
    if (!upstream.reused && !this.anyAnswer) this.ports.switchboard.suspect(app, instance, reason);
    this.dropUpstream();
    if (mode === 'answering') return this.answerDone ? this.endClient() : this.cutClient();
    const attempt = { method: this.head.method, sent, answered: this.anyAnswer, bodyHeld: this.sentBody !== null, attempts: this.attempts, resends: this.resends };
    const decision = mayResend(attempt);
    if (!decision.again) return this.answerOurselves({ status: 502, reason: `The application broke off before it answered (${reason}); ${decision.reason}.` });
    if (sent) this.resends += 1;
    this.mode = 'waiting';
    this.answerInput = none;
    this.ports.switchboard.submit(this, true);
  }

  /** The client's connection is gone. */
  clientGone(): void {
    if (this.mode === 'over') return;
    if (this.mode === 'waiting') this.ports.switchboard.leave(this);
    this.dropUpstream();
    this.mode = 'over';
  }

  /**
   * The client has ended its side. That may be a client that still reads (RFC 9112, section 9.6) or one that has gone: an interim
   * answer, some time later, tells which, for it makes the kernel of one that has gone reset the connection.
   */
  clientEnded(): void {
    if (!this.body.done && this.mode !== 'waiting' && this.mode !== 'connecting') return this.abandon();
    if (this.answer?.eventStream === true) return this.abandon();
    this.clientEndedMs = this.ports.nowMs();
  }

  private probeClient(nowMs: number): void {
    if (this.clientEndedMs === 0 || nowMs - this.clientEndedMs < limits.endedClientMs) return;
    this.clientEndedMs = nowMs;
    if (this.mode !== 'answering' && this.head.minorVersion === 1) this.client.outlet.write(Buffer.from('HTTP/1.1 102 Processing\r\n\r\n'));
  }

  /** Time-outs of an exchange under way. */
  check(nowMs: number): void {
    this.probeClient(nowMs);
    if (this.mode === 'waiting' || this.mode === 'connecting' || this.mode === 'over') return;
    const quietMs = nowMs - this.activeMs;
    if (!this.body.done && this.upstream !== null && !this.upstream.outlet.blocked) {
      if (quietMs < limits.bodyMs || (this.head.expectContinue && !this.continued && quietMs < limits.responseMs)) return;
      this.dropUpstream();
      if (this.mode === 'answering') this.endClient();
      else this.answerOurselves({ status: 408, reason: 'The body of the request did not come.' });
    } else if (quietMs >= limits.responseMs && this.answer?.eventStream !== true && !this.client.outlet.blocked) {
      this.dropUpstream();
      if (this.mode === 'answering') this.cutClient();
      else this.answerOurselves({ status: 504, reason: 'The application did not answer.' });
    }
  }

  private answerOurselves(answer: OwnAnswer): void {
    if (this.mode === 'over') return;
    this.ports.answered(this.app, answer.status);
    const keepAlive = this.head.keepAlive && this.body.done && this.ports.keepsConnections();
    this.client.outlet.write(writeOwnAnswer(answer, { keepAlive, head: this.head.method === 'HEAD', minorVersion: this.head.minorVersion }));
    this.keepAlive = keepAlive;
    this.finish();
  }

  private finish(): void {
    if (this.mode === 'over') return;
    const reusable = this.answerDone && this.answer !== null && this.answer.keepAlive && this.body.done && this.head.upgrade === '';
    if (reusable) this.giveBackUpstream();
    else this.dropUpstream();
    this.mode = 'over';
    this.client.exchangeOver(this.keepAlive && this.body.done);
  }

  private giveBackUpstream(): void {
    const { upstream, instance, answer } = this;
    if (upstream === null || instance === null || answer === null) return;
    upstream.user = null;
    upstream.reused = true;
    upstream.sinceMs = this.ports.nowMs();
    upstream.idleMs = answer.keepAliveMs === 0 ? limits.upstreamIdleMs : Math.min(limits.upstreamIdleMs, answer.keepAliveMs - 1000);
    upstream.resume();
    this.upstream = null;
    instance.giveBack(upstream);
    this.releasePlace();
  }

  /** Ends this attempt: its connection is cut, its place is free. */
  private dropUpstream(): void {
    const { upstream } = this;
    this.upstream = null;
    upstream?.abort();
    if (upstream !== null) this.releasePlace();
  }

  private releasePlace(): void {
    const { app, instance } = this;
    this.instance = null;
    if (app !== null && instance !== null) this.ports.switchboard.release(app, instance);
  }

  private touch(): void {
    if (this.app !== null && this.instance !== null) this.ports.switchboard.touched(this.app, this.instance);
  }

  /** The request can never become whole, or nobody reads the answer. */
  private abandon(): void {
    this.dropUpstream();
    this.endClient();
  }

  private endClient(): void {
    this.mode = 'over';
    this.client.exchangeOver(false);
  }

  private cutClient(): void {
    this.mode = 'over';
    this.client.cut();
  }
}

/** One buffer when all fits in a write, else the parts as they are. */
function joined(parts: readonly Buffer[]): readonly Buffer[] {
  if (parts.length < 2) return parts;
  let bytes = 0;
  for (const part of parts) bytes += part.length;
  return bytes <= limits.joinedWriteBytes ? [Buffer.concat(parts, bytes)] : parts;
}
