import { codeOf, Failure } from '../../kit/errors.ts';
import { ownerKey, siteKey } from '../../kit/ids.ts';
import type { Owner, Site } from '../../kit/ids.ts';
import { bytesPerMebibyte, formatBytes, formatMs } from '../../kit/units.ts';
import type { VolumeFacts } from '../../kit/wire/volumes.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import { pieceBytesMax } from '../model/exchange.ts';
import { isFull, newestOf, volumeObjects } from '../model/volume-plan.ts';
import type { CatalogueEntry, VolumeName } from '../model/volumes.ts';
import { readIndex, readUnverified, StoredSnapshots } from './catalogue.ts';
import { whyNoRoom } from './limits.ts';
import type { VolumesPorts } from './ports.ts';

export interface VolumeOutcome {
  readonly text: string;
  readonly figures: Readonly<Record<string, number>>;
}

/** Works under way at once, of different apps: each reads and writes as much as the disk gives. */
const underWayMax = 2;
const progressMs = 1000;

/** Snapshots of the volumes of this edgepoint's apps. One work for an app at a time; a second one is refused rather than queued. */
export class Volumes {
  private readonly ports: VolumesPorts;
  private readonly working = new Set<string>();

  constructor(ports: VolumesPorts) {
    this.ports = ports;
  }

  /** What there is of an app's volumes. With the object store away the volumes are told, and nothing of their snapshots. */
  async list(owner: Owner): Promise<readonly VolumeFacts[]> {
    const { manifest } = this.orderOf(owner);
    const volumes = manifest.volume.map((volume) => ({ volume: volume.name, sizeBytes: sizeOf(volume) }));
    const uses = await this.ports.calls.volumeUse({ owner, volumes });
    return Promise.all(manifest.volume.map(async (volume) => this.factsOf({ owner, volume: volume.name }, volume, uses.find((use) => use.volume === volume.name))));
  }

  private async factsOf(about: VolumeName, volume: Manifest['volume'][number], use: { usedBytes: number | null; freeBytes: number | null } | undefined): Promise<VolumeFacts> {
    const sizeBytes = sizeOf(volume);
    const [usedBytes, freeBytes] = [use?.usedBytes ?? null, use?.freeBytes ?? null];
    const facts = { volume: volume.name, path: volume.path, sizeBytes, usedBytes, freeBytes, full: freeBytes !== null && isFull({ sizeBytes, freeBytes }) };
    try {
      const { catalogue } = await new StoredSnapshots(about, this.ports).read();
      const stored = (await this.ports.records.storedVolumes()).find((one) => ownerKey(one.owner) === ownerKey(about.owner) && one.volume === about.volume);
      return { ...facts, storedBytes: stored?.bytes ?? 0, snapshots: (catalogue?.snapshots ?? []).map(({ sequence, takenWallMs, release, dataBytes, newBytes }) => ({ snapshot: sequence, takenWallMs, release, dataBytes, newBytes })) };
    } catch (failure) {
      this.ports.warn('the snapshots of a volume could not be asked for', { ...about, failure });
      return { ...facts, storedBytes: null, snapshots: [] };
    }
  }

