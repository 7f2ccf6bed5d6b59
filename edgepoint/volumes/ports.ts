import type { Owner, Site } from '../../kit/ids.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { VolumeCalls } from '../model/volumes.ts';

/** What lies in the bucket of one edgepoint; only that one may write. Failures are those of the bus. */
export interface VolumeObjects {
  put(id: string, content: Uint8Array): Promise<void>;
  get(id: string, about: { bytes: number; digest: string }): Promise<Uint8Array>;
  drop(id: string): Promise<void>;
  note(id: string): Promise<string | null>;
  putNote(id: string, text: string): Promise<void>;
}

/** What snapshots of a volume take in the object store, as the database remembers it. */
export interface StoredVolume {
  readonly owner: Owner;
  readonly volume: string;
  readonly bytes: number;
}

export interface VolumeRecords {
  storedVolumes(): Promise<readonly StoredVolume[]>;
  /** 0 bytes: forgotten. */
  saveStoredVolume(stored: StoredVolume): Promise<void>;
}

export interface VolumeLimits {
  readonly bytesMax: number;
  readonly providerBytesMax: number;
}

export interface VolumesPorts {
  readonly site: Site;
  readonly calls: VolumeCalls;
  readonly records: VolumeRecords;
  readonly limits: VolumeLimits;
  objects(site: Site): VolumeObjects;
  /** The release that serves an app here; null when none does. */
  serving(owner: Owner): ReleaseOrder | null;
  /** The app is wanted here, whether or not it serves. */
  hosts(owner: Owner): boolean;
  /** Works while no instance of the app is there; returns for how many milliseconds. */
  hold(owner: Owner, reason: string, work: () => Promise<void>): Promise<number>;
  /** A file that snapd may read, by its name; nothing is left of it afterwards. */
  withFile<T>(name: string, work: (path: string, append: (bytes: Uint8Array) => Promise<void>) => Promise<T>): Promise<T>;
  nowMs(): number;
  wallMs(): number;
  warn(text: string, fields: Record<string, unknown>): void;
}
