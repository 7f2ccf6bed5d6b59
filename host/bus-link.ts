import { fromSeed } from '@nats-io/nkeys';
import {
  ClosedConnectionError,
  DrainingConnectionError,
  NoRespondersError,
  PermissionViolationError,
  TimeoutError,
  connect,
  headers,
  nkeyAuthenticator,
} from '@nats-io/transport-node';
import type { Msg, MsgHdrs, NatsConnection } from '@nats-io/transport-node';
import { Failure, messageOf } from '../kit/errors.ts';
import type { Log } from './log.ts';

/** One connection to the message cluster that comes back by itself; what `host/bus.ts` is made of. */
export interface BusLink {
  readonly log: Log;
  readonly up: boolean;
  readonly connection: NatsConnection;
  onUp(callback: () => void): () => void;
  /** Called once, when this side closes. */
  onClose(callback: () => void): void;
  close(): Promise<void>;
  /** Rejects with the failures told at Bus. */
  ask(subject: string, payload: string | Uint8Array, options?: { headers?: Readonly<Record<string, string>>; timeoutMs?: number }): Promise<Msg>;
  /** As ask, for a message that a stream stores: resolves to its sequence. */
  store(subject: string, payload: string | Uint8Array, headers?: Readonly<Record<string, string>>): Promise<number>;
  subscribe(subject: string, onMessage: (message: Msg) => void): { stop(): void };
}

const askTimeoutMs = 5000;
const firstWaitMs = 1000;
const retryMsMin = 50;
const retryMsMax = 2000;

