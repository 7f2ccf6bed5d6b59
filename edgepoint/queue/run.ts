import { codeOf, messageOf } from '../../kit/errors.ts';
import { queueMessageMessage } from '../../kit/wire/queue.ts';
import type { QueueMessage } from '../../kit/wire/queue.ts';
import { queuePlaceOf } from '../../kit/wire/subjects.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { MessageOrder, TaskAnswer } from '../model/calls.ts';
import type { Tell } from '../model/happening.ts';
import { atOnce, judgeAttempt, planQueue } from './plan.ts';
import type { MessageView } from './plan.ts';

export interface QueuePorts {
  wallMs(): number;
  /** Calls back once after so many milliseconds; the returned function forgets it. */
  wakeIn(ms: number, callback: () => void): () => void;
  /** The release of an app (`ownerKey`) that serves, or null. */
  serving(app: string): ReleaseOrder | null;
  /** Why an app is not served though a release of it serves, as at its spending cap; empty when it is. */
  stopped(app: string): string;
  /** The local dispatcher's part. */
  ask(order: MessageOrder): Promise<TaskAnswer>;
  /** Of the bucket: what is written over what has that place, and the new place. Rejects when something else stands there, or the bus is away. */
  put(key: string, text: string, after: number): Promise<number>;
  drop(key: string, after: number): Promise<number>;
  readonly tell: Tell;
  warn(text: string, fields: Record<string, unknown>): void;
}

/** Its `id` is its key in the bucket; its own is in what the provider sent. */
interface Message extends MessageView {
  state: MessageView['state'];
  notBeforeWallMs: number;
  attempts: number;
  /** Of what the bus has of it. */
  place: number;
  readonly content: QueueMessage;
}

interface Queue {
  readonly app: string;
  readonly name: string;
  readonly messages: Map<string, Message>;
  /** Forgets the timer; null: there is none. */
  cancel: (() => void) | null;
}

/** After a bus or a dispatcher that was away; no attempt of the message. */
const retryMs = 1000;
/** Of an app that is stopped, which no attempt of a message is for. */
const stoppedMs = 2000;

/**
 * Delivers messages that wait for the apps of this edgepoint, each as a request that wakes its app. The bus holds them: a head that is killed
 * reads them again, and what was under way is delivered once more. Remembers only queues with messages.
 */
export class Queues {
  private readonly ports: QueuePorts;
  private readonly queues = new Map<string, Queue>();
  private readonly underWay = new Map<string, number>();
  private all = 0;
  private stopped = false;

  constructor(ports: QueuePorts) {
    this.ports = ports;
  }

  stop(): void {
    this.stopped = true;
    for (const queue of this.queues.values()) queue.cancel?.();
  }

  /** What stands at a key of the bucket now; null: nothing. */
  take(key: string, text: string | null, place: number): void {
    const at = queuePlaceOf(key);
    if (at === null) return;
    const name = `${at.app} ${at.queue}`;
    const queue = this.queues.get(name);
    const parsed = text === null ? null : parseMessage(queueMessageMessage, text);
    if (parsed !== null && !parsed.ok) this.ports.warn('a message in a queue cannot be understood', { key, reason: parsed.reason });
    const content = parsed?.ok === true ? parsed.value : null;
    const known = queue?.messages.get(key);
    // Our own words, come back.
    if (known !== undefined && content !== null && known.place >= place) return;
    queue?.messages.delete(key);
    if (content === null) return queue === undefined ? undefined : this.look(name, queue);
    const into = queue ?? { app: at.app, name: at.queue, messages: new Map<string, Message>(), cancel: null };
    this.queues.set(name, into);
    const { sentWallMs, notBeforeWallMs, attempts, dead } = content;
    into.messages.set(key, { id: key, sentWallMs, notBeforeWallMs, attempts, place, content, state: dead ? 'dead' : 'waits' });
    this.look(name, into);
  }

  /** Another release of an app serves: it may have other queues. */
  serves(app: string): void {
    if (this.queues.size === 0) return;
    for (const [name, queue] of this.queues) if (queue.app === app) this.look(name, queue);
  }

