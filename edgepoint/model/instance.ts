import type { Owner } from '../../kit/ids.ts';

/**
 * The modes of an instance and the one door between them.
 *
 *   cold -> booting -> warm -> draining -> asleep -> restoring -> warm
 *                              draining -> frozen -> restoring
 *                                          frozen -> draining
 *   anything -> failed
 *
 * warm: running, in the route table. frozen: stopped by the cgroup freezer. asleep: only an image on disk.
 * draining: no longer given requests, about to be frozen, to sleep or to end. restoring: on its way to warm, from an image or the freezer.
 */
export type InstanceMode = 'cold' | 'booting' | 'warm' | 'frozen' | 'asleep' | 'restoring' | 'draining' | 'failed';

const nextModes: Readonly<Record<InstanceMode, readonly InstanceMode[]>> = {
  cold: ['booting', 'restoring'],
  booting: ['warm', 'failed'],
  warm: ['draining', 'failed'],
  frozen: ['restoring', 'draining', 'failed'],
  draining: ['asleep', 'frozen', 'warm', 'failed'],
  asleep: ['restoring', 'booting', 'failed'],
  restoring: ['warm', 'failed'],
  failed: [],
};

export function mayFollow(from: InstanceMode, to: InstanceMode): boolean {
  return nextModes[from].includes(to);
}

export interface Instance {
  readonly id: string;
  readonly owner: Owner;
  readonly release: number;
  readonly mode: InstanceMode;
  /** Boot clock, when it came into this mode. */
  readonly sinceBootNs: number;
  /** Address inside the edgepoint, once it has one. */
  readonly address: string;
  /** Why it is in this mode. */
  readonly reason: string;
}

/** The instance in its new mode; throws when the mode may not follow (a broken invariant, not an operating failure). */
export function enterMode(instance: Instance, mode: InstanceMode, nowBootNs: number, reason: string): Instance {
  if (!mayFollow(instance.mode, mode)) {
    throw new Error(`broken invariant: instance ${instance.id} cannot go from ${instance.mode} to ${mode} (${reason})`);
  }
  return { ...instance, mode, sinceBootNs: nowBootNs, reason };
}
