import { z } from 'zod';
import { namePattern } from '../../kit/ids.ts';
import type { Owner, Site } from '../../kit/ids.ts';

/** A volume of an app. */
export interface VolumeName {
  readonly owner: Owner;
  readonly volume: string;
}

const name = z.string().regex(namePattern);
const digest = z.string().regex(/^[0-9a-f]{64}$/);

/** One snapshot, as the catalogue of its volume has it. */
const entrySchema = z.object({
  /** Its number: counts up within the volume, and is never used again. */
  sequence: z.int().min(1),
  takenWallMs: z.number(),
  release: z.int().min(1),
  /** Of the volume, and of what lies in it in plain text. */
  sizeBytes: z.int().min(1),
  dataBytes: z.int().min(0),
  /** Chunks that were sealed for it, with its index. */
  newBytes: z.int().min(0),
  index: z.object({ bytes: z.int().min(1).max(16 * 1024 * 1024), digest }),
});
export type CatalogueEntry = z.output<typeof entrySchema>;

/**
 * What there is of a volume in the object store, in one message that is replaced whole and signed by the edgepoint that writes it. What it does
 * not name is not there.
 */
export const catalogueSchema = z.object({
  version: z.literal(1),
  zone: name,
  edgepoint: name,
  owner: z.object({ provider: name, scope: name, app: name }),
  volume: name,
  /** Random: with the provider's key it gives the volume's. */
  salt: digest,
  /** The number of the next snapshot. */
  next: z.int().min(1),
  /** The number of a snapshot that was begun: chunks of it may lie there, and nobody names them. */
  begun: z.int().min(1).nullable(),
  snapshots: z.array(entrySchema).max(64),
  /** Removed; chunks that no other snapshot has may lie there still. */
  leaving: z.array(entrySchema).max(64),
  /** The volume's key, wrapped for edgepoints that may open it, by `<zone>.<edgepoint>`. */
  grants: z.record(z.string(), z.string()),
});
export type VolumeCatalogue = z.output<typeof catalogueSchema>;
export const catalogueBytesMax = 256 * 1024;

/** Where a chunk's 2 MiB belong in the volume, and in which snapshot they were sealed. */
export const chunkRefSchema = z.object({
  number: z.int().min(0),
  sequence: z.int().min(1),
  /** Sealed. */
  bytes: z.int().min(1).max(4 * 1024 * 1024),
  digest,
  /** Of the plain text, under a key of the volume: equal marks are equal bytes, and say nothing to others. */
  mark: digest,
});
export type ChunkRef = z.output<typeof chunkRefSchema>;

/** All of one snapshot: chunks that are not named hold zeros. Its digest stands in the catalogue. */
export const volumeIndexSchema = z.object({
  version: z.literal(1),
  owner: catalogueSchema.shape.owner,
  volume: name,
  sequence: z.int().min(1),
  sizeBytes: z.int().min(1),
  codec: z.string(),
  /** The random salt of each snapshot in which a chunk of this one was sealed, by its number. */
  salts: z.record(z.string(), digest),
  chunks: z.array(chunkRefSchema),
});
export type VolumeIndex = z.output<typeof volumeIndexSchema>;

export type CatalogueChange =
  /** Before a chunk of it is sent. */
  | { readonly kind: 'begin' }
  /** All of what was begun is there. */
  | { readonly kind: 'finish'; readonly entry: CatalogueEntry; readonly keep: number | null }
  | { readonly kind: 'remove'; readonly sequence: number }
  /** Nothing is left of a snapshot that was removed; of what was begun. */
  | { readonly kind: 'left'; readonly sequence: number }
  | { readonly kind: 'swept' };

export interface VolumeUse {
  readonly volume: string;
  readonly sizeBytes: number;
  /** Null when its image has not been made. */
  readonly usedBytes: number | null;
  readonly freeBytes: number | null;
}

export interface VolumeCopied {
  /** How long nothing could be written to it; 0 when nobody had it mounted. */
  readonly frozenMs: number;
  readonly copyMs: number;
  readonly sealMs: number;
  readonly sizeBytes: number;
  readonly dataBytes: number;
  /** Sealed for this snapshot, one after the other in `chunks`; the index names them in that order. */
  readonly newChunks: number;
  readonly newBytes: number;
  readonly index: CatalogueEntry['index'];
}

/** snapd, which is root and holds the keys. One order for a volume at a time; whoever orders sees to that. */
export interface VolumeCalls {
  /** What is used of volumes of one app. */
  volumeUse(order: { owner: Owner; volumes: readonly { volume: string; sizeBytes: number }[] }): Promise<readonly VolumeUse[]>;
  /**
   * Copies a volume as it is at one moment (nothing is written meanwhile), and seals what differs from the newest snapshot: `indexFile` is
   * that one's index, empty for none. Failures: `volume-missing`, `disk-full`, `volume-busy`, `snapshot-refused`.
   */
  copyVolume(order: VolumeName & { catalogue: string; indexFile: string }): Promise<VolumeCopied>;
  /** A piece of what was copied and sealed, in base64; shorter than asked for at its end. */
  readVolumeCopy(order: VolumeName & { part: 'chunks' | 'index'; from: number; bytes: number }): Promise<{ readonly base64: string }>;
  /** Removes what a copy or an admission has left; absent is success. */
  discardVolumeCopy(order: VolumeName): Promise<void>;
  /** The text of the catalogue after the change, signed; before it, of this edgepoint (empty: of a volume that has none). */
  changeCatalogue(order: VolumeName & { catalogue: string; change: CatalogueChange }): Promise<{ readonly text: string }>;
  /**
   * Verifies every byte of a snapshot and lays it beside the volume: `chunksFile` holds its chunks in the index's order. What is not exactly
   * what was sealed is refused (`snapshot-refused`), and nothing is left.
   */
  admitVolume(order: VolumeName & { catalogue: string; from: Site; sequence: number; indexFile: string; chunksFile: string; sizeBytesMax: number }): Promise<{ readonly tookMs: number }>;
  /** What was admitted takes the volume's place, in one step. Failure `volume-busy` while an instance has it. */
  swapVolume(order: VolumeName): Promise<void>;
}
