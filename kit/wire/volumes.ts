import { z } from 'zod';
import { namePattern } from '../ids.ts';
import { defineMessage } from './version.ts';

/**
 * What the conduit asks of an edgepoint about the volumes of an app (subjects.ts, `volumesSubject`). The edgepoint answers with lines until
 * one that ends; it says every few seconds that it is still at work. What has begun goes on, whoever listens.
 */
export const volumeOperations = ['list', 'snapshot', 'restore', 'remove'] as const;
export const snapshotsKeptMax = 30;

const askSchema = z.object({
  provider: z.string(),
  scope: z.string(),
  app: z.string(),
  operation: z.enum(volumeOperations),
  /** Empty for `list`: all of the app. */
  volume: z.string().max(64).default(''),
  /** Number of a snapshot: what to restore or to remove. */
  snapshot: z.int().min(0).default(0),
  /** After a snapshot so many of the newest stay; null: all. */
  keep: z.int().min(1).max(snapshotsKeptMax).nullable().default(null),
  /** `<zone>.<edgepoint>` that made the snapshot; empty: the one that is asked. */
  from: z.string().max(100).default(''),
});
export type VolumesAsk = z.output<typeof askSchema>;
export const volumesAskMessage = defineMessage('volumes-ask', { major: 1, minor: 0 }, askSchema);

export const volumeSnapshotSchema = z.object({
  snapshot: z.int(),
  takenWallMs: z.number(),
  release: z.int(),
  /** Of the volume's own data, in plain text. */
  dataBytes: z.number(),
  /** What it added to the object store: compressed, and without what an earlier one has already. */
  newBytes: z.number(),
});
export type VolumeSnapshotFacts = z.output<typeof volumeSnapshotSchema>;

export const volumeFactsSchema = z.object({
  volume: z.string().regex(namePattern),
  path: z.string(),
  sizeBytes: z.number(),
  /** Null while nobody has written it: it is made with the first instance. */
  usedBytes: z.number().nullable(),
  freeBytes: z.number().nullable(),
  /** A program that writes more gets ENOSPC now, or soon. */
  full: z.boolean(),
  /** What its snapshots take in the object store; null when that could not be asked. */
  storedBytes: z.number().nullable(),
  snapshots: z.array(volumeSnapshotSchema),
});
export type VolumeFacts = z.output<typeof volumeFactsSchema>;

export const volumesLineSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('beat') }),
  z.object({ type: z.literal('progress'), text: z.string() }),
  z.object({ type: z.literal('volumes'), zone: z.string(), edgepoint: z.string(), volumes: z.array(volumeFactsSchema) }),
  /** The last line: it is done. */
  z.object({ type: z.literal('done'), text: z.string(), figures: z.record(z.string(), z.number()) }),
  /** The last line: a stable code, a sentence, and what to do. */
  z.object({ type: z.literal('failed'), code: z.string().max(64), text: z.string().max(2000), remedy: z.string().max(1000).default('') }),
]);
export type VolumesLine = z.output<typeof volumesLineSchema>;
export const volumesLineMessage = defineMessage('volumes-line', { major: 1, minor: 0 }, z.object({ line: volumesLineSchema }));

/** Between two lines of an edgepoint that is at work; after the second it counts as gone. */
export const volumesBeatMs = 5000;
export const volumesSilentMsMax = 30_000;
