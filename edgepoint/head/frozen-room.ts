import { readZramSwap, zramRoomBytes } from '../../host/zram.ts';
import type { FrozenRoom, PagersHold } from '../model/frozen.ts';
import { pagerRoomBytes } from '../model/frozen.ts';
import type { HeadSettings } from './settings.ts';

/** What frozen memory may still take, as settings and kernel have it now; `pagers`: what restored said last. */
export function frozenRoom(settings: HeadSettings, pagers: PagersHold | null): FrozenRoom {
  const swap = readZramSwap();
  const given = settings.frozenRoomBytes;
  if (given !== undefined) return { zramBytes: given, pagerBytes: pagers === null ? null : given };
  return { zramBytes: swap === null ? null : zramRoomBytes(swap, pagers?.heldBytes), pagerBytes: pagerRoomBytes(pagers, swap?.heldBytes ?? 0) };
}
