import { closeSync, constants, fstatSync, fsyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { codeOf, Failure } from '../../kit/errors.ts';
import type { Site } from '../../kit/ids.ts';
import type { VolumeName } from '../model/volumes.ts';
import { chunkBytes, digestOf, openChunk, snapshotKey } from './chunks.ts';
import { readAt } from './read-at.ts';
import { markerOf, readCatalogue, refusal, volumeKey, type VolumePorts } from './volume-catalogue.ts';
import { breathe, plainLength, readIndexFile } from './volume-seal.ts';

export interface AdmittedVolume extends VolumeName {
  readonly catalogue: string;
  /** In whose store it was found. */
  readonly from: Site;
  readonly sequence: number;
  /** Where what was fetched lies: read once, and believed in nothing. */
  readonly indexFile: string;
  readonly chunksFile: string;
  readonly sizeBytesMax: number;
}

/** Writes the image of a snapshot to a file that does not exist yet, each chunk after all of it was verified; on the disk when this returns. */
export async function admitVolume(order: AdmittedVolume, target: string, ports: VolumePorts): Promise<void> {
  const catalogue = readCatalogue(order.catalogue, order, order.from, ports);
  const entry = catalogue.snapshots.find(({ sequence }) => sequence === order.sequence);
  if (entry === undefined) throw refusal(`there is no snapshot ${order.sequence} of it`);
  const index = readIndexFile(order.indexFile, order, entry);
  if (index.codec !== ports.codec.name) throw refusal(`it is packed by ${index.codec}, which this edgepoint does not know`);
  if (index.sizeBytes > order.sizeBytesMax) throw new Failure('volume-size', `the snapshot is of a volume of ${index.sizeBytes} bytes, and the app's has ${order.sizeBytesMax}`, { remedy: 'Give it the size that it had then.' });
  const { provider } = order.owner;
  const count = Math.ceil(index.sizeBytes / chunkBytes);
  const key = volumeKey(catalogue, ports);
  const mark = markerOf(key);
  const keys = new Map(Object.entries(index.salts).map(([sequence, salt]) => [sequence, { salt, key: snapshotKey(key, salt) }]));
  const from = openSync(order.chunksFile, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  const to = openSync(target, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  try {
    if (!fstatSync(from).isFile()) throw refusal('what was fetched of it is no file');
    ftruncateSync(to, index.sizeBytes);
    let at = 0;
    let last = -1;
    for (const chunk of index.chunks) {
      const spoilt = (): Failure => refusal(`its chunk ${chunk.number} of ${count} is not what was sealed`);
      const of = keys.get(`${chunk.sequence}`);
      if (of === undefined || chunk.number <= last || chunk.number >= count) throw spoilt();
      last = chunk.number;
      const sealed = readAt(from, at, chunk.bytes);
      at += chunk.bytes;
      const packed = digestOf(sealed) === chunk.digest ? openChunk(of.key, { provider, salt: of.salt, number: chunk.number, count }, sealed) : null;
      if (packed === null) throw spoilt();
      const plain = await ports.codec.decompress(packed);
      if (plain.length !== plainLength(chunk.number, index.sizeBytes) || mark(plain) !== chunk.mark) throw spoilt();
      for (let done = 0; done < plain.length; ) done += writeSync(to, plain, done, plain.length - done, chunk.number * chunkBytes + done);
      await breathe();
    }
    fsyncSync(to);
  } catch (error) {
    if (codeOf(error) === 'ENOSPC') throw new Failure('disk-full', 'the disk of the edgepoint is full', { cause: error });
    throw error;
  } finally {
    closeSync(from);
    closeSync(to);
  }
}
