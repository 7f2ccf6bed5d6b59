import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { boxPlaces, fillPath, heldPath, instanceFolder, pagerPath, recordPath, snapshottedMark } from '../box/folders.ts';
import { unmount } from '../box/kernel.ts';
import { mountsBelow, readMountinfo } from '../box/mount-table.ts';

/** Removes folders and files that belong to no instance: what a kill -9 left between two steps. */
export function sweepInstances(runFolder: string, instances: readonly string[]): void {
  const folder = boxPlaces(runFolder).instances;
  const places = [instanceFolder, recordPath, snapshottedMark, fillPath, heldPath, pagerPath];
  const kept = new Set(instances.flatMap((instance) => [...places.map((place) => place(runFolder, instance)), `${heldPath(runFolder, instance)}.new`]));
  for (const path of readdirSync(folder).map((name) => join(folder, name))) {
    if (kept.has(path)) continue;
    for (const point of mountsBelow(readMountinfo(), path)) unmount(point);
    rmSync(path, { recursive: true, force: true });
  }
}