  /** Takes a snapshot, and keeps so many of the newest. */
  snapshot(about: VolumeName, keep: number | null, progress: (text: string) => void): Promise<VolumeOutcome> {
    return this.alone(about, async () => {
      const { ports } = this;
      const order = this.orderOf(about.owner);
      this.volumeOf(about);
      const fromMs = ports.nowMs();
      const stored = await new StoredSnapshots(about, ports).read();
      await stored.settle();
      // From here on its number is spent, and whoever comes after a kill knows what to look for.
      await stored.begin();
      const { catalogue } = stored;
      const newest = newestOf(catalogue);
      const copied = await ports.withFile(`${ownerKey(about.owner)}.${about.volume}.index`, async (indexFile, append) => {
        if (newest !== null) await append((await stored.index(newest)).text);
        return ports.calls.copyVolume({ ...about, catalogue: stored.text, indexFile: newest === null ? '' : indexFile });
      });
      progress(`Copied in ${formatMs(copied.copyMs)}, ${copied.frozenMs === 0 ? 'while nobody had it' : `writers waited for ${formatMs(copied.frozenMs)}`}; ${copied.newChunks} pieces (${formatBytes(copied.newBytes)}) are new.`);
      const room = whyNoRoom(await ports.records.storedVolumes(), { provider: about.owner.provider, newBytes: copied.newBytes }, ports.limits);
      if (room !== null) throw new Failure('volume-store-full', `there is no room for the snapshot: ${room}`, { remedy: 'Remove snapshots (`conduit volumes remove`), or keep fewer (--keep).' });
      const sequence = catalogue?.begun ?? 0;
      await this.send(stored, about, { sequence, entry: copied.index }, progress);
      const { sizeBytes, dataBytes, newBytes, index } = copied;
      await stored.change({ kind: 'finish', keep, entry: { sequence, takenWallMs: ports.wallMs(), release: order.release, sizeBytes, dataBytes, newBytes, index } });
      await stored.settle();
      const tookMs = ports.nowMs() - fromMs;
      const left = stored.catalogue?.snapshots.length ?? 0;
      return {
        text: `Snapshot ${sequence} of ${about.volume} is in the object store (${formatBytes(newBytes)} of ${formatBytes(dataBytes)} were new; ${left} ${left === 1 ? 'is' : 'are'} kept).`,
        figures: { snapshot: sequence, tookMs, frozenMs: copied.frozenMs, copyMs: copied.copyMs, sealMs: copied.sealMs, dataBytes, newBytes, newChunks: copied.newChunks },
      };
    });
  }

  private async send(stored: StoredSnapshots, about: VolumeName, { sequence, entry }: { sequence: number; entry: CatalogueEntry['index'] }, progress: (text: string) => void): Promise<void> {
    const { ports } = this;
    const objects = ports.objects(ports.site);
    const text = await this.readCopy(about, 'index', 0, entry.bytes);
    // snapd has just made it.
    const { chunks } = JSON.parse(text.toString()) as { chunks: readonly { number: number; sequence: number; bytes: number }[] };
    const fresh = chunks.filter((chunk) => chunk.sequence === sequence);
    const tell = paced(ports, progress);
    let at = 0;
    for (const [done, chunk] of fresh.entries()) {
      await objects.put(stored.names.chunk(chunk), await this.readCopy(about, 'chunks', at, chunk.bytes));
      at += chunk.bytes;
      tell(`${done + 1} of ${fresh.length} pieces are in the object store.`);
    }
    await objects.put(stored.names.index(sequence), text);
  }

  private async readCopy(about: VolumeName, part: 'chunks' | 'index', from: number, bytes: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for (let at = from; at < from + bytes; ) {
      const { base64 } = await this.ports.calls.readVolumeCopy({ ...about, part, from: at, bytes: Math.min(pieceBytesMax, from + bytes - at) });
      const piece = Buffer.from(base64, 'base64');
      if (piece.length === 0) throw new Failure('snapshot-lost', 'the copy of the volume is gone: snapd was restarted', { remedy: 'Try again.' });
      pieces.push(piece);
      at += piece.length;
    }
    return Buffer.concat(pieces);
  }

  /** Rolls a volume back to a snapshot, of this edgepoint or of another one of the zone. It is fetched and verified while the app serves. */
  restore(about: VolumeName, { sequence, from }: { sequence: number; from: Site }, progress: (text: string) => void): Promise<VolumeOutcome> {
    return this.alone(about, async () => {
      const { ports } = this;
      const volume = this.volumeOf(about);
      const fromMs = ports.nowMs();
      const objects = ports.objects(from);
      const names = volumeObjects(ownerKey(about.owner), about.volume);
      const text = await objects.note(names.catalogue);
      const entry = text === null ? undefined : readUnverified(text).snapshots.find((one) => one.sequence === sequence);
      if (text === null || entry === undefined) throw new Failure('snapshot-unknown', `there is no snapshot ${sequence} of ${about.volume} at ${siteKey(from)}`, { remedy: '`conduit volumes APP` lists them.' });
      const { index, text: indexText } = await readIndex(objects, names, entry);
      const tell = paced(ports, progress);
      const file = `${ownerKey(about.owner)}.${about.volume}`;
      const { tookMs: verifyMs } = await ports.withFile(`${file}.index`, (indexFile, appendIndex) =>
        ports.withFile(`${file}.chunks`, async (chunksFile, append) => {
          await appendIndex(indexText);
          await append(new Uint8Array());
          for (const [done, chunk] of index.chunks.entries()) {
            await append(await objects.get(names.chunk(chunk), chunk));
            tell(`${done + 1} of ${index.chunks.length} pieces are fetched.`);
          }
          return ports.calls.admitVolume({ ...about, catalogue: text, from, sequence, indexFile, chunksFile, sizeBytesMax: sizeOf(volume) });
        }),
      );
      progress(`All of it is verified (${formatMs(verifyMs)}). The app is stopped; requests are held meanwhile.`);
      const heldMs = await ports.hold(about.owner, `its volume ${about.volume} goes back to snapshot ${sequence}`, () => ports.calls.swapVolume(about));
      return {
        text: `${about.volume} is as it was in snapshot ${sequence} (${new Date(entry.takenWallMs).toISOString()}); the app was held for ${formatMs(heldMs)}, and begins anew.`,
        figures: { snapshot: sequence, tookMs: ports.nowMs() - fromMs, heldMs, verifyMs, dataBytes: entry.dataBytes },
      };
    });
  }

