import { formatBytes } from '../../../kit/units.ts';
import { planEvict } from './evict.ts';
import { planPlace, soleModule } from './place.ts';
import type { IdleView, RoomView } from './view.ts';

/** Whether an instance may start now: yes; when others have left; or not at all, for a reason end users' 503 can carry. */
export type Admission =
  | { readonly verdict: 'start'; readonly module: string; readonly reason: string }
  | { readonly verdict: 'wait'; readonly evict: readonly IdleView[]; readonly reason: string }
  | { readonly verdict: 'refuse'; readonly reason: string };

export function planAdmit(room: RoomView, app: string, memoryBytes: number): Admission {
  const place = planPlace([{ name: soleModule, freeBytes: room.capacityBytes - room.usedBytes }], memoryBytes);
  if (place !== null) return { verdict: 'start', module: place.module, reason: place.reason };
  const neededBytes = memoryBytes - (room.capacityBytes - room.usedBytes) - room.leavingBytes;
  if (neededBytes <= 0) return { verdict: 'wait', evict: [], reason: 'others are on their way to sleep' };
  const evict = planEvict(room.idle, neededBytes, app);
  if (evict !== null) return { verdict: 'wait', evict, reason: `makes room by putting ${evict.length} unused to sleep` };
  return {
    verdict: 'refuse',
    reason: `this edgepoint is full: ${formatBytes(memoryBytes)} wanted, ${formatBytes(Math.max(0, room.capacityBytes - room.usedBytes))} of ${formatBytes(room.capacityBytes)} free, and nobody is unused`,
  };
}
