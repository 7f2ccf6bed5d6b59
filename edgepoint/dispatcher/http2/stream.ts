import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { ownBody, ownFields } from '../answers.ts';
import type { OwnAnswer } from '../answers.ts';
import { Exchange } from '../exchange.ts';
import type { ExchangeClient, ExchangePorts } from '../exchange-ports.ts';
import { responseFields } from '../forward.ts';
import type { ClientFacts, ResponseWay } from '../forward.ts';
import { http2Codes } from './codes.ts';
import { Outlet } from '../outlet.ts';
import type { RequestHead } from '../request-head.ts';
import type { ResponseHead } from '../response-head.ts';
import { StallWatch } from '../stall-watch.ts';

const lastChunk = Buffer.from('0\r\n\r\n');
const lineEnd = Buffer.from('\r\n');

/** What a stream needs of its connection. */
export interface StreamPorts {
  readonly facts: ClientFacts;
  readonly exchange: ExchangePorts;
  mayAsk(hostName: string): boolean;
  /** `unanswered`: the client took its request back before the answer had begun. */
  over(stream: Http2Stream, unanswered: boolean): void;
}

/**
 * One request on a connection of HTTP/2, as an exchange sees its client.
 *
 * Modes: asking -> answering -> over. answering: the head of the final answer has gone. An error of it resets this stream alone.
 */
export class Http2Stream implements ExchangeClient {
  readonly facts: ClientFacts;
  readonly frames = true;
  /** The end of a stream is the end of its request, not of its client. */
  readonly ended = false;
  readonly outlet: Outlet;
  private mode: 'asking' | 'answering' | 'over' = 'asking';
  private readonly stream: ServerHttp2Stream;
  private readonly ports: StreamPorts;
  private readonly exchange: Exchange;
  private readonly head: RequestHead;
  private readonly stall = new StallWatch();
  private input: Buffer | null = null;
  /** Body bytes that came. */
  private receivedBytes = 0;
  private taking = true;
  /** All of the answer has been given to the library. */
  private whole = false;

  constructor(stream: ServerHttp2Stream, head: RequestHead, ports: StreamPorts) {
    this.stream = stream;
    this.head = head;
    this.ports = ports;
    this.facts = ports.facts;
    this.outlet = new Outlet(() => this.exchange.clientRoom());
    this.outlet.attach({ write: (bytes) => this.write(bytes as Buffer), shutdown: () => this.endStream() });
    this.exchange = new Exchange(this, head, ports.exchange);
  }

  begin(): void {
    const { stream } = this;
    stream.on('drain', () => {
      this.taking = true;
      this.outlet.flush();
    });
    stream.once('close', () => this.gone());
    if (this.head.framing.kind !== 'none') {
      stream.on('data', (bytes: Buffer) => this.bodyCame(bytes));
      stream.once('end', () => this.bodyEnded());
    }
    this.exchange.begin();
    this.steerReading();
  }

  check(nowMs: number): void {
    if (this.mode === 'over') return;
    if (this.stall.stalls(this.outlet, nowMs)) this.reset(http2Codes.cancel);
    else this.exchange.check(nowMs);
  }

  // ---- the request ----

