import { readFileSync, writeFileSync } from 'node:fs';
import { snapshotParts } from '../box/folders.ts';
import type { InstanceRecord } from '../box/record.ts';
import type { SnapshotTaken } from '../model/calls.ts';

/** What `snapshot.json` says of a snapshot. */
export interface SnapshotDescription {
  readonly instance: string;
  readonly owner: InstanceRecord['order']['owner'];
  readonly release: number;
  readonly uidSlot: number;
  readonly address: string;
  readonly volumes: readonly string[];
  /** `SnapshotTaken.unguarded` */
  readonly unguarded: readonly string[];
  readonly taken: SnapshotTaken;
}

export function describeSnapshot(record: InstanceRecord, unguarded: readonly string[]): Omit<SnapshotDescription, 'taken'> {
  const { instance, owner, release, uidSlot, volumes } = record.order;
  return { instance, owner, release, uidSlot, address: record.address, volumes: volumes.map((volume) => volume.mountPath), unguarded };
}

export function writeDescription(snapshotPath: string, description: SnapshotDescription): void {
  writeFileSync(snapshotParts(snapshotPath).description, JSON.stringify(description));
}

/** Null when there is no whole snapshot at the path. */
export function readDescription(snapshotPath: string): SnapshotDescription | null {
  try {
    return JSON.parse(readFileSync(snapshotParts(snapshotPath).description, 'utf8')) as SnapshotDescription;
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return null;
    throw error;
  }
}
