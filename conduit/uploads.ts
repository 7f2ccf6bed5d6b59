import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { Failure, codeOf, messageOf } from '../kit/errors.ts';
import { formatBytes } from '../kit/units.ts';
import { openGrowingFile } from './growing-file.ts';
import type { GrowingFile } from './growing-file.ts';

export interface ReceivedUpload {
  /** A file of its own below the upload folder; the receiver keeps or discards it. */
  readonly path: string;
  readonly digest: string;
  readonly bytes: number;
}

export interface ExpectedUpload {
  readonly bytes: number | null;
  readonly digest: string | null;
}

/**
 * Artefacts on the conduit's disk. An upload is a `.part` file until it is kept under its digest, so that what a crash leaves is
 * told apart from what is whole; `sweep` removes it at the next start.
 */
export interface Uploads {
  /**
   * Receives a body, which `judge` reads while it comes; on any Failure nothing is left behind. What is wrong with the body itself (cut,
   * damaged, too big) goes before what `judge` throws.
   */
  receive<T>(id: string, body: AsyncIterable<Uint8Array>, expected: ExpectedUpload, judge: (source: Readable) => Promise<T>): Promise<{ readonly upload: ReceivedUpload; readonly judged: T }>;
  discard(upload: ReceivedUpload): Promise<void>;
  /** Makes it durable under its digest. */
  keep(upload: ReceivedUpload): Promise<void>;
  artefactPath(digest: string): string;
  /** Removes partial uploads and every artefact that is not needed. */
  sweep(needed: ReadonlySet<string>): Promise<void>;
  /** Removes artefacts that are not needed, and leaves uploads under way alone. */
  sweepUnneeded(needed: ReadonlySet<string>): Promise<void>;
}

export async function openUploads(folder: string, bytesMax: number): Promise<Uploads> {
  const artefacts = join(folder, 'artefacts');
  await mkdir(artefacts, { recursive: true, mode: 0o700 });
  const artefactPath = (digest: string): string => join(artefacts, `${digest.replace('sha256:', '')}.tar.gz`);
  const sweepUnneeded = async (needed: ReadonlySet<string>): Promise<void> => {
    const kept = new Set([...needed].map((digest) => artefactPath(digest)));
    for (const name of await readdir(artefacts)) if (!kept.has(join(artefacts, name))) await rm(join(artefacts, name), { force: true });
  };
  return {
    artefactPath,
    async receive(id, body, expected, judge) {
      const path = join(folder, `${id}.part`);
      try {
        const { received, judged } = await receiveAndJudge(await openGrowingFile(path), body, { bytesMax, expected, judge });
        return { upload: { path, ...received }, judged };
      } catch (thrown) {
        await rm(path, { force: true });
        throw asUploadFailure(thrown);
      }
    },
    discard: (upload) => rm(upload.path, { force: true }),
    async keep(upload) {
      await rename(upload.path, artefactPath(upload.digest));
      await syncFolder(artefacts);
    },
    sweepUnneeded,
    async sweep(needed) {
      for (const name of await readdir(folder)) if (name.endsWith('.part')) await unlink(join(folder, name));
      await sweepUnneeded(needed);
    },
  };
}

/** Opens a received upload for reading. */
export const readUpload = (path: string): ReturnType<typeof createReadStream> => createReadStream(path, { highWaterMark: 1024 * 1024 });

/** How much more than the limit is still read before the connection is closed. */
export const overshootBytes = 64 * 1024 * 1024;

/** Pieces are written at this size: a network brings some of 16 kB. */
const writeBytes = 512 * 1024;

type Received = Omit<ReceivedUpload, 'path'>;

async function receiveAndJudge<T>(file: GrowingFile, body: AsyncIterable<Uint8Array>, options: { bytesMax: number; expected: ExpectedUpload; judge: (source: Readable) => Promise<T> }): Promise<{ received: Received; judged: T }> {
  const judging = settled(options.judge(Readable.from(file.read(), { objectMode: true, highWaterMark: 1 })));
  try {
    const received = await writeBody(file, body, options.bytesMax);
    judgeReceived(received, options.expected);
    file.end();
    const [verdict] = await Promise.all([judging, file.sync()]);
    if (!verdict.ok) throw verdict.thrown;
    return { received, judged: verdict.value };
  } catch (thrown) {
    file.end(new Error('the upload is not whole'));
    await judging;
    throw thrown;
  } finally {
    await file.close();
  }
}

type Settled<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly thrown: unknown };

const settled = <T>(promise: Promise<T>): Promise<Settled<T>> => promise.then((value) => ({ ok: true, value }), (thrown: unknown) => ({ ok: false, thrown }));

/** The next piece comes while one is written. */
async function writeBody(file: GrowingFile, body: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Received> {
  const hash = createHash('sha256');
  let bytes = 0;
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  let writing: Promise<Settled<void>> = Promise.resolve({ ok: true, value: undefined });
  const write = async (): Promise<void> => {
    const before = await writing;
    if (!before.ok) throw before.thrown;
    writing = settled(file.append(Buffer.concat(held)));
    held = [];
    heldBytes = 0;
  };
  try {
    for await (const chunk of body) {
      bytes += chunk.length;
      // A client that is still sending would not read an answer: what is a little too big is read to its end, and dropped.
      if (bytes > bytesMax + overshootBytes) throw tooBig(bytesMax);
      if (bytes > bytesMax) continue;
      hash.update(chunk);
      held.push(chunk);
      heldBytes += chunk.length;
      if (heldBytes >= writeBytes) await write();
    }
    if (bytes > bytesMax) throw tooBig(bytesMax);
    await write();
  } finally {
    await writing;
  }
  const last = await writing;
  if (!last.ok) throw last.thrown;
  return { digest: `sha256:${hash.digest('hex')}`, bytes };
}

function tooBig(bytesMax: number): Failure {
  return new Failure('upload-too-big', `the upload is larger than ${formatBytes(bytesMax)}`, {
    remedy: 'Name what the app does not need in .edgepointignore; put data into a volume.',
  });
}

function judgeReceived(received: { digest: string; bytes: number }, expected: { bytes: number | null; digest: string | null }): void {
  if (expected.bytes !== null && received.bytes !== expected.bytes) {
    throw new Failure('upload-cut', `the upload ended after ${received.bytes} of ${expected.bytes} bytes`, { remedy: 'Upload it again.' });
  }
  if (expected.digest !== null && received.digest !== expected.digest) {
    throw new Failure('upload-damaged', `the upload has the digest ${received.digest}, not ${expected.digest} as announced`, { remedy: 'Upload it again.' });
  }
}

function asUploadFailure(thrown: unknown): unknown {
  if (thrown instanceof Failure) return thrown;
  if (codeOf(thrown) === 'ENOSPC' || codeOf(thrown) === 'EDQUOT') {
    return new Failure('disk-full', 'the conduit’s disk is full', { remedy: 'Tell the operator; try again later.', cause: thrown });
  }
  // A body that breaks off surfaces as an error of the stream, under names that differ by runtime.
  if (/abort|reset|closed|premature|terminated/i.test(`${codeOf(thrown)} ${messageOf(thrown)}`)) {
    return new Failure('upload-cut', 'the upload was cut off', { remedy: 'Upload it again.', cause: thrown });
  }
  return thrown;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