  remove(about: VolumeName, sequence: number): Promise<VolumeOutcome> {
    return this.alone(about, async () => {
      this.volumeOf(about);
      const stored = await new StoredSnapshots(about, this.ports).read();
      if (!stored.catalogue?.snapshots.some((entry) => entry.sequence === sequence)) throw new Failure('snapshot-unknown', `there is no snapshot ${sequence} of ${about.volume}`, { remedy: '`conduit volumes APP` lists them.' });
      await stored.change({ kind: 'remove', sequence });
      await stored.settle();
      return { text: `Snapshot ${sequence} of ${about.volume} is removed.`, figures: { snapshot: sequence } };
    });
  }

  /** What is remembered of apps that are no longer hosted goes; so does what a kill has cut off. Never rejects. */
  async sweep(): Promise<void> {
    for (const { owner, volume } of await this.ports.records.storedVolumes()) {
      if (!this.ports.hosts(owner)) await this.forget({ owner, volume });
    }
  }

  /** An app is hosted no longer: nothing of its snapshots is left. With the bus away it is tried again at the next start. */
  async forgetApp(owner: Owner): Promise<void> {
    for (const stored of await this.ports.records.storedVolumes()) if (ownerKey(stored.owner) === ownerKey(owner)) await this.forget(stored);
  }

  private async forget({ owner, volume }: VolumeName): Promise<void> {
    try {
      await (await new StoredSnapshots({ owner, volume }, this.ports).read()).clear();
    } catch (failure) {
      this.ports.warn('the snapshots of a volume could not be removed', { owner, volume, code: codeOf(failure), failure });
    }
  }

  private async alone(about: VolumeName, work: () => Promise<VolumeOutcome>): Promise<VolumeOutcome> {
    const key = ownerKey(about.owner);
    if (this.working.has(key)) throw new Failure('volume-busy', 'something is done about a volume of the app already', { remedy: 'Wait for it to end.' });
    if (this.working.size >= underWayMax) throw new Failure('busy', 'the edgepoint is at work on volumes of others', { remedy: 'Try again in a minute.' });
    this.working.add(key);
    try {
      return await work();
    } finally {
      this.working.delete(key);
      await this.ports.calls.discardVolumeCopy(about).catch((failure: unknown) => this.ports.warn('the copy of a volume could not be removed', { ...about, failure }));
    }
  }

  private orderOf(owner: Owner) {
    const order = this.ports.serving(owner);
    if (order === null) throw new Failure('app-unready', 'the app does not serve at this edgepoint (yet)', { remedy: '`conduit status APP` says how it stands.' });
    return order;
  }

  private volumeOf({ owner, volume }: VolumeName): Manifest['volume'][number] {
    const found = this.orderOf(owner).manifest.volume.find(({ name }) => name === volume);
    if (found === undefined) throw new Failure('volume-unknown', `the app has no volume ${JSON.stringify(volume)}`, { remedy: '`conduit volumes APP` lists them.' });
    return found;
  }
}

const sizeOf = (volume: { readonly sizeMegabytes: number }): number => volume.sizeMegabytes * bytesPerMebibyte;

function paced(ports: Pick<VolumesPorts, 'nowMs'>, progress: (text: string) => void): (text: string) => void {
  let toldMs = ports.nowMs();
  return (text) => {
    if (ports.nowMs() - toldMs < progressMs) return;
    toldMs = ports.nowMs();
    progress(text);
  };
}
