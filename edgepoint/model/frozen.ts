import { bytesPerMebibyte } from '../../kit/units.ts';

/** Who holds the memory of a frozen instance: zram page by page (decision 110), or a pager of its own, in larger pieces (decision 136). */
export type Holder = 'zram' | 'pager';

/** From how much memory on a pager takes it. Of less it gives hardly more back than zram, for two processes. */
export const pagerFromBytes = 64 * bytesPerMebibyte;

/** The part of an instance's memory that its holder and the kernel still need for it, as it is counted on (measured: docs/MEASURED.md). */
export const heldShare: Readonly<Record<Holder, number>> = { zram: 1 / 2, pager: 1 / 4 };

/** Memory of instances, as large as it is in them, that each kind of holder still takes; null where the machine has none of that kind. */
export interface FrozenRoom {
  readonly zramBytes: number | null;
  readonly pagerBytes: number | null;
}

/** What all pagers hold, and what they and zram may hold together. In bytes, compressed. */
export interface PagersHold {
  readonly heldBytes: number;
  readonly heldBytesMax: number;
}

/** What pagers take beside a zram that holds `zramHeldBytes`; null where there can be no pagers. */
export function pagerRoomBytes(pagers: PagersHold | null, zramHeldBytes: number): number | null {
  return pagers === null ? null : Math.max(0, pagers.heldBytesMax - pagers.heldBytes - zramHeldBytes) / heldShare.pager;
}
