import { randomBytes } from 'node:crypto';
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { ConsumerMessages, JsMsg } from '@nats-io/jetstream';
import { codeOf, messageOf } from '../kit/errors.ts';
import { newId } from '../kit/ids.ts';
import type { BusLink } from './bus-link.ts';

export interface ConsumeOptions {
  /** The name under which the server keeps the place; without, each consume begins as `from` says. */
  readonly durable?: string;
  readonly filter?: string;
  /** Default `new`; a durable begins so only when it is made. */
  readonly from?: 'new' | 'all' | 'last-per-subject';
  /** Handlers under way at once, for one that gathers messages into batches; default 1: one after the other. */
  readonly underWayMax?: number;
  /** A message that was neither acknowledged nor refused (its handler's process died) comes again after this; default 30 s. */
  readonly redeliverAfterMs?: number;
}

export interface Delivery {
  /** Messages that were stored after this one when it was sent; 0 means that it was the last. */
  readonly pending: number;
}

const firsts = { new: DeliverPolicy.New, all: DeliverPolicy.All, 'last-per-subject': DeliverPolicy.LastPerSubject } as const;
const retryMs = 500;
const awayMs = 50;
/** A server that has just come back may leave a first question unanswered. */
const askTimeoutMs = 2000;
const redeliverMs = 1000;
/** Messages fetched ahead of the handler. */
const aheadMax = 256;

/** Consumes until stopped; begins when the server and the stream are there, and goes on after each loss of the connection. */
export async function consumeStream(
  link: BusLink,
  stream: string,
  options: ConsumeOptions,
  onMessage: (subject: string, text: string, more: Delivery) => Promise<void>,
): Promise<{ stop(): void }> {
  let stopped = false;
  let messages: ConsumerMessages | null = null;
  let forgetUp: () => void = () => {};
  const settle = (message: JsMsg, taken: boolean): void => {
    // On a closed connection nothing can be said: the message comes again by itself.
    if (options.durable === undefined || link.connection.isClosed()) return;
    if (taken) message.ack();
    else message.nak(redeliverMs);
  };
  const take = async (message: JsMsg): Promise<void> => {
    let taken = false;
    try {
      await onMessage(message.subject, message.string(), { pending: message.info.pending });
      taken = true;
    } catch (error) {
      link.log.error('a message could not be taken', { stream, subject: message.subject, error });
    }
    settle(message, taken);
  };
  /** Where a follower without a place in the server goes on: the stream's sequence it has seen last. */
  let seen: number | null = null;
  const run = async (sayBegun: () => void): Promise<void> => {
    while (!stopped) {
      try {
        const opened = options.durable === undefined ? await openFollower(link, stream, options, seen) : await openDurable(link, stream, options.durable, options);
        messages = opened.messages;
        seen ??= opened.before;
        sayBegun();
        if (stopped) {
          opened.forget();
          break;
        }
        let deliveries = 0;
        const underWay = new Set<Promise<void>>();
        for await (const message of messages) {
          deliveries += 1;
          // One was lost on the way to a follower: begin again after the last one seen.
          if (options.durable === undefined && message.info.deliverySequence !== deliveries) break;
          seen = message.info.streamSequence;
          const taking: Promise<void> = take(message).finally(() => underWay.delete(taking));
          underWay.add(taking);
          if (underWay.size >= (options.underWayMax ?? 1)) await Promise.race(underWay);
        }
        opened.forget();
      } catch (thrown) {
        if (codeOf(thrown) !== 'bus-away') link.log.debug('a stream cannot be consumed yet', { stream, error: messageOf(thrown) });
      }
      sayBegun();
      if (!stopped) await new Promise((resolve) => setTimeout(resolve, link.up ? retryMs : awayMs));
    }
    void messages?.close();
  };
  await new Promise<void>((begun) => void run(begun));
  const stop = (): void => {
    stopped = true;
    forgetUp();
    void messages?.close();
  };
  link.onClose(stop);
  // The server may have forgotten a follower while the connection was away, so each new connection makes another.
  // The callback also comes at once when the connection is up: that one is no new connection.
  let isNew = !link.up;
  if (options.durable === undefined) {
    forgetUp = link.onUp(() => {
      if (isNew) void messages?.close();
      isNew = true;
    });
  }
  return { stop };
}

interface Opened {
  readonly messages: ConsumerMessages;
  /** The stream's sequence before the first message to come. */
  readonly before: number;
  /** Removes what only this opening needed; the server would do so by itself after a minute. */
  forget(): void;
}

async function openFollower(link: BusLink, stream: string, options: ConsumeOptions, seen: number | null): Promise<Opened> {
  const begin = seen === null ? { deliver_policy: firsts[options.from ?? 'new'] } : { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: seen + 1 };
  const manager = await jetstreamManager(link.connection, { checkAPI: false, timeout: askTimeoutMs });
  const made = await manager.consumers.add(stream, {
    ...begin,
    name: newId('follow', randomBytes),
    ack_policy: AckPolicy.None,
    mem_storage: true,
    inactive_threshold: 60_000_000_000,
    // The newest of each subject is only asked for with a filter.
    filter_subject: options.filter ?? '>',
  });
  const consumer = await jetstream(link.connection, { timeout: askTimeoutMs }).consumers.get(stream, made.name);
  const all = options.from === 'all' || options.from === 'last-per-subject';
  const forget = (): void => {
    if (!link.up) return;
    manager.consumers.delete(stream, made.name).catch((error: unknown) => link.log.debug('a follower is left to the server to remove', { stream, error: messageOf(error) }));
  };
  return { messages: await consumer.consume({ max_messages: aheadMax }), before: seen ?? (all ? 0 : made.delivered.stream_seq), forget };
}

async function openDurable(link: BusLink, stream: string, durable: string, options: ConsumeOptions): Promise<Opened> {
  const manager = await jetstreamManager(link.connection, { checkAPI: false, timeout: askTimeoutMs });
  const made = await manager.consumers.add(stream, {
    durable_name: durable,
    deliver_policy: firsts[options.from ?? 'new'],
    ack_policy: AckPolicy.Explicit,
    max_ack_pending: aheadMax * 4,
    ack_wait: (options.redeliverAfterMs ?? 30_000) * 1_000_000,
    ...(options.filter === undefined ? {} : { filter_subject: options.filter }),
  });
  const consumer = await jetstream(link.connection, { timeout: askTimeoutMs }).consumers.get(stream, durable);
  return { messages: await consumer.consume({ max_messages: aheadMax }), before: made.delivered.stream_seq, forget: () => {} };
}
