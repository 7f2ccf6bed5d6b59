import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { InstanceRecord } from '../box/record.ts';
import type { SnapshotTaken } from '../model/calls.ts';

/** What `snapshot.json`, beside the sealed snapshot, says of it: for an order that is repeated, and for people. No restore goes by it. */
export interface SnapshotDescription {
  readonly instance: string;
  readonly owner: InstanceRecord['order']['owner'];
  readonly release: number;
  readonly uidSlot: number;
  readonly address: string;
  readonly volumes: readonly string[];
  /** `SnapshotTaken.unguarded` */
  readonly unguarded: readonly string[];
  /** The base root it was started on; empty when nobody noted it. */
  readonly baseRoot: string;
  readonly taken: SnapshotTaken;
}

export function describeSnapshot(record: InstanceRecord, unguarded: readonly string[]): Omit<SnapshotDescription, 'taken'> {
  const { instance, owner, release, uidSlot, volumes } = record.order;
  const volumePaths = volumes.map((volume) => volume.mountPath);
  return { instance, owner, release, uidSlot, address: record.address, volumes: volumePaths, unguarded, baseRoot: record.baseRoot ?? '' };
}

const descriptionPath = (snapshotFolder: string): string => join(snapshotFolder, 'snapshot.json');

export function writeDescription(snapshotFolder: string, description: SnapshotDescription): void {
  writeFileSync(descriptionPath(snapshotFolder), JSON.stringify(description), { mode: 0o600, flush: true });
}

/** Null when there is no whole snapshot at the path. */
export function readDescription(snapshotFolder: string): SnapshotDescription | null {
  try {
    return JSON.parse(readFileSync(descriptionPath(snapshotFolder), 'utf8')) as SnapshotDescription;
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return null;
    throw error;
  }
}
