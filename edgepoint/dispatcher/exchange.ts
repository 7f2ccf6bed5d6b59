import { proxyHeader } from '../model/proxy-protocol.ts';
import { affinityIn, newAffinity } from './affinity.ts';
import { AnswerReader } from './answer-reader.ts';
import type { AnswerPart } from './answer-reader.ts';
import { challengeAnswer, elsewhere, misdirected } from './answers.ts';
import type { OwnAnswer } from './answers.ts';
import type { AppState, InstanceState, RouteTerms } from './fleet.ts';
import { forwardRequest } from './forward.ts';
import { isHealthCheck } from './health-check.ts';
import { limits } from './limits.ts';
import { httpsUrl } from './redirect.ts';
import { RequestBody } from './request-body.ts';
import type { RequestHead } from './request-head.ts';
import { isIdempotent, mayResend } from './resend.ts';
import { timeOut } from './time-outs.ts';
import type { ResponseHead } from './response-head.ts';
import type { Hold, Waiter } from './switchboard.ts';
import type { ExchangeClient, ExchangePorts } from './exchange-ports.ts';
import { Tunnel } from './tunnel.ts';
import type { UpstreamConnection, UpstreamUser } from './upstream-connection.ts';

type FinalPart = AnswerPart & { kind: 'final' };

/** One try at one instance. */
interface Attempt {
  readonly app: AppState;
  readonly instance: InstanceState;
  upstream: UpstreamConnection;
  /** Begins a fresh connection to an app that wants to know whose it is; null: it does not, or it knows. */
  readonly preface: Buffer | null;
  /** What its connection had carried before. */
  writtenBefore: number;
}

/**
 * One request and its answer.
 *
 * Modes: waiting -> connecting -> sending -> answering -> over, back to `waiting` when an attempt failed and may be repeated.
 * waiting: the switchboard looks for an instance. connecting: no byte has left. sending: the head has left, no byte of the final
 * answer has gone to the client. answering: the head of the final answer has gone. The request's body may still flow in the last two.
 * There is an attempt in the middle three, and none in the others, save in `answering` after an answer that came with extra bytes.
 */
export class Exchange implements Waiter, UpstreamUser {
  hold: Hold | null = null;
  quiet = false;
  drawn: boolean;
  private readonly head: RequestHead;
  private mode: 'waiting' | 'connecting' | 'sending' | 'answering' | 'over' = 'waiting';
  private readonly client: ExchangeClient;
  private readonly ports: ExchangePorts;
  private attempt: Attempt | null = null;
  private attempts = 0;
  private resends = 0;
  private readonly body: RequestBody;
  private answer: AnswerReader;
  /** The client was told to send its body. */
  private continued = false;
  private keepAlive = false;
  /** Of the last byte either way. */
  private activeMs: number;
  /** When the client ended its side, or was last asked whether it is there; 0 while it has not. */
  private clientEndedMs = 0;

  constructor(client: ExchangeClient, head: RequestHead, ports: ExchangePorts) {
    this.client = client;
    this.head = head;
    this.ports = ports;
    // A schedule is one of the release that serves.
    this.drawn = client.facts.task !== undefined;
    this.body = new RequestBody(head.framing);
    this.answer = new AnswerReader({ method: head.method, decodes: client.frames || head.minorVersion === 0 });
    this.activeMs = ports.nowMs();
  }

  get host(): string {
    return this.head.host;
  }

  get hostName(): string {
    return this.head.hostName;
  }

  begin(): void {
    const { hostName, target } = this.head;
    if (!this.client.mayAsk(hostName)) return this.refuse(misdirected(this.head.host));
    const challenge = this.ports.challenge(hostName, target);
    if (challenge === null) this.ports.switchboard.submit(this);
    else this.refuse(challengeAnswer(challenge));
  }

  /** The client may send more: its body is wanted, or so little is kept that a hang-up should be noticed. */
  wantsInput(keptBytes: number): boolean {
    const { attempt } = this;
    if (attempt !== null && this.mode !== 'connecting' && !this.body.done) return !attempt.upstream.outlet.blocked;
    return keptBytes < limits.joinedWriteBytes;
  }

