import { formatBytes, formatMs, nsPerMs } from '../../kit/units.ts';

/** A template on this edgepoint's disk. */
export interface DiskTemplate {
  /** provider.scope.app */
  readonly app: string;
  readonly release: number;
  readonly bytes: number;
  /** It is in the object store too, whole. */
  readonly stored: boolean;
  readonly serves: boolean;
  /** An instance of its app is there, or on its way. */
  readonly used: boolean;
  /** Unused for so long; null when it has not been used since the head began. */
  readonly idleNs: number | null;
}

export interface DiskView {
  readonly templates: readonly DiskTemplate[];
  /** What templates may take on the disk; null: as much as leaves `spareBytes` free. */
  readonly bytesMax: number | null;
  readonly freeBytes: number;
  readonly spareBytes: number;
}

export interface Leaving {
  readonly app: string;
  readonly release: number;
  readonly reason: string;
}

export interface DiskPlan {
  readonly leave: readonly Leaving[];
  /** Why not more, for people. */
  readonly notes: readonly string[];
}

/**
 * Which templates leave the disk for the object store, where they are already, so that there is room: what is superseded first, then what
 * has not been used for longest. What is used stays: its next instance would wait for it.
 */
export function planDisk(view: DiskView): DiskPlan {
  const { templates, bytesMax, freeBytes, spareBytes } = view;
  const heldBytes = templates.reduce((sum, template) => sum + template.bytes, 0);
  const overBytes = bytesMax === null ? spareBytes - freeBytes : heldBytes - bytesMax;
  if (overBytes <= 0) return { leave: [], notes: [] };
  const why = bytesMax === null ? `only ${formatBytes(freeBytes)} of the disk are free, and ${formatBytes(spareBytes)} should be` : `templates take ${formatBytes(heldBytes)} of the disk, and ${formatBytes(bytesMax)} is what they may`;
  const leave: Leaving[] = [];
  let leftBytes = overBytes;
  for (const template of templates.filter(({ stored, used }) => stored && !used).toSorted(firstOf)) {
    if (leftBytes <= 0) break;
    leftBytes -= template.bytes;
    leave.push({ app: template.app, release: template.release, reason: `${why}; ${unusedFor(template)}` });
  }
  return { leave, notes: leftBytes > 0 ? [`${why}; of what is left ${formatBytes(leftBytes)} more should go, and nothing may: it is used, or not in the object store`] : [] };
}

function unusedFor({ serves, idleNs }: DiskTemplate): string {
  if (!serves) return 'a newer release serves';
  return idleNs === null ? 'it has not been used lately' : `it has not been used for ${formatMs(idleNs / nsPerMs)}`;
}

function firstOf(one: DiskTemplate, other: DiskTemplate): number {
  return Number(one.serves) - Number(other.serves) || (other.idleNs ?? Infinity) - (one.idleNs ?? Infinity) || other.bytes - one.bytes || (one.app < other.app ? -1 : Number(one.app > other.app)) || one.release - other.release;
}