  private bodyCame(bytes: Buffer): void {
    if (this.mode === 'over') return;
    this.receivedBytes += bytes.length;
    const { framing } = this.head;
    if (framing.kind === 'length') {
      if (this.receivedBytes > framing.bytes) return this.malformed();
      this.take(bytes);
    } else if (bytes.length > 0) this.take(Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`, 'latin1'), bytes, lineEnd]));
  }

  private bodyEnded(): void {
    if (this.mode === 'over') return;
    const { framing } = this.head;
    if (framing.kind === 'length' && this.receivedBytes < framing.bytes) this.malformed();
    else if (framing.kind === 'chunked') this.take(lastChunk);
  }

  private take(bytes: Buffer): void {
    this.input = this.input === null ? bytes : Buffer.concat([this.input, bytes]);
    this.exchange.feed();
    this.steerReading();
  }

  private steerReading(): void {
    if (this.mode !== 'over') this.setReading(this.exchange.wantsInput(this.input?.length ?? 0));
  }

  /** The body is not as long as its head said (RFC 9113, section 8.1.1): the application never sees the end of it. */
  private malformed(): void {
    this.exchange.clientGone();
    if (this.mode === 'answering') return this.reset(http2Codes.protocolError);
    this.ports.exchange.answered(null, 400);
    this.ownAnswer({ status: 400, reason: 'The body of the request is not as long as content-length says.' }, this.head);
    this.closeWhenSent();
  }

  takeInput(): Buffer | null {
    const { input } = this;
    this.input = null;
    return input;
  }

  putBack(rest: Buffer): void {
    this.input = rest;
  }

  setReading(on: boolean): void {
    if (this.head.framing.kind === 'none' || this.mode === 'over') return;
    if (on) this.stream.resume();
    else this.stream.pause();
  }

  mayAsk(hostName: string): boolean {
    return this.ports.mayAsk(hostName);
  }

  // ---- the answer ----

  interim(head: ResponseHead): void {
    if (this.mode !== 'asking' || this.stream.destroyed || this.stream.closed) return;
    try {
      this.stream.additionalHeaders({ ':status': head.status, ...asObject(responseFields(head)) });
    } catch {
      // An interim answer may be left out (RFC 9110, section 15.2).
    }
  }

  final(head: ResponseHead, { cookie }: ResponseWay, pieces: readonly Buffer[], done: boolean): void {
    const empty = done && pieces.every(({ length }) => length === 0);
    this.respond(head.status, responseFields(head, cookie), { endStream: empty, waitForTrailers: !done });
    if (!empty) this.body(pieces, done);
  }

  body(pieces: readonly Buffer[], done: boolean): void {
    if (this.mode !== 'answering') return;
    this.outlet.writeAll(pieces);
    if (done) this.outlet.shutdown();
  }

  ownAnswer(answer: OwnAnswer, request: RequestHead): void {
    const body = ownBody(answer);
    const fields = ownFields(answer, body).map(([name, value]) => [name.toLowerCase(), value] as const);
    this.respond(answer.status, fields, { endStream: request.method === 'HEAD', waitForTrailers: false });
    if (request.method !== 'HEAD') this.body([Buffer.from(body, 'latin1')], true);
  }

  /**
   * With `waitForTrailers` the end of the stream is only sent when `wantTrailers` is answered. Answers that may still break off need
   * that: Bun's `close(code)` ends the stream before it resets it, and the client would take a broken answer for a whole one.
   */
  private respond(status: number, fields: readonly (readonly [string, string])[], options: { endStream: boolean; waitForTrailers: boolean }): void {
    const { stream } = this;
    if (this.mode !== 'asking' || stream.destroyed || stream.closed) return;
    this.mode = 'answering';
    if (options.waitForTrailers) stream.once('wantTrailers', () => this.whole && !stream.destroyed && stream.sendTrailers({}));
    try {
      stream.respond({ ':status': status, ...asObject(fields) }, { ...options, sendDate: false } as Parameters<ServerHttp2Stream['respond']>[1]);
    } catch {
      // A field that HTTP/2 does not know.
      stream.respond({ ':status': 502 }, { endStream: true });
      this.gone();
    }
  }

  /** For the outlet: all of it is taken, or none while the stream's window is full. */
  private write(bytes: Buffer): number {
    if (this.stream.destroyed || this.stream.closed) return -1;
    if (!this.taking) return 0;
    this.taking = this.stream.write(bytes);
    return bytes.length;
  }

  /** Never asked: a client of HTTP/2 that has gone takes its connection or its stream with it. */
  askWhetherThere(): void {}

  exchangeOver(_keepAlive: boolean, whole: boolean): void {
    if (!whole) return this.reset(http2Codes.cancel);
    // An answer that ended with its connection ends the stream now; for others that has been done.
    this.outlet.shutdown();
    this.closeWhenSent();
  }

  /** The rest of a request that is answered already is not wanted (RFC 9113, section 8.1). */
  private closeWhenSent(): void {
    const { stream } = this;
    if (this.head.framing.kind === 'none' || stream.readableEnded) return;
    const close = (): void => stream.close(http2Codes.noError);
    if (stream.writableFinished) close();
    else stream.once('finish', close);
  }

  private endStream(): void {
    this.whole = true;
    this.stream.end();
  }

  /** Upgrades are not taken from HTTP/2, so none is ever answered. */
  tunnelOpened(): void {
    this.cut();
  }

  close(): void {
    this.cut();
  }

  /** Only ever called once the answer has begun; before that, it says what is wrong. */
  cut(): void {
    this.reset(http2Codes.internalError);
  }

  private reset(code: number): void {
    if (this.mode === 'over') return;
    this.stream.close(code);
    this.gone();
  }

  private gone(): void {
    if (this.mode === 'over') return;
    const unanswered = this.mode === 'asking';
    this.mode = 'over';
    this.outlet.clear();
    this.exchange.clientGone();
    this.ports.over(this, unanswered);
  }
}

/** Names that come more than once have all their values. */
function asObject(fields: readonly (readonly [string, string])[]): OutgoingHttpHeaders {
  const object: Record<string, string | string[]> = {};
  for (const [name, value] of fields) {
    const known = object[name];
    if (known === undefined) object[name] = value;
    else object[name] = [...(typeof known === 'string' ? [known] : known), value];
  }
  return object;
}
