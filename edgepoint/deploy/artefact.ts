import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Parser, Unpack } from 'tar';
import type { ReadEntry } from 'tar';
import { Failure, messageOf } from '../../kit/errors.ts';
import { judgeEntry, openJudgement } from '../../kit/archive.ts';
import type { ArchiveEntry, EntryKind } from '../../kit/archive.ts';

/** Opens the artefact's bytes in the object store; null when it is not there. */
export type OpenArtefact = (digest: string) => Promise<ReadableStream<Uint8Array> | null>;

/**
 * Brings an artefact from the object store to `folder/app`. What is under `folder` afterwards is whole: it is unpacked beside it and
 * renamed at the end. A digest that does not agree or an entry that may not be unpacked is a Failure, and nothing is left.
 */
export async function fetchArtefact(order: { digest: string; bytesMax: number; file: string }, openArtefact: OpenArtefact): Promise<{ bytes: number }> {
  await mkdir(dirname(order.file), { recursive: true });
  const stream = await openArtefact(order.digest);
  if (stream === null) throw new Failure('artefact-missing', `artefact ${order.digest} is not in this edgepoint's object store`, { remedy: 'Deploy again.' });
  const hash = createHash('sha256');
  const file = await open(order.file, 'w', 0o600);
  let bytes = 0;
  try {
    for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) {
      bytes += chunk.byteLength;
      if (bytes > order.bytesMax) throw new Failure('artefact-corrupt', `artefact ${order.digest} is longer than the ${order.bytesMax} bytes announced`);
      hash.update(chunk);
      await file.write(chunk);
    }
  } finally {
    await file.close();
  }
  const digest = `sha256:${hash.digest('hex')}`;
  if (digest !== order.digest) {
    await rm(order.file, { force: true });
    throw new Failure('artefact-corrupt', `what came as ${order.digest} is ${digest}`, { remedy: 'Deploy again.' });
  }
  return { bytes };
}

/** Whether the artefact of that folder is there, whole. */
export async function isUnpacked(folder: string): Promise<boolean> {
  try {
    return (await stat(join(folder, 'app'))).isDirectory();
  } catch {
    // Whatever stands in the way of seeing it, it is to be unpacked (again), and that fails with the true reason.
    return false;
  }
}

const kinds: Readonly<Record<string, EntryKind>> = {
  File: 'file',
  OldFile: 'file',
  ContiguousFile: 'file',
  Directory: 'directory',
  GNUDumpDir: 'directory',
  SymbolicLink: 'symlink',
  Link: 'hardlink',
};

function describeEntry(entry: ReadEntry): ArchiveEntry {
  const kind = kinds[entry.type] ?? 'other';
  return { path: entry.path, kind, kindName: entry.type, bytes: kind === 'file' ? entry.size : 0, target: entry.linkpath ?? '' };
}

/** Judges every header before anything is written; the same judge stands at the conduit's door. */
async function judgeArchive(file: string): Promise<void> {
  const judgement = openJudgement();
  const { size } = await stat(file);
  let refusal: Failure | null = null;
  const parser = new Parser({
    strict: true,
    onReadEntry: (entry) => {
      const verdict = refusal === null ? judgeEntry(judgement, describeEntry(entry), size) : null;
      if (verdict !== null && !verdict.ok) {
        refusal = new Failure(verdict.code, verdict.reason);
        parser.abort(refusal);
      }
      entry.resume();
    },
  });
  try {
    await pipeline(createReadStream(file), parser as unknown as NodeJS.WritableStream);
  } catch (thrown) {
    throw refusal ?? new Failure('archive-corrupt', `it cannot be read as a tar.gz: ${messageOf(thrown)}`, { cause: thrown });
  }
  if (refusal !== null) throw refusal;
}

/** Unpacks a judged tar.gz. Set-uid bits are dropped; everybody may read, for the instance's users are not ours. */
export async function unpackArtefact(file: string, folder: string): Promise<void> {
  await judgeArchive(file);
  const beside = `${folder}.unpacking`;
  await rm(beside, { recursive: true, force: true });
  await mkdir(join(beside, 'app'), { recursive: true, mode: 0o755 });
  try {
    const unpack = new Unpack({
      cwd: join(beside, 'app'),
      strict: true,
      preservePaths: false,
      preserveOwner: false,
      noMtime: false,
      umask: 0o022,
      dmode: 0o755,
      filter: (_path, entry) => {
        if ('mode' in entry && typeof entry.mode === 'number') entry.mode = ('type' in entry && entry.type === 'Directory' ? 0o755 : entry.mode & 0o777) | 0o444;
        return true;
      },
    });
    await pipeline(createReadStream(file), unpack as unknown as NodeJS.WritableStream);
    await rm(folder, { recursive: true, force: true });
    await rename(beside, folder);
  } catch (thrown) {
    await rm(beside, { recursive: true, force: true });
    throw thrown instanceof Failure ? thrown : new Failure('unpack-failed', `the artefact could not be unpacked: ${messageOf(thrown)}`, { cause: thrown });
  }
}
