import type { Msg } from '@nats-io/transport-node';
import { Failure, codeOf, messageOf } from '../kit/errors.ts';
import { consumeStream } from './bus-consume.ts';
import type { ConsumeOptions, Delivery } from './bus-consume.ts';
import { readEntry, readOwnEntry, streamOfKey } from './bus-entries.ts';
import { openLink, toHeaders } from './bus-link.ts';
import type { BusLink } from './bus-link.ts';
import { clearObjects, dropBlob, dropObject, findObject, readBlob, readNote, readObject, removeObject, writeBlob, writeNote, writeNotedObject, writeObject } from './bus-objects.ts';
import type { FoundObject } from './bus-objects.ts';
import { watchEntries } from './bus-watch.ts';
import type { Log } from './log.ts';

/**
 * The message cluster. A connection comes back by itself, for ever; watches and consumers resume without missing a change.
 * While it is away whatever needs an answer rejects at once with Failure `bus-away`; nothing is kept to be sent later.
 * A refusal of the server is `bus-forbidden` (allow-list), `bus-nobody` (no stream, bucket or answerer) or `bus-refused`.
 */
export interface Bus {
  /** Tells the newest text of every key under the filter, then each change, with its place (as of putKv); null means deleted. Entries of one watch come one after the other. */
  watchKv(bucket: string, filter: string, onEntry: (key: string, text: string | null, place: number) => void | Promise<void>): Promise<{ ready: Promise<void>; stop(): void }>;
  /**
   * Resolves to its place in the order of all that the bucket takes in. With `after` only if what was said last of the key has that place (0: nothing
   * was), else it rejects with Failure `bus-refused`.
   */
  putKv(bucket: string, key: string, text: string, after?: number): Promise<number>;
  /** As putKv. */
  deleteKv(bucket: string, key: string, after?: number): Promise<number>;
  /** Null when the key is absent or deleted. */
  getKv(bucket: string, key: string): Promise<string | null>;
  /** The place (as of putKv) of what was said last of a key, a deletion too; null when nothing was. For a user that may read but its own keys. */
  placeOfKv(bucket: string, key: string): Promise<number | null>;
  /** With an `id`, chosen by the caller for this content, one that is there already stays, and a repeated call clears up behind one cut off. */
  putObject(bucket: string, name: string, content: ReadableStream<Uint8Array> | Uint8Array): Promise<void>;
  /** Null when absent. The stream errors when the content is cut short or its digest is another. */
  getObject(bucket: string, name: string): Promise<ReadableStream<Uint8Array> | null>;
  /** Absent is success. */
  deleteObject(bucket: string, name: string): Promise<void>;
  /** An object and what its writer says about it; null when absent. */
  findObject(bucket: string, name: string): Promise<FoundObject | null>;
  /** `id` names the content: what is there under it stays, what was cut off is replaced. For a bucket that may be written but not purged. */
  putNotedObject(bucket: string, name: string, about: { content: () => ReadableStream<Uint8Array>; id: string; note: () => Promise<string> }): Promise<void>;
  /** Removes an object that was put with that id, whole or half. Absent is success. */
  dropObject(bucket: string, name: string, id: string): Promise<void>;
  /** Removes everything in the bucket. */
  clearObjects(bucket: string): Promise<void>;
  /** What lies in a bucket under ids of the writer's choosing, described elsewhere. */
  blobs(bucket: string): Blobs;
  /** Adds to the stream that holds the subject; resolves when it is stored. The same id within two minutes is stored once. */
  append(subject: string, text: string, id: string): Promise<void>;
  /** Messages of a stream, one after the other (or `underWayMax` at once); with `durable` the place is kept and a message whose handler rejects comes again. */
  consume(stream: string, options: ConsumeOptions, onMessage: (subject: string, text: string, more: Delivery) => Promise<void>): Promise<{ stop(): void }>;
  /** At most once; false when away, then it is dropped. */
  publish(subject: string, payload: string | Uint8Array): boolean;
  subscribe(subject: string, onMessage: (subject: string, text: string) => void): { stop(): void };
  /** As subscribe, for messages that are no text. */
  subscribeBytes(subject: string, onMessage: (subject: string, bytes: Uint8Array) => void): { stop(): void };
  request(subject: string, text: string, timeoutMs: number): Promise<string>;
  /** A handler's Failure reaches the caller of `request` as that Failure. */
  reply(subject: string, handler: (text: string) => Promise<string>): { stop(): void };
  readonly up: boolean;
  /** Called at once when up, and each time the connection comes (back). */
  onUp(callback: () => void): void;
  close(): Promise<void>;
}