  // ---- what the switchboard says ----

  assign(app: AppState, instance: InstanceState): void {
    this.attempts += 1;
    this.mode = 'connecting';
    const proxyProtocol = app.terms?.proxyProtocol;
    const endpoints = proxyProtocol === undefined ? null : this.client.facts.endpoints();
    const key = endpoints === null ? '' : JSON.stringify([proxyProtocol, endpoints]);
    const idle = instance.takeIdle(this.ports.nowMs(), isIdempotent(this.head.method) ? limits.upstreamIdleMs : limits.upstreamFreshMs, key);
    const upstream = idle ?? this.ports.connect(instance, this);
    upstream.endpoints = key;
    const preface = idle !== null || proxyProtocol === undefined ? null : proxyHeader(proxyProtocol, endpoints);
    this.attempt = { app, instance, upstream, preface, writtenBefore: upstream.outlet.writtenBytes };
    if (idle === null) return;
    idle.user = this;
    this.send(this.attempt);
  }

  refuse(answer: OwnAnswer): void {
    this.answerOurselves(answer, null);
  }

  elsewhere(terms: RouteTerms): OwnAnswer | null {
    const { https } = this.ports;
    if (https === null || this.client.facts.scheme === 'https') return null;
    const url = httpsUrl(this.head, terms, https);
    return url === null ? null : elsewhere(url);
  }

  affinity(): string {
    return affinityIn(this.head.section);
  }

  isHealthCheck(path: string): boolean {
    return isHealthCheck(this.head, path);
  }

  // ---- the request's way ----

  opened(): void {
    if (this.attempt !== null) this.send(this.attempt);
  }

  private send(attempt: Attempt): void {
    this.mode = 'sending';
    const head = forwardRequest(this.head, this.client.facts);
    // What is taken now is held too, so what was sent before is copied first.
    const before = this.body.sentBefore?.slice() ?? [];
    const more = this.nextBody();
    if (more === null) return;
    const { preface, upstream } = attempt;
    const body = before.length === 0 ? more : [...before, ...more];
    this.written(attempt, preface === null ? upstream.outlet.writeHead(head, body) : upstream.outlet.writeAll([preface, Buffer.from(head, 'latin1'), ...body]));
  }

  /** The client has sent something while this exchange is its current one. */
  feed(): void {
    const { attempt } = this;
    if (attempt === null || this.mode === 'connecting' || this.body.done) return;
    const more = this.nextBody();
    if (more !== null) this.written(attempt, attempt.upstream.outlet.writeAll(more));
  }

  /** What the client has sent of the body; null when its framing was refused and the exchange is over. */
  private nextBody(): readonly Buffer[] | null {
    if (this.body.done) return [];
    const input = this.client.takeInput();
    if (input === null) return [];
    const { pieces, rest, bad } = this.body.take(input);
    if (bad !== '') {
      // The application sees a request that never becomes whole.
      this.giveUp({ status: 400, reason: `${bad}.` });
      return null;
    }
    if (rest !== null) this.client.putBack(rest);
    return pieces;
  }

  private written(attempt: Attempt, bytes: number): void {
    attempt.instance.bytesIn += bytes;
    this.touch(attempt);
    this.client.setReading(!attempt.upstream.outlet.blocked);
    if (this.body.done && this.answer.done) this.finish();
    else if (!this.body.done && this.client.ended) this.abandon();
  }

  room(): void {
    this.activeMs = this.ports.nowMs();
    this.client.setReading(true);
  }

  // ---- the answer's way ----

  data(bytes: Buffer): void {
    const { attempt } = this;
    if (attempt === null) return;
    attempt.instance.bytesOut += bytes.length;
    this.touch(attempt);
    let final: FinalPart | null = null;
    for (const part of this.answer.read(bytes)) {
      // What went before may have ended the exchange.
      if (this.attempt === null) return;
      if (part.kind === 'body') this.passBody(attempt, final, part);
      else if (part.kind === 'final') this.takeFinal(attempt, (final = part));
      else if (part.kind === 'interim') this.passInterim(part.head);
      else if (part.kind === 'switched') this.openTunnel(attempt, part.head, part.rest);
      else this.giveUp({ status: 502, reason: `The application's answer is not HTTP as we know it: ${part.reason}.` });
    }
  }

