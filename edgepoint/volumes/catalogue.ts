import { Failure } from '../../kit/errors.ts';
import { ownerKey } from '../../kit/ids.ts';
import { bytesPerMebibyte } from '../../kit/units.ts';
import { storedBytes, unreferenced, volumeObjects } from '../model/volume-plan.ts';
import { catalogueSchema, volumeIndexSchema } from '../model/volumes.ts';
import type { CatalogueChange, CatalogueEntry, VolumeCatalogue, VolumeIndex, VolumeName } from '../model/volumes.ts';
import type { VolumeObjects, VolumesPorts } from './ports.ts';

const chunkBytes = 2 * bytesPerMebibyte;
/** Questions under way at once, when what a broken upload has left is looked for. */
const dropsAhead = 16;
/** Of a volume of which nothing else is known (`sizeMegabytes` of a manifest). */
const sizeBytesMax = 65_536 * bytesPerMebibyte;

/**
 * A volume's part of this edgepoint's bucket. The catalogue is what counts: it is replaced in one message, before what it names no more is dropped
 * and after what it newly names has come. Cut off anywhere, the next one to look finishes it (`settle`).
 */
export class StoredSnapshots {
  private readonly about: VolumeName;
  private readonly ports: VolumesPorts;
  private readonly objects: VolumeObjects;
  readonly names: ReturnType<typeof volumeObjects>;
  /** As it lies in the bucket; empty for none. */
  text = '';
  catalogue: VolumeCatalogue | null = null;

  constructor(about: VolumeName, ports: VolumesPorts) {
    this.about = about;
    this.ports = ports;
    this.objects = ports.objects(ports.site);
    this.names = volumeObjects(ownerKey(about.owner), about.volume);
  }

  async read(): Promise<this> {
    this.take((await this.objects.note(this.names.catalogue)) ?? '');
    return this;
  }

  private take(text: string): void {
    this.text = text;
    this.catalogue = text === '' ? null : readUnverified(text);
  }

  /** What is begun is known to the database, so that it goes with the app. */
  async begin(): Promise<void> {
    const known = (await this.ports.records.storedVolumes()).some((one) => ownerKey(one.owner) === ownerKey(this.about.owner) && one.volume === this.about.volume);
    if (!known) await this.ports.records.saveStoredVolume({ ...this.about, bytes: 1 });
    await this.change({ kind: 'begin' });
  }

  /** snapd verifies what it changes, and signs. */
  async change(change: CatalogueChange): Promise<void> {
    const { text } = await this.ports.calls.changeCatalogue({ ...this.about, catalogue: this.text, change });
    await this.objects.putNote(this.names.catalogue, text);
    this.take(text);
  }

  async index(entry: CatalogueEntry): Promise<{ index: VolumeIndex; text: Uint8Array }> {
    return readIndex(this.objects, this.names, entry);
  }

  private indexes(entries: readonly CatalogueEntry[]): Promise<VolumeIndex[]> {
    return Promise.all(entries.map(async (entry) => (await this.index(entry)).index));
  }

  /** Removes what was removed, and what was begun, and tells the database what is left. */
  async settle(): Promise<void> {
    if (this.catalogue === null) return this.ports.records.saveStoredVolume({ ...this.about, bytes: 0 });
    const staying = await this.indexes(this.catalogue.snapshots);
    for (const entry of this.catalogue.leaving) {
      try {
        const { index } = await this.index(entry);
        for (const chunk of unreferenced(index, staying)) await this.objects.drop(this.names.chunk(chunk));
        await this.objects.drop(this.names.index(entry.sequence));
      } catch (failure) {
        // Its index went the last time, and with it all of it.
        if (!(failure instanceof Failure) || failure.code !== 'object-broken') throw failure;
      }
      await this.change({ kind: 'left', sequence: entry.sequence });
    }
    const { begun } = this.catalogue;
    if (begun !== null) {
      await this.sweep(begun);
      await this.change({ kind: 'swept' });
    }
    const bytes = storedBytes(staying) + this.catalogue.snapshots.reduce((sum, entry) => sum + entry.index.bytes, 0);
    await this.ports.records.saveStoredVolume({ ...this.about, bytes });
  }

  /** Of what was begun nobody knows how far it came. */
  private async sweep(sequence: number): Promise<void> {
    const sizes = this.ports.serving(this.about.owner)?.manifest.volume.filter(({ name }) => name === this.about.volume).map(({ sizeMegabytes }) => sizeMegabytes * bytesPerMebibyte) ?? [];
    const bytes = Math.max(...sizes, ...(this.catalogue?.snapshots.map(({ sizeBytes }) => sizeBytes) ?? []), 0);
    const count = Math.ceil((bytes || sizeBytesMax) / chunkBytes);
    for (let from = 0; from < count; from += dropsAhead) {
      await Promise.all(Array.from({ length: Math.min(dropsAhead, count - from) }, (_, place) => this.objects.drop(this.names.chunk({ sequence, number: from + place }))));
    }
    await this.objects.drop(this.names.index(sequence));
  }

  /** Nothing of the volume is left there. */
  async clear(): Promise<void> {
    await this.settle();
    for (const { sequence } of this.catalogue?.snapshots ?? []) await this.change({ kind: 'remove', sequence });
    await this.settle();
    await this.objects.drop(this.names.catalogue);
    this.take('');
    await this.ports.records.saveStoredVolume({ ...this.about, bytes: 0 });
  }
}

/** What an edgepoint says of a volume: only to know what to fetch, for snapd verifies it. */
export function readUnverified(text: string): VolumeCatalogue {
  try {
    const { catalogue } = JSON.parse(text) as { catalogue: string };
    return catalogueSchema.parse(JSON.parse(catalogue));
  } catch (cause) {
    throw new Failure('snapshot-refused', 'the list of the snapshots of the volume cannot be read', { cause });
  }
}

export async function readIndex(objects: VolumeObjects, names: ReturnType<typeof volumeObjects>, entry: CatalogueEntry): Promise<{ index: VolumeIndex; text: Uint8Array }> {
  const text = await objects.get(names.index(entry.sequence), entry.index);
  try {
    return { text, index: volumeIndexSchema.parse(JSON.parse(Buffer.from(text).toString())) };
  } catch (cause) {
    throw new Failure('snapshot-refused', `the index of snapshot ${entry.sequence} cannot be read`, { cause });
  }
}
