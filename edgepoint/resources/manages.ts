import type { ReleaseOrder } from '../model/app.ts';
import type { InstanceKeeper } from './keeper.ts';
import type { ResourcePorts } from './ports.ts';
import type { AppEntry, EdgepointEntry, InstanceEntry } from './state.ts';

/** What the second halves of steps (`wake-up.ts`, `go-to-sleep.ts`) need of the resource manager. */
export interface Manages {
  readonly state: EdgepointEntry;
  readonly keeper: InstanceKeeper;
  readonly ports: ResourcePorts;
  /** Plans for an app after it changed, and begins what is planned. */
  touch(app: AppEntry): void;
  /** Memory has come free: those that were refused or wait for it are looked at again. */
  touchRefused(): void;
  /** An instance that served is gone or useless: its requests are held for another from now on. */
  loseInstance(app: AppEntry, entry: InstanceEntry, reason: string, code: string): void;
  /** A new serving instance in the mode of what is done to it. */
  addServing(app: AppEntry, about: { id: string; order: ReleaseOrder; mode: 'booting' | 'restoring'; reason: string; meterId: string }): InstanceEntry;
}
