import { createHash, randomBytes } from 'node:crypto';
import { Failure } from '../kit/errors.ts';
import { newId } from '../kit/ids.ts';
import type { BusLink } from './bus-link.ts';
import { readEntry } from './bus-entries.ts';

/**
 * Objects in the form of the NATS object store (the server's ADR-20): chunks on `$O.<bucket>.C.<id>`, their description on
 * `$O.<bucket>.M.<name in base64url>`. They are read by direct questions and not, as the client library does, by a consumer: the right
 * to make one would also be the right to have its messages delivered on any subject of the account.
 */

const chunkBytes = 128 * 1024;
/** Chunks under way at once, so that a far server's distance is not paid for each. */
const chunksAhead = 8;

interface Description {
  readonly name: string;
  readonly bucket: string;
  readonly nuid: string;
  readonly size: number;
  readonly chunks: number;
  readonly digest: string;
  readonly deleted?: boolean;
  readonly mtime?: string;
  /** What the writer says about it (`description` in the server's form). */
  readonly description?: string;
  readonly options?: { readonly max_chunk_size: number };
}

const streamOf = (bucket: string): string => `OBJ_${bucket}`;
const chunkSubject = (bucket: string, nuid: string): string => `$O.${bucket}.C.${nuid}`;
const nameSubject = (bucket: string, name: string): string => {
  const encoded = Buffer.from(name).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
  return `$O.${bucket}.M.${encoded}`;
};
const replaceEarlier = { 'Nats-Rollup': 'sub' };

async function describe(link: BusLink, bucket: string, name: string): Promise<Description | null> {
  const entry = await readEntry(link, streamOf(bucket), { last_by_subj: nameSubject(bucket, name) });
  if (entry?.text === null || entry === null) return null;
  return JSON.parse(entry.text) as Description;
}

async function removeChunks(link: BusLink, bucket: string, nuid: string): Promise<void> {
  await link.ask(`$JS.API.STREAM.PURGE.${streamOf(bucket)}`, JSON.stringify({ filter: chunkSubject(bucket, nuid) }));
}

export async function writeObject(link: BusLink, bucket: string, name: string, content: ReadableStream<Uint8Array> | Uint8Array): Promise<void> {
  const before = await describe(link, bucket, name);
  const nuid = newId('object', randomBytes).slice('object-'.length);
  try {
    const description = await storeChunks(link, { bucket, name, nuid, content });
    await link.store(nameSubject(bucket, name), JSON.stringify(description), replaceEarlier);
  } catch (thrown) {
    await removeChunks(link, bucket, nuid).catch((error: unknown) => link.log.warn('chunks of a broken upload stay', { bucket, name, error }));
    throw thrown;
  }
  if (before !== null && before.nuid !== '') await removeChunks(link, bucket, before.nuid);
}

/** Stores the chunks one after the other; the first takes the place of whatever was stored under that id before. */
async function storeChunks(
  link: BusLink,
  { bucket, name, nuid, content }: { bucket: string; name: string; nuid: string; content: ReadableStream<Uint8Array> | Uint8Array },
): Promise<Description> {
  const hash = createHash('sha256');
  let size = 0;
  let chunks = 0;
  const underWay = new Set<Promise<number>>();
  for await (const chunk of inChunks(content)) {
    hash.update(chunk);
    size += chunk.length;
    const sent = link.store(chunkSubject(bucket, nuid), chunk, chunks === 0 ? replaceEarlier : {}).finally(() => underWay.delete(sent));
    chunks += 1;
    underWay.add(sent);
    sent.catch(() => {}); // Its failure is met below, where it is awaited.
    if (underWay.size >= chunksAhead) await Promise.race(underWay);
  }
  await Promise.all(underWay);
  return {
    name,
    bucket,
    nuid,
    size,
    chunks,
    digest: `SHA-256=${hash.digest('base64').replaceAll('+', '-').replaceAll('/', '_')}`,
    deleted: false,
    mtime: new Date().toISOString(),
    options: { max_chunk_size: chunkBytes },
  };
}

export async function removeObject(link: BusLink, bucket: string, name: string): Promise<void> {
  const before = await describe(link, bucket, name);
  if (before === null || before.deleted === true) return;
  const marker: Description = { ...before, size: 0, chunks: 0, digest: '', deleted: true };
  await link.store(nameSubject(bucket, name), JSON.stringify(marker), replaceEarlier);
  await removeChunks(link, bucket, before.nuid);
}

export async function readObject(link: BusLink, bucket: string, name: string): Promise<ReadableStream<Uint8Array> | null> {
  const description = await describe(link, bucket, name);
  return description === null || description.deleted === true ? null : openChunks(link, bucket, description);
}

function openChunks(link: BusLink, bucket: string, description: Description): ReadableStream<Uint8Array> {
  const chunks = readChunks(link, description, bucket);
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      const { done, value } = await chunks.next();
      if (done === true) controller.close();
      else controller.enqueue(value);
    },
    cancel: async () => {
      await chunks.return();
    },
  });
}

async function* readChunks(link: BusLink, description: Description, bucket: string): AsyncGenerator<Uint8Array, void, void> {
  const hash = createHash('sha256');
  const filter = chunkSubject(bucket, description.nuid);
  let left = description.size;
  for (let from = 1, ahead = 1; left > 0; ahead = chunksAhead) {
    // The first at or after each of the next sequences: together they hold every chunk of that stretch, some of them twice.
    const questions = Array.from({ length: ahead }, (_, place) => readEntry(link, streamOf(bucket), { seq: from + place, next_by_subj: filter }));
    const found = new Map((await Promise.all(questions)).flatMap((entry) => (entry === null ? [] : [[entry.sequence, entry.bytes] as const])));
    if (found.size === 0) throw new Failure('object-broken', `the object ${description.name} lacks ${left} of its ${description.size} bytes`);
    for (const [sequence, bytes] of [...found].toSorted(([one], [other]) => one - other)) {
      hash.update(bytes);
      left -= bytes.length;
      from = sequence + 1;
      yield bytes;
    }
  }
  const digest = `SHA-256=${hash.digest('base64').replaceAll('+', '-').replaceAll('/', '_')}`;
  if (left < 0 || digest !== description.digest) throw new Failure('object-broken', `the object ${description.name} is not what was stored`);
}

