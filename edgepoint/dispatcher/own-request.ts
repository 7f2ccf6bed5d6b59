import type { TaskAnswer, TaskOrder } from '../model/calls.ts';
import type { OwnAnswer } from './answers.ts';
import { Exchange } from './exchange.ts';
import type { ExchangeClient, ExchangePorts } from './exchange-ports.ts';
import type { ClientFacts } from './forward.ts';
import { Outlet } from './outlet.ts';
import { readRequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';

/** The edgepoint itself asks; `https`, so that nobody sends it elsewhere. */
class TaskFacts implements ClientFacts {
  readonly address = '127.0.0.1';
  readonly scheme = 'https';
  readonly task: ClientFacts['task'];

  constructor({ schedule, dueWallMs }: TaskOrder) {
    this.task = { schedule, due: new Date(dueWallMs).toISOString() };
  }

  endpoints(): ReturnType<ClientFacts['endpoints']> {
    return { source: { address: this.address, port: 0 }, destination: { address: this.address, port: 0 } };
  }
}

/**
 * A request that no end user makes: that of a manifest's `cron`. It is held, wakes the app, is counted and billed as any other; of
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
  private readonly beganMs: number;
  private readonly ports: ExchangePorts;
  private readonly over: (request: OwnRequest, answer: TaskAnswer) => void;
  private mode: 'asking' | 'answering' | 'over' = 'asking';
  private status = 0;
  private reason = '';

  constructor(order: TaskOrder, ports: ExchangePorts, over: (request: OwnRequest, answer: TaskAnswer) => void) {
    this.ports = ports;
    this.over = over;
    this.beganMs = ports.nowMs();
    this.facts = new TaskFacts(order);
    this.outlet = new Outlet(() => undefined);
    this.outlet.attach({ write: (bytes) => (bytes as Buffer).length, shutdown: () => undefined });
    const length = order.method === 'GET' ? '' : 'Content-Length: 0\r\n';
    const read = readRequestHead(Buffer.from(`${order.method} ${order.path} HTTP/1.1\r\nHost: ${order.host}\r\nUser-Agent: edgepoint-cron\r\n${length}\r\n`, 'latin1'));
    this.exchange = read.kind === 'complete' ? new Exchange(this, read.head, ports) : null;
    if (read.kind === 'refused') this.reason = read.refusal.reason;
  }

  begin(): void {
    if (this.exchange === null) this.end(400, this.reason);
    else this.exchange.begin();
  }

  // ---- what its exchange says ----

  takeInput(): null {
    return null;
  }

  putBack(): void {}

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
