import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { basename } from 'node:path';
import { codeOf, Failure, messageOf } from '../../kit/errors.ts';
import { digestOf, openChunk, snapshotKey } from './chunks.ts';
import { layTree } from './file-tree.ts';
import { indexLength, type Judged, readIndex, sealedName, type SealedIndex, signatureBytes, trailerBytes, type WantedSnapshot, whyForeign } from './sealed-index.ts';
import { readAt } from './read-at.ts';
import type { SealPorts } from './seal.ts';

/** A sealed snapshot of which everything but the chunks has been verified. */
export interface OpenedSnapshot {
  readonly name: string;
  /** At rest. */
  readonly bytes: number;
  readonly index: SealedIndex;
  /**
   * Decrypts, verifies and unpacks in one pass, each chunk before anything of it is used; rejects with a Failure `snapshot-refused` at
   * the first that is not authentic. `folders`: where each part goes; what is there must not exist.
   */
  unpack(folders: ReadonlyMap<string, string>): Promise<void>;
  close(): void;
}

/** So that whoever wakes an app knows that its template is of no use and another should be made. */
export function refusal(reason: string, cause?: unknown): Failure {
  return new Failure('snapshot-refused', `its snapshot is refused: ${reason}`, { cause });
}

const others = 0o077;

/** Opens a sealed file for an order, or refuses it with the reason. A file called by a digest must be of it. */
export function openSealed(path: string, wanted: WantedSnapshot, ports: Omit<SealPorts, 'randomBytes'>): OpenedSnapshot {
  const fd = openFile(path);
  try {
    const opened = judgeFile(fd, path, wanted, ports);
    if (!opened.ok) throw refusal(opened.refusal);
    return opened.value;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    throw refusal(codeOf(error) === 'ENOENT' ? 'it is not there' : messageOf(error), error);
  }
}

function judgeFile(fd: number, path: string, wanted: WantedSnapshot, ports: Omit<SealPorts, 'randomBytes'>): Judged<OpenedSnapshot> {
  const refuse = (reason: string): { ok: false; refusal: string } => ({ ok: false, refusal: reason });
  const status = fstatSync(fd);
  if (!status.isFile() || status.uid !== (process.geteuid?.() ?? 0)) return refuse('its file is not one of root');
  if ((status.mode & others) !== 0) return refuse('others than root may read or change its file');
  const trailer = readAt(fd, Math.max(0, status.size - trailerBytes), Math.min(status.size, trailerBytes));
  const length = indexLength(trailer, status.size);
  if (!length.ok) return length;
  const publicKey = ports.keys.publicKey();
  if (publicKey === null) return refuse('this edgepoint has no signing key, so it cannot have signed it');
  const text = readAt(fd, status.size - trailerBytes - length.value, length.value);
  const called = basename(path);
  const read = readIndex(text, trailer.subarray(0, signatureBytes), { fileBytes: status.size, name: sealedName.test(called) ? called : null, publicKey });
  if (!read.ok) return read;
  const index = read.value;
  const foreign = whyForeign(index, wanted, ports.site);
  if (foreign !== null) return refuse(foreign);
  if (index.codec !== ports.codec.name) return refuse(`it is packed by ${index.codec}, which this edgepoint does not know`);
  const providerKey = ports.keys.providerKey(index.owner.provider);
  if (providerKey === null) return refuse('this edgepoint has no key of its provider');
  const key = snapshotKey(providerKey, index.salt);
  return {
    ok: true,
    value: {
      name: digestOf(text),
      bytes: status.size,
      index,
      unpack: (folders) => unpack(fd, index, key, folders, ports),
      close: () => closeSync(fd),
    },
  };
}

async function unpack(fd: number, index: SealedIndex, key: Buffer, folders: ReadonlyMap<string, string>, ports: Omit<SealPorts, 'randomBytes'>): Promise<void> {
  const layer = layTree(folders, ports.calls);
  const { salt, owner, chunks } = index;
  let at = 0;
  let plainBytes = 0;
  for (const [number, chunk] of chunks.entries()) {
    const sealed = readAt(fd, at, chunk.bytes);
    at += chunk.bytes;
    const place = { provider: owner.provider, salt, number, count: chunks.length };
    const packed = digestOf(sealed) === chunk.digest ? openChunk(key, place, sealed) : null;
    if (packed === null) throw refusal(`its chunk ${number + 1} of ${chunks.length} is not what was sealed`);
    const plain = await ports.codec.decompress(packed);
    plainBytes += plain.length;
    layer.write(Buffer.from(plain.buffer, plain.byteOffset, plain.length));
  }
  if (plainBytes !== index.plainBytes) throw refusal(`it holds ${plainBytes} of ${index.plainBytes} bytes`);
  layer.finish();
}