export interface Blobs {
  /** What was there under the id is replaced; one cut off is broken. */
  put(id: string, content: Uint8Array): Promise<void>;
  /** Failure `object-broken` when it is not there, or not what is said of it. */
  get(id: string, about: { bytes: number; digest: string }): Promise<Uint8Array>;
  /** Absent is success. */
  drop(id: string): Promise<void>;
  /** A text of less than a message (1 MiB), replaced whole or not at all; null when absent. */
  note(id: string): Promise<string | null>;
  putNote(id: string, text: string): Promise<void>;
}

const failureHeader = 'Edgepoint-Failure';

/** Resolves when connected or after a second: with the server away `up` is false until it comes. `seed` is the user's NKEY seed. */
export async function connectBus(options: { url: string; seed: string; name: string }, log: Log): Promise<Bus> {
  const link = await openLink(options, log);
  return {
    get up() {
      return link.up;
    },
    onUp: (callback) => void link.onUp(callback),
    close: () => link.close(),
    watchKv: async (bucket, filter, onEntry) => watchEntries(link, bucket, filter, onEntry),
    putKv: (bucket, key, text, after) => link.store(kvSubject(bucket, key), text, expected(after)),
    deleteKv: (bucket, key, after) => link.store(kvSubject(bucket, key), '', { 'KV-Operation': 'DEL', ...expected(after) }),
    getKv: async (bucket, key) => (await readEntry(link, streamOfKey(bucket, key), { last_by_subj: kvSubject(bucket, key) }))?.text ?? null,
    placeOfKv: async (bucket, key) => (await readOwnEntry(link, streamOfKey(bucket, key), kvSubject(bucket, key)))?.sequence ?? null,
    putObject: (bucket, name, content) => writeObject(link, bucket, name, content),
    getObject: (bucket, name) => readObject(link, bucket, name),
    deleteObject: (bucket, name) => removeObject(link, bucket, name),
    findObject: (bucket, name) => findObject(link, bucket, name),
    putNotedObject: (bucket, name, about) => writeNotedObject(link, bucket, name, about),
    dropObject: (bucket, name, id) => dropObject(link, bucket, name, id),
    clearObjects: (bucket) => clearObjects(link, bucket),
    blobs: (bucket) => ({
      put: (id, content) => writeBlob(link, bucket, id, content),
      get: (id, about) => readBlob(link, bucket, id, about),
      drop: (id) => dropBlob(link, bucket, id),
      note: (id) => readNote(link, bucket, id),
      putNote: (id, text) => writeNote(link, bucket, id, text),
    }),
    append: async (subject, text, id) => void (await link.store(subject, text, { 'Nats-Msg-Id': id })),
    consume: (stream, options, onMessage) => consumeStream(link, stream, options, onMessage),
    publish: (subject, payload) => {
      if (link.up) link.connection.publish(subject, payload);
      return link.up;
    },
    subscribeBytes: (subject, onMessage) => link.subscribe(subject, (message) => onMessage(message.subject, message.data)),
    subscribe: (subject, onMessage) => link.subscribe(subject, (message) => onMessage(message.subject, message.string())),
    request: async (subject, text, timeoutMs) => {
      const message = await link.ask(subject, text, { timeoutMs });
      const code = message.headers?.get(failureHeader) ?? '';
      if (code !== '') throw new Failure(code, message.string());
      return message.string();
    },
    reply: (subject, handler) => link.subscribe(subject, (message) => void answer(link, message, handler)),
  };
}

async function answer(link: BusLink, message: Msg, handler: (text: string) => Promise<string>): Promise<void> {
  try {
    message.respond(await handler(message.string()));
  } catch (thrown) {
    if (!(thrown instanceof Failure)) link.log.error('a request could not be answered', { subject: message.subject, error: thrown });
    message.respond(messageOf(thrown), { headers: toHeaders({ [failureHeader]: codeOf(thrown) }) });
  }
}

/** JetStream's own word for it (nats-server 2.10, `Nats-Expected-Last-Subject-Sequence`). */
function expected(after: number | undefined): Record<string, string> {
  return after === undefined ? {} : { 'Nats-Expected-Last-Subject-Sequence': `${after}` };
}

function kvSubject(bucket: string, key: string): string {
  return `$KV.${bucket}.${key}`;
}
