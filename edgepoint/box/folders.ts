import { join } from 'node:path';

/** Where an edgepoint keeps what its instances are made of. One table, so that snapd, restored and the clean-up agree. */
export interface BoxPlaces {
  /** `<runFolder>/instances`, for folders and records of live instances; lost at a reboot, like the instances. */
  readonly instances: string;
  /** The minimal /dev all instances share. */
  readonly dev: string;
}

export function boxPlaces(runFolder: string): BoxPlaces {
  return { instances: join(runFolder, 'instances'), dev: join(runFolder, 'dev') };
}

/** The folder of one instance: `private` (its disk), `root` (what it sees), `v0`, `v1` (its volumes). */
export function instanceFolder(runFolder: string, instance: string): string {
  return join(boxPlaces(runFolder).instances, instance);
}

export function recordPath(runFolder: string, instance: string): string {
  return join(boxPlaces(runFolder).instances, `${instance}.json`);
}

/** What of its memory the instance needed at once after its last thaw, as `edgepoint-box resident` prints it. */
export function hotPath(runFolder: string, instance: string): string {
  return join(instanceFolder(runFolder, instance), 'hot');
}

/** What the instance has changed of its file system, and where its output goes: see make_disk_and_root in mounts.c. */
export function upperFolder(runFolder: string, instance: string): string {
  return join(instanceFolder(runFolder, instance), 'private/upper');
}

export function logPath(runFolder: string, instance: string): string {
  return logIn(upperFolder(runFolder, instance));
}

/** Where on a private disk, an instance's or a snapshot's, the output of the program goes (see make_disk_and_root in mounts.c). */
export function logIn(disk: string): string {
  return join(disk, 'var/log/app.log');
}

/** An unpacked snapshot's folder. */
export function snapshotParts(snapshotPath: string): { images: string; disk: string; firstPages: string } {
  return {
    images: join(snapshotPath, 'images'),
    disk: join(snapshotPath, 'disk'),
    /** What lazy restores give first, noted by the first of them (pages.c); may be absent. */
    firstPages: join(snapshotPath, 'first-pages'),
  };
}

/** Of a lazily restored instance, while its memory is on its way: see fill.ts. */
export function fillPath(runFolder: string, instance: string): string {
  return join(boxPlaces(runFolder).instances, `${instance}.fill`);
}

/** Of an instance whose memory a pager holds (pager.c): the file that tells so, and the pager's socket. See held.ts. */
export function heldPath(runFolder: string, instance: string): string {
  return join(boxPlaces(runFolder).instances, `${instance}.held`);
}

export function pagerPath(runFolder: string, instance: string): string {
  return join(boxPlaces(runFolder).instances, `${instance}.pager`);
}

/** Laid by snapd before a snapshot that ends the instance, so that restored does not take the end for a crash. */
export function snapshottedMark(runFolder: string, instance: string): string {
  return join(boxPlaces(runFolder).instances, `${instance}.snapshotted`);
}
