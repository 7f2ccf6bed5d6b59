import type { MessageOrder, TaskAnswer, TaskOrder } from '../model/calls.ts';
import type { OwnAnswer } from './answers.ts';
import { Exchange } from './exchange.ts';
import type { ExchangeClient, ExchangePorts } from './exchange-ports.ts';
import type { ClientFacts } from './forward.ts';
import { Outlet } from './outlet.ts';
import { readRequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';

const isMessage = (order: TaskOrder | MessageOrder): order is MessageOrder => 'queue' in order;

function headOf(order: TaskOrder | MessageOrder, bodyBytes: number): string {
  const method = isMessage(order) ? 'POST' : order.method;
  const agent = isMessage(order) ? 'edgepoint-queue' : 'edgepoint-cron';
  const length = method === 'GET' ? '' : `Content-Length: ${bodyBytes}\r\n`;
  const type = isMessage(order) ? `Content-Type: ${order.contentType}\r\n` : '';
  return `${method} ${order.path} HTTP/1.1\r\nHost: ${order.host}\r\nUser-Agent: ${agent}\r\n${type}${length}\r\n`;
}

/** The edgepoint itself asks; `https`, so that nobody sends it elsewhere. */
class TaskFacts implements ClientFacts {
  readonly address = '127.0.0.1';
  readonly scheme = 'https';
  readonly task: ClientFacts['task'];

  constructor(order: TaskOrder | MessageOrder) {
    this.task = isMessage(order)
      ? [['Edgepoint-Queue', order.queue], ['Edgepoint-Message', order.id], ['Edgepoint-Attempt', `${order.attempt}`]]
      : [['Edgepoint-Cron', order.schedule], ['Edgepoint-Cron-Due', new Date(order.dueWallMs).toISOString()]];
  }

  endpoints(): ReturnType<ClientFacts['endpoints']> {
    return { source: { address: this.address, port: 0 }, destination: { address: this.address, port: 0 } };
  }
}

/**
 * A request that no end user makes: that of a manifest's `cron`, or a message of one of its queues. It is held, wakes the app, is counted and billed as any other; of
 * the answer only its status is kept.
 *
 * Modes: asking -> answering -> over. answering: the status is known.
 */
export class OwnRequest implements ExchangeClient {
  readonly facts: ClientFacts;
  readonly frames = true;
  readonly ended = false;
  readonly isTunnel = false;
  readonly outlet: Outlet;
  private readonly exchange: Exchange | null;
  /** What its exchange has not taken yet. */
  private input: Buffer | null;
  private readonly beganMs: number;
  private readonly ports: ExchangePorts;
  private readonly over: (request: OwnRequest, answer: TaskAnswer) => void;
  private mode: 'asking' | 'answering' | 'over' = 'asking';
  private status = 0;
  private reason = '';

  constructor(order: TaskOrder | MessageOrder, ports: ExchangePorts, over: (request: OwnRequest, answer: TaskAnswer) => void) {
    this.ports = ports;
    this.over = over;
    this.beganMs = ports.nowMs();
    this.facts = new TaskFacts(order);
    this.outlet = new Outlet(() => undefined);
    this.outlet.attach({ write: (bytes) => (bytes as Buffer).length, shutdown: () => undefined });
    const body = isMessage(order) ? Buffer.from(order.bodyBase64, 'base64') : Buffer.alloc(0);
    this.input = body.length === 0 ? null : body;
    const read = readRequestHead(Buffer.from(headOf(order, body.length), 'latin1'));
    this.exchange = read.kind === 'complete' ? new Exchange(this, read.head, ports) : null;
    if (read.kind === 'refused') this.reason = read.refusal.reason;
  }

  begin(): void {
    if (this.exchange === null) this.end(400, this.reason);
    else this.exchange.begin();
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

  setReading(): void {}

  mayAsk(): boolean {
    return true;
  }

  interim(): void {}

  final(head: ResponseHead): void {
    this.mode = 'answering';
    this.status = head.status;
  }

  body(): void {}

  ownAnswer(answer: OwnAnswer): void {
    this.mode = 'answering';
    this.status = answer.status;
    this.reason = answer.reason;
  }

  askWhetherThere(): void {}

  exchangeOver(_keepAlive: boolean, whole: boolean): void {
    if (whole) this.end(this.status, this.reason);
    else this.end(this.status, 'the answer broke off');
  }

  /** Never: it asks for no upgrade. */
  tunnelOpened(): void {}

  cut(): void {
    if (this.mode === 'over') return;
    const reason = this.mode === 'answering' ? 'the answer broke off' : 'the local dispatcher broke it off';
    this.mode = 'over';
    this.exchange?.clientGone();
    this.over(this, { status: this.status, reason, tookMs: this.ports.nowMs() - this.beganMs });
  }

  close(): void {
    this.cut();
  }

  private end(status: number, reason: string): void {
    if (this.mode === 'over') return;
    this.mode = 'over';
    this.over(this, { status, reason, tookMs: this.ports.nowMs() - this.beganMs });
  }

  // ---- what the shared address says ----

  check(nowMs: number): void {
    if (this.mode !== 'over') this.exchange?.check(nowMs);
  }

  /** It ends by itself. */
  stop(): void {}
}