  private look(name: string, queue: Queue): void {
    queue.cancel?.();
    queue.cancel = null;
    if (queue.messages.size === 0) this.queues.delete(name);
    const order = this.ports.serving(queue.app);
    // Orders that were stored before there were any have none.
    const wish = order?.manifest.queue?.find((one) => one.name === queue.name);
    if (this.stopped || order === null || wish === undefined || queue.messages.size === 0) return;
    const { provider } = order.owner;
    const room = Math.min(atOnce.provider - (this.underWay.get(provider) ?? 0), atOnce.all - this.all);
    const nowWallMs = this.ports.wallMs();
    const plan = planQueue(queue.messages.values(), { concurrency: wish.concurrency, room, nowWallMs });
    if (this.ports.stopped(queue.app) !== '') {
      if (plan.deliver.length > 0 || plan.lookAgainWallMs !== null) queue.cancel = this.ports.wakeIn(stoppedMs, () => this.look(name, queue));
      return;
    }
    for (const id of plan.deliver) {
      const message = queue.messages.get(id);
      if (message !== undefined) void this.deliver(queue, message, order, wish);
    }
    if (plan.lookAgainWallMs !== null) queue.cancel = this.ports.wakeIn(Math.max(0, plan.lookAgainWallMs - nowWallMs), () => this.look(name, queue));
  }

  private async deliver(queue: Queue, message: Message, order: ReleaseOrder, wish: ReleaseOrder['manifest']['queue'][number]): Promise<void> {
    const { provider } = order.owner;
    message.state = 'under way';
    this.count(provider, 1);
    try {
      const { content } = message;
      const attempt = message.attempts + 1;
      const answer = await this.ports.ask({ host: order.hosts[0] ?? '', path: wish.path, queue: queue.name, id: content.id, attempt, contentType: content.contentType, bodyBase64: content.bodyBase64 });
      message.attempts = attempt;
      await this.settle(queue, message, order, wish, answer);
    } catch (failure) {
      // The local dispatcher was not there: the app was perhaps not asked, and is asked again.
      this.ports.warn('a message could not be delivered', { key: message.id, reason: messageOf(failure) });
      message.state = 'waits';
      message.notBeforeWallMs = this.ports.wallMs() + retryMs;
    } finally {
      this.count(provider, -1);
      for (const [name, each] of this.queues) this.look(name, each);
    }
  }

  private async settle(queue: Queue, message: Message, order: ReleaseOrder, wish: ReleaseOrder['manifest']['queue'][number], answer: TaskAnswer): Promise<void> {
    const { attempts } = message;
    const outcome = judgeAttempt(answer, { attempts, attemptsMax: wish.attempts, backoffSeconds: wish.backoffSeconds, nowWallMs: this.ports.wallMs() });
    if (outcome.kind === 'taken') {
      message.state = 'taken';
      return this.drop(queue, message);
    }
    const dead = outcome.kind === 'dead';
    message.state = dead ? 'dead' : 'waits';
    message.notBeforeWallMs = dead ? 0 : outcome.notBeforeWallMs;
    const text = encodeMessage(queueMessageMessage, { ...message.content, attempts, notBeforeWallMs: message.notBeforeWallMs, reason: outcome.reason, dead });
    if (dead) {
      const { owner, release } = order;
      this.ports.tell({ owner, release, kind: 'fault', code: 'message-dead', text: `Message ${message.content.id} of the queue ${queue.name} was tried ${attempts} times and is put aside: ${outcome.reason}.` });
    }
    try {
      message.place = await this.ports.put(message.id, text, message.place);
    } catch (failure) {
      // It is known here; a head that begins anew tries it once more than it was.
      this.ports.warn('that a message was tried could not be written down', { key: message.id, reason: messageOf(failure) });
    }
  }

  /** Until the bus knows; a message that is there no longer is known by the news of it. */
  private async drop(queue: Queue, message: Message): Promise<void> {
    while (!this.stopped && queue.messages.get(message.id) === message) {
      try {
        await this.ports.drop(message.id, message.place);
        if (queue.messages.get(message.id) === message) queue.messages.delete(message.id);
        return;
      } catch (failure) {
        if (codeOf(failure) !== 'bus-away') this.ports.warn('that a message was taken could not be written down yet', { key: message.id, reason: messageOf(failure) });
        await new Promise<void>((resolve) => void this.ports.wakeIn(retryMs, resolve));
      }
    }
  }

  private count(provider: string, by: 1 | -1): void {
    this.all += by;
    const count = (this.underWay.get(provider) ?? 0) + by;
    if (count === 0) this.underWay.delete(provider);
    else this.underWay.set(provider, count);
  }
}
