import type { CatalogueChange, CatalogueEntry, ChunkRef, VolumeCatalogue, VolumeIndex } from './volumes.ts';

interface Chunked {
  readonly chunks: readonly ChunkRef[];
}

/** Most snapshots of one volume; how many are kept is its provider's choice. */
export const snapshotsMax = 60;

/**
 * Which chunks of a new snapshot are those of an earlier one, and which are to be sealed, in order. `marks`: of every chunk that has data now.
 * An earlier one of another size has none in common: where a chunk belongs is sealed into it.
 */
export function planChunks(before: (Chunked & Pick<VolumeIndex, 'sizeBytes'>) | null, now: { readonly sizeBytes: number; readonly marks: ReadonlyMap<number, string> }): { readonly keep: readonly ChunkRef[]; readonly seal: readonly number[] } {
  const known = new Map((before?.sizeBytes === now.sizeBytes ? before.chunks : []).map((chunk) => [chunk.number, chunk]));
  const keep: ChunkRef[] = [];
  const seal: number[] = [];
  for (const [number, mark] of [...now.marks].toSorted(([one], [other]) => one - other)) {
    const same = known.get(number);
    if (same?.mark === mark) keep.push(same);
    else seal.push(number);
  }
  return { keep, seal };
}

/** Chunks of a snapshot that goes which none of those that stay has. */
export function unreferenced(leaving: Chunked, staying: readonly Chunked[]): readonly ChunkRef[] {
  const needed = new Set(staying.flatMap(({ chunks }) => chunks.map(placeOf)));
  return leaving.chunks.filter((chunk) => !needed.has(placeOf(chunk)));
}

const placeOf = ({ sequence, number }: Pick<ChunkRef, 'sequence' | 'number'>): string => `${sequence}.${number}`;

/** What the snapshots of a volume take in the object store: what those that left took with them is not told apart, and stays counted. */
export const storedBytes = (indexes: readonly Chunked[]): number => {
  const chunks = new Map(indexes.flatMap((index) => index.chunks.map((chunk) => [placeOf(chunk), chunk.bytes] as const)));
  return [...chunks.values()].reduce((sum, bytes) => sum + bytes, 0);
};

/** The catalogue after a change, or why there can be none. */
export function changeCatalogue(before: VolumeCatalogue, change: CatalogueChange): { readonly ok: true; readonly catalogue: VolumeCatalogue } | { readonly ok: false; readonly reason: string } {
  const done = (changed: Partial<VolumeCatalogue>): { ok: true; catalogue: VolumeCatalogue } => ({ ok: true, catalogue: { ...before, ...changed } });
  switch (change.kind) {
    case 'begin':
      if (before.begun !== null) return { ok: false, reason: `what is left of snapshot ${before.begun} must be swept first` };
      if (before.snapshots.length >= snapshotsMax) return { ok: false, reason: `there are ${snapshotsMax} snapshots, and no more may be` };
      // Its number is spent, whatever comes of it.
      return done({ begun: before.next, next: before.next + 1 });
    case 'finish': {
      if (before.begun !== change.entry.sequence) return { ok: false, reason: `snapshot ${change.entry.sequence} was not begun` };
      const all = [...before.snapshots, change.entry];
      const gone = change.keep === null ? [] : all.slice(0, Math.max(0, all.length - change.keep));
      return done({ begun: null, snapshots: all.slice(gone.length), leaving: [...before.leaving, ...gone] });
    }
    case 'remove': {
      const gone = before.snapshots.find(({ sequence }) => sequence === change.sequence);
      if (gone === undefined) return { ok: false, reason: `there is no snapshot ${change.sequence}` };
      return done({ snapshots: before.snapshots.filter((entry) => entry !== gone), leaving: [...before.leaving, gone] });
    }
    case 'left':
      return done({ leaving: before.leaving.filter(({ sequence }) => sequence !== change.sequence) });
    case 'swept':
      return done({ begun: null });
  }
}

export const newestOf = (catalogue: Pick<VolumeCatalogue, 'snapshots'> | null): CatalogueEntry | null => catalogue?.snapshots.at(-1) ?? null;

/** Where things of a volume lie in the bucket of the edgepoint that made them. */
export const volumeObjects = (owner: string, volume: string) => {
  const base = `${owner}.${volume}`;
  return {
    catalogue: `${base}.catalogue`,
    index: (sequence: number): string => `${base}.${sequence}.index`,
    chunk: ({ sequence, number }: Pick<ChunkRef, 'sequence' | 'number'>): string => `${base}.${sequence}.${number}`,
  };
};

/** How little must be free for a volume to be called full: a program that writes more is refused now, or soon. */
export function isFull({ sizeBytes, freeBytes }: { readonly sizeBytes: number; readonly freeBytes: number }): boolean {
  return freeBytes < Math.max(64 * 1024, sizeBytes / 100);
}