/** Resolves when connected or after a second: with the server away `up` is false until it comes. */
export async function openLink(options: { url: string; seed: string; name: string }, log: Log): Promise<BusLink> {
  const key = fromSeed(new TextEncoder().encode(options.seed.trim()));
  const inboxPrefix = `_INBOX.${key.getPublicKey()}`;
  const upCallbacks = new Set<() => void>();
  const asking = new Set<(failure: Failure) => void>();
  const toSubscribe = new Set<() => void>();
  const closeCallbacks = new Set<() => void>();
  let connection: NatsConnection | null = null;
  let up = false;
  let closing = false;
  let awaySinceMs = performance.now();
  let attempts = 0;

  const away = (): Failure => new Failure('bus-away', `the message server ${options.url} is away`, { remedy: 'It is tried again until it answers; keep what must not be lost.' });
  const cameUp = (): void => {
    up = true;
    log.info('bus is up', { url: options.url });
    for (const callback of upCallbacks) callback();
  };
  const wentDown = (): void => {
    if (up && !closing) log.warn('bus is away', { url: options.url });
    if (up) awaySinceMs = performance.now();
    up = false;
    for (const reject of asking) reject(away());
    asking.clear();
  };
  /** Half random, so that a thousand edgepoints do not come back in the same instant; asked anew in each turn of the library's loop. */
  const retryMs = (): number => {
    const goneMs = performance.now() - awaySinceMs;
    const spreadMs = Math.min(retryMsMax, Math.max(retryMsMin, goneMs / 10));
    return spreadMs / 2 + Math.random() * (spreadMs / 2);
  };
  const follow = async (open: NatsConnection): Promise<void> => {
    for await (const status of open.status()) {
      if (status.type === 'disconnect') wentDown();
      else if (status.type === 'reconnect') cameUp();
      else if (status.type === 'error') log.warn('the message server refuses', { error: messageOf(status.error) });
      else if (status.type === 'slowConsumer') log.warn('messages come faster than they are taken');
    }
    wentDown();
  };
  const begin = async (): Promise<void> => {
    while (!closing && connection === null) {
      try {
        const open = await connect({
          servers: options.url,
          name: options.name,
          authenticator: nkeyAuthenticator(new TextEncoder().encode(options.seed.trim())),
          inboxPrefix,
          maxReconnectAttempts: -1,
          reconnectDelayHandler: retryMs,
          ignoreAuthErrorAbort: true,
          timeout: 5000,
          pingInterval: 10_000,
          maxPingOut: 2,
          noAsyncTraces: true,
        });
        if (closing) return void (await open.close());
        connection = open;
        for (const subscribe of toSubscribe) subscribe();
        toSubscribe.clear();
        void follow(open);
        cameUp();
      } catch (thrown) {
        if (attempts % 100 === 0) log.warn('the message server does not answer yet', { url: options.url, error: messageOf(thrown) });
        attempts += 1;
        await new Promise((resolve) => setTimeout(resolve, retryMs()));
      }
    }
  };

  const link: BusLink = {
    log,
    get up() {
      return up;
    },
    get connection() {
      if (connection === null) throw away();
      return connection;
    },
    onUp: (callback) => {
      upCallbacks.add(callback);
      if (up) callback();
      return () => upCallbacks.delete(callback);
    },
    onClose: (callback) => void closeCallbacks.add(callback),
    close: async () => {
      closing = true;
      for (const callback of closeCallbacks) callback();
      await connection?.close();
      wentDown();
    },
    ask: (subject, payload, { headers: fields, timeoutMs = askTimeoutMs } = {}) =>
      new Promise((resolve, reject) => {
        if (connection === null || !up) return reject(away());
        asking.add(reject);
        connection
          .request(subject, payload, { timeout: timeoutMs, ...(fields === undefined ? {} : { headers: toHeaders(fields) }) })
          .then(resolve, (thrown: unknown) => reject(failureOf(thrown, subject, timeoutMs)))
          .finally(() => asking.delete(reject));
      }),
    store: async (subject, payload, fields) => {
      const message = await link.ask(subject, payload, fields === undefined ? {} : { headers: fields });
      const answer = readJson(message) as { seq?: unknown; error?: { description?: unknown; err_code?: unknown } };
      // A refusal may carry a sequence of 0.
      if (answer.error === undefined && typeof answer.seq === 'number') return answer.seq;
      throw new Failure('bus-refused', `the message server does not store ${subject}: ${String(answer.error?.description ?? 'it says nothing of a stream')}`);
    },
    subscribe: (subject, onMessage) => {
      let stopped = false;
      let stop = (): void => {
        stopped = true;
      };
      const begin = (): void => {
        if (stopped || connection === null) return;
        const subscription = connection.subscribe(subject, {
          callback: (error, message) => {
            if (error !== null) return log.error('a subscription is refused', { subject, error: messageOf(error) });
            onMessage(message);
          },
        });
        stop = () => subscription.unsubscribe();
      };
      if (connection === null) toSubscribe.add(begin);
      else begin();
      return { stop: () => stop() };
    },
  };

  void begin();
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, firstWaitMs);
    const forget = link.onUp(() => {
      clearTimeout(timer);
      resolve();
      queueMicrotask(() => forget());
    });
  });
  return link;
}

/** A JetStream answer's body; an empty object when it is not JSON. */
export function readJson(message: Msg): unknown {
  try {
    return JSON.parse(message.string());
  } catch {
    return {};
  }
}

export function toHeaders(fields: Readonly<Record<string, string>>): MsgHdrs {
  const made = headers();
  for (const [name, value] of Object.entries(fields)) made.set(name, value);
  return made;
}

function failureOf(thrown: unknown, subject: string, timeoutMs: number): Failure {
  /** The library's own error, or the one it wraps. */
  const errors = [thrown, thrown instanceof Error ? thrown.cause : null];
  const is = (...kinds: readonly (abstract new (...given: never[]) => Error)[]): boolean => errors.some((error) => kinds.some((kind) => error instanceof kind));
  if (is(PermissionViolationError)) return new Failure('bus-forbidden', `this user may not speak on ${subject}`, { cause: thrown });
  if (is(NoRespondersError)) {
    return new Failure('bus-nobody', `nobody answers on ${subject}`, { cause: thrown, remedy: 'Its stream, bucket or daemon is not there yet.' });
  }
  if (is(TimeoutError)) return new Failure('bus-slow', `no answer on ${subject} within ${timeoutMs} ms`, { cause: thrown });
  if (is(ClosedConnectionError, DrainingConnectionError)) return new Failure('bus-away', 'the connection to the message server is closed', { cause: thrown });
  return new Failure('bus-refused', `${subject}: ${messageOf(thrown)}`, { cause: thrown });
}