/** The same bytes in pieces of chunkBytes, the last one shorter. */
async function* inChunks(content: ReadableStream<Uint8Array> | Uint8Array): AsyncGenerator<Uint8Array> {
  if (content instanceof Uint8Array) {
    for (let from = 0; from < content.length; from += chunkBytes) yield content.subarray(from, from + chunkBytes);
    return;
  }
  let parts: Uint8Array[] = [];
  let heldBytes = 0;
  for await (const piece of content as unknown as AsyncIterable<Uint8Array>) {
    parts.push(piece);
    heldBytes += piece.length;
    if (heldBytes < chunkBytes) continue;
    const whole = Buffer.concat(parts);
    const end = whole.length - (whole.length % chunkBytes);
    for (let from = 0; from < end; from += chunkBytes) yield whole.subarray(from, from + chunkBytes);
    parts = end < whole.length ? [whole.subarray(end)] : [];
    heldBytes = whole.length - end;
  }
  if (heldBytes > 0) yield Buffer.concat(parts);
}

/**
 * Objects of a writer that may not purge its bucket: an edgepoint's requests to JetStream itself are answered for its own account, which
 * has none. The caller chooses the id of the chunks, one for each content, and says something about the object, which is stored in one
 * message with its name. Whatever a message replaces is removed with it (the header Nats-Rollup); of what was dropped two small ones stay.
 */
export interface FoundObject {
  readonly id: string;
  readonly note: string;
  open(): ReadableStream<Uint8Array>;
}

/** What was there whole under that id stays, with the new note; what was cut off is replaced. */
export async function writeNotedObject(link: BusLink, bucket: string, name: string, about: { content: () => ReadableStream<Uint8Array>; id: string; note: () => Promise<string> }): Promise<void> {
  const before = await describe(link, bucket, name);
  const there = before !== null && before.deleted !== true && before.nuid === about.id;
  const description = there ? before : await storeChunks(link, { bucket, name, nuid: about.id, content: about.content() });
  await link.store(nameSubject(bucket, name), JSON.stringify({ ...description, description: await about.note() }), replaceEarlier);
}

export async function findObject(link: BusLink, bucket: string, name: string): Promise<FoundObject | null> {
  const found = await describe(link, bucket, name);
  return found === null || found.deleted === true ? null : { id: found.nuid, note: found.description ?? '', open: () => openChunks(link, bucket, found) };
}

/** Whole or half. */
export async function dropObject(link: BusLink, bucket: string, name: string, id: string): Promise<void> {
  const before = await describe(link, bucket, name);
  // The name may be another content's by now.
  if (before !== null && before.nuid === id && before.deleted !== true) {
    const mark: Description = { name, bucket, nuid: id, size: 0, chunks: 0, digest: '', deleted: true };
    await link.store(nameSubject(bucket, name), JSON.stringify(mark), replaceEarlier);
  }
  await dropBlob(link, bucket, id);
}

export async function clearObjects(link: BusLink, bucket: string): Promise<void> {
  const first = await readEntry(link, streamOf(bucket), { seq: 1, next_by_subj: `$O.${bucket}.>` });
  if (first !== null) await link.store(chunkSubject(bucket, 'none'), '', { 'Nats-Rollup': 'all' });
}

/**
 * Content whose length and digest the reader knows from elsewhere: its chunks alone, without a description. What was there under its id is
 * replaced.
 */
export async function writeBlob(link: BusLink, bucket: string, id: string, content: Uint8Array): Promise<void> {
  await storeChunks(link, { bucket, name: id, nuid: id, content });
}

/** Failure `object-broken` when it is not there, not as long or not of that SHA-256 (hexadecimal). */
export async function readBlob(link: BusLink, bucket: string, id: string, { bytes, digest }: { bytes: number; digest: string }): Promise<Uint8Array> {
  const base64 = Buffer.from(digest, 'hex').toString('base64').replaceAll('+', '-').replaceAll('/', '_');
  const parts: Uint8Array[] = [];
  for await (const part of readChunks(link, { name: id, bucket, nuid: id, size: bytes, chunks: 0, digest: `SHA-256=${base64}` }, bucket)) parts.push(part);
  return Buffer.concat(parts);
}

/** Of one, the small message that took its place stays. Absent is success. */
export async function dropBlob(link: BusLink, bucket: string, id: string): Promise<void> {
  const last = await readEntry(link, streamOf(bucket), { last_by_subj: chunkSubject(bucket, id) });
  if (last !== null && last.bytes.length > 0) await link.store(chunkSubject(bucket, id), '', replaceEarlier);
}

/** What was said last under an id, in one message; null when nothing was. */
export async function readNote(link: BusLink, bucket: string, id: string): Promise<string | null> {
  const last = await readEntry(link, streamOf(bucket), { last_by_subj: chunkSubject(bucket, id) });
  return last === null || last.bytes.length === 0 ? null : Buffer.from(last.bytes).toString();
}

export async function writeNote(link: BusLink, bucket: string, id: string, text: string): Promise<void> {
  await link.store(chunkSubject(bucket, id), text, replaceEarlier);
}
