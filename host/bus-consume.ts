import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { ConsumerMessages, JsMsg } from '@nats-io/jetstream';
import { codeOf, messageOf } from '../kit/errors.ts';
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
  const run = async (sayBegun: () => void): Promise<void> => {
    while (!stopped) {
      try {
        messages = await openConsumer(link, stream, options);
        sayBegun();
        if (stopped) break;
        const underWay = new Set<Promise<void>>();
        for await (const message of messages) {
          const taking: Promise<void> = take(message).finally(() => underWay.delete(taking));
          underWay.add(taking);
          if (underWay.size >= (options.underWayMax ?? 1)) await Promise.race(underWay);
        }
      } catch (thrown) {
        if (codeOf(thrown) !== 'bus-away') link.log.debug('a stream cannot be consumed yet', { stream, error: messageOf(thrown) });
      }
      sayBegun();
      if (!stopped) await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
    void messages?.close();
  };
  await new Promise<void>((begun) => void run(begun));
  const stop = (): void => {
    stopped = true;
    void messages?.close();
  };
  link.onClose(stop);
  return { stop };
}

async function openConsumer(link: BusLink, stream: string, options: ConsumeOptions): Promise<ConsumerMessages> {
  const first = firsts[options.from ?? 'new'];
  const js = jetstream(link.connection);
  if (options.durable === undefined) {
    const ordered = await js.consumers.get(stream, { deliver_policy: first, ...(options.filter === undefined ? {} : { filter_subjects: options.filter }) });
    return ordered.consume({ max_messages: aheadMax });
  }
  const manager = await jetstreamManager(link.connection, { checkAPI: false });
  await manager.consumers.add(stream, {
    durable_name: options.durable,
    deliver_policy: first,
    ack_policy: AckPolicy.Explicit,
    max_ack_pending: aheadMax * 4,
    ack_wait: (options.redeliverAfterMs ?? 30_000) * 1_000_000,
    ...(options.filter === undefined ? {} : { filter_subject: options.filter }),
  });
  return (await js.consumers.get(stream, options.durable)).consume({ max_messages: aheadMax });
}
