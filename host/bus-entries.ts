import type { Msg } from '@nats-io/transport-node';
import { Failure } from '../kit/errors.ts';
import { buckets, certificateStream, desiredStream, queueStream } from '../kit/wire/subjects.ts';
import type { BusLink } from './bus-link.ts';

/** One message of a bucket's stream. */
export interface StoredEntry {
  readonly subject: string;
  readonly sequence: number;
  /** Null when it says that the key is deleted. */
  readonly text: string | null;
  readonly bytes: Uint8Array;
}

/** Buckets of which each edgepoint's part is a stream of its own. */
const divided = new Map([
  [buckets.desired as string, desiredStream],
  [buckets.certificates, certificateStream],
  [buckets.queues, queueStream],
]);

/** The stream that holds a key, or all keys under a filter. */
export function streamOfKey(bucket: string, keyOrFilter: string): string {
  const streamOf = divided.get(bucket);
  if (streamOf === undefined) return `KV_${bucket}`;
  const [zone = '*', edgepoint = '*'] = keyOrFilter.split('.');
  if (/[*>]/.test(zone + edgepoint)) {
    throw new Failure('bus-filter', `the bucket ${bucket} is divided by edgepoint: ${JSON.stringify(keyOrFilter)} does not begin with a zone and an edgepoint`);
  }
  return streamOf({ zone, edgepoint });
}

/** A question to one stream: the newest message of a subject, or the first at or after a sequence under a filter. */
export type EntryQuestion = { readonly last_by_subj: string } | { readonly seq: number; readonly next_by_subj: string };

/**
 * Asks the stream directly (JetStream direct get), which makes nothing in the server: a user may be given exactly the streams
 * it can ask, and no consumer whose deliveries it could point elsewhere. Null when there is no such message.
 */
export async function readEntry(link: BusLink, stream: string, question: EntryQuestion): Promise<StoredEntry | null> {
  return entryOf(stream, await link.ask(`$JS.API.DIRECT.GET.${stream}`, JSON.stringify(question)));
}

/** As readEntry, for the newest message of one subject, which stands in the question's own subject: so an allow-list can say which. */
export async function readOwnEntry(link: BusLink, stream: string, subject: string): Promise<StoredEntry | null> {
  return entryOf(stream, await link.ask(`$JS.API.DIRECT.GET.${stream}.${subject}`, ''));
}

function entryOf(stream: string, message: Msg): StoredEntry | null {
  const fields = message.headers;
  if (fields?.code === 404) return null;
  const sequence = Number(fields?.get('Nats-Sequence') ?? '');
  if (fields === undefined || fields.code >= 400 || !(sequence > 0)) {
    throw new Failure('bus-refused', `the stream ${stream} does not answer a direct question: ${fields?.description ?? 'no headers'}`);
  }
  return { subject: fields.get('Nats-Subject'), sequence, text: textOf(fields.get('KV-Operation'), message.data), bytes: message.data };
}

/** What an entry says: an operation other than a put deletes the key. */
export function textOf(operation: string, bytes: Uint8Array): string | null {
  return operation === 'DEL' || operation === 'PURGE' ? null : new TextDecoder().decode(bytes);
}