  private passInterim(head: ResponseHead): void {
    if (head.status === 100) this.continued = true;
    if (this.head.minorVersion === 0) return;
    this.client.interim(head);
  }

  /** The head leaves together with the first of the body. */
  private takeFinal(attempt: Attempt, { head, decoded }: FinalPart): void {
    this.mode = 'answering';
    attempt.instance.requests += 1;
    this.count(attempt.app, head.status);
    this.ports.switchboard.answered(attempt.app, attempt.instance, head.status);
    this.keepAlive = this.head.keepAlive && !decoded && head.framing.kind !== 'until-close' && !this.bodyUncertain && this.ports.keepsConnections();
  }

  /** A client that was not told to continue may or may not send its body: its next bytes could be either. */
  private get bodyUncertain(): boolean {
    return this.head.expectContinue && !this.continued && !this.body.done && !this.body.begun;
  }

  private passBody(attempt: Attempt, final: FinalPart | null, { pieces, done, extra }: AnswerPart & { kind: 'body' }): void {
    if (final === null) this.client.body(pieces, done);
    else this.client.final(final.head, { keepAlive: this.keepAlive, clientMinorVersion: this.head.minorVersion, decoded: final.decoded, ...newAffinity(attempt, this.affinity(), this.client.facts.scheme) }, pieces, done);
    if (this.client.outlet.blocked) attempt.upstream.pause();
    if (!done) return;
    // Bytes after the end of the answer belong to no exchange: such a connection carries no other.
    if (extra) {
      this.endAttempt(false);
      this.keepAlive &&= this.body.done;
    }
    if (this.body.done || !this.keepAlive) this.finish();
  }

  private openTunnel(attempt: Attempt, head: ResponseHead, rest: Buffer): void {
    const { app, instance, upstream } = attempt;
    if (this.head.upgrade === '') return this.giveUp({ status: 502, reason: 'The application switched protocols unasked.' });
    this.mode = 'over';
    this.attempt = null;
    instance.requests += 1;
    this.count(app, head.status);
    this.client.interim(head);
    const tunnel = new Tunnel({ client: this.client, upstream, app, instance, switchboard: this.ports.switchboard });
    upstream.user = tunnel;
    this.ports.switchboard.release(app, instance);
    if (rest.length > 0) tunnel.data(rest);
    this.client.tunnelOpened(tunnel);
  }

  /** What was queued for the client has left. */
  clientRoom(): void {
    this.activeMs = this.ports.nowMs();
    this.attempt?.upstream.resume();
  }

  // ---- ends ----

  ended(): void {
    if (this.answer.ended()) this.finish();
    else this.lost('it ended the connection');
  }

  closed(reason: string): void {
    this.lost(reason === '' ? 'it closed the connection' : reason);
  }

  /** The instance broke off. */
  private lost(reason: string): void {
    const { attempt, mode } = this;
    if (attempt === null) return;
    const { upstream } = attempt;
    const sent = mode !== 'connecting' && upstream.outlet.writtenBytes > attempt.writtenBefore;
    // An idle connection that the application closed at the same moment says nothing against it.
    if (!upstream.reused && !this.answer.begun) this.ports.switchboard.suspect(attempt.app, attempt.instance, reason);
    const decision = mayResend({
      method: this.head.method,
      sent,
      answered: this.answer.begun,
      bodyHeld: this.body.sentBefore !== null,
      attempts: this.attempts,
      resends: this.resends,
    });
    if (!decision.again) return this.giveUp({ status: 502, reason: `The application broke off before it answered (${reason}); ${decision.reason}.` });
    this.mode = 'waiting';
    if (!upstream.reused) attempt.app.count(502);
    this.endAttempt(false);
    if (sent) this.resends += 1;
    this.ports.switchboard.submit(this, true);
  }

  /** The client's connection is gone. */
  clientGone(): void {
    if (this.mode === 'waiting') this.ports.switchboard.leave(this);
    this.mode = 'over';
    this.endAttempt(false);
  }

  /**
   * The client has ended its side. That may be a client that still reads (RFC 9112, section 9.6) or one that has gone: an interim
   * answer, some time later, tells which, for it makes the kernel of one that has gone reset the connection.
   */
  clientEnded(): void {
    const bodyCannotCome = !this.body.done && this.mode !== 'waiting' && this.mode !== 'connecting';
    if (bodyCannotCome || this.answer.head?.eventStream === true) return this.abandon();
    this.clientEndedMs = this.ports.nowMs();
  }

  private askWhetherThere(nowMs: number): void {
    if (this.clientEndedMs === 0 || nowMs - this.clientEndedMs < limits.endedClientMs) return;
    this.clientEndedMs = nowMs;
    if (this.mode !== 'answering' && this.head.minorVersion === 1) this.client.askWhetherThere();
  }

  /** Time-outs of an exchange under way. */
  check(nowMs: number): void {
    this.askWhetherThere(nowMs);
    const { attempt } = this;
    if (attempt === null || this.mode === 'connecting') return;
    const answer = timeOut({
      quietMs: nowMs - this.activeMs,
      bodyDone: this.body.done,
      instanceTakes: !attempt.upstream.outlet.blocked,
      clientTakes: !this.client.outlet.blocked,
      awaitsContinue: this.head.expectContinue && !this.continued,
      eventStream: this.answer.head?.eventStream === true,
    });
    if (answer !== null) this.giveUp(answer);
  }

  /** Ends the attempt and, as far as the client can still be told, says why. */
  private giveUp(answer: OwnAnswer): void {
    const app = this.attempt?.app ?? null;
    const { mode } = this;
    if (mode === 'over') return;
    if (mode !== 'answering') return this.answerOurselves(answer, app);
    this.mode = 'over';
    // It broke off in the middle of its answer.
    if (!this.answer.done && answer.status >= 500) app?.count(answer.status);
    this.endAttempt(false);
    if (this.answer.done) this.client.exchangeOver(false, true);
    else this.client.cut();
  }

  private count(app: AppState | null, status: number): void {
    app?.count(status);
    this.ports.answered(app, status);
  }

  private answerOurselves(answer: OwnAnswer, app: AppState | null): void {
    this.mode = 'over';
    this.count(app, answer.status);
    const keepAlive = this.head.keepAlive && this.body.done && this.ports.keepsConnections();
    this.client.ownAnswer(answer, this.head, keepAlive);
    this.endAttempt(false);
    this.client.exchangeOver(keepAlive, true);
  }

  private finish(): void {
    this.mode = 'over';
    this.endAttempt(this.body.done && this.answer.head?.keepAlive === true && this.head.upgrade === '');
    this.client.exchangeOver(this.keepAlive && this.body.done, true);
  }

  /** The request can never become whole, or nobody reads the answer. */
  private abandon(): void {
    this.mode = 'over';
    this.endAttempt(false);
    this.client.exchangeOver(false, false);
  }

  /** Frees the place at the instance; the connection is kept for another exchange, or cut. */
  private endAttempt(reusable: boolean): void {
    const { attempt } = this;
    if (attempt === null) return;
    this.attempt = null;
    if (reusable) this.keepUpstream(attempt);
    else attempt.upstream.abort();
    this.ports.switchboard.release(attempt.app, attempt.instance);
  }

  private keepUpstream({ upstream, instance }: Attempt): void {
    const toldMs = this.answer.head?.keepAliveMs ?? 0;
    upstream.becomeIdle(this.ports.nowMs(), toldMs === 0 ? limits.upstreamIdleMs : Math.min(limits.upstreamIdleMs, toldMs - 1000));
    instance.giveBack(upstream);
  }

  private touch({ app, instance }: Attempt): void {
    this.activeMs = this.ports.nowMs();
    if (!this.quiet) this.ports.switchboard.touched(app, instance);
  }
}
