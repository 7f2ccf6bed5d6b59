import { bytesPerGibibyte, bytesPerMebibyte, formatBytes, formatMs, nsPerMs, nsPerSecond } from '../../../kit/units.ts';
import type { WakeBy } from '../../model/app.ts';
import { type FrozenRoom, type Holder, heldShare, pagerFromBytes } from '../../model/frozen.ts';

/**
 * Where an instance belongs that nobody uses: warm, frozen (it stands still, its memory compressed), or asleep (only an image on disk).
 * The cost of holding it until it is wanted again stands against what its next end user would wait for a wake from disk.
 */
export interface TierView {
  /** Unused for so long; and how long its manifest lets it be unused before it may leave. */
  readonly idleNs: number;
  readonly idleNsAllowed: number;
  readonly wakeBy: WakeBy;
  /** Measured from the order to the first answer, by its restore or its cold boot; null when nobody has measured it. */
  readonly wakeMs: number | null;
  /** Size of the image it would be restored from, which is about the memory it holds; 0 when there is none. */
  readonly imageBytes: number;
  /** What its offering promises: what it may hold where no image says more. */
  readonly memoryBytes: number;
  /** How long it was unused before it was wanted again, the last times it was unused for longer than allowed; the newest last. */
  readonly gapsNs: readonly number[];
  /** The part, 0 to 1, of the edgepoint's memory that is promised. */
  readonly load: number;
  /** Of one that is frozen already it is not asked whether there is room, only who holds it. */
  readonly frozenRoom: FrozenRoom;
  /** Others of its app hold memory too: of those that are unused one is held at most. */
  readonly others: boolean;
  /** It stands still already. */
  readonly frozen: boolean;
  /** It could not be frozen before. */
  readonly cannotFreeze: boolean;
}

export interface TierChoice {
  readonly tier: 'warm' | 'frozen' | 'asleep';
  readonly reason: string;
  /** When another tier is the better one although nothing happens; null: never, or by what else changes. */
  readonly forNs: number | null;
}

/** A thaw's own wait (docs/MEASURED.md). */
const thawMs = 10;
/** What a wake from disk may take, at most, by the size of its image: a trial on a busy machine must not make a small app look slow. */
const wakeMsSmallest = 30;
const wakeMsPerMebibyte = 0.6;
/** A sleep with its state writes the image anew: so much work is saved, too, as long as it is only frozen. */
const snapshotMsPerMebibyte = 0.5;
/** A wait below this nobody notices: such an app sleeps. A cold boot is measured once only, on whatever the machine did then. */
const unnoticedMs = 100;
const unnoticedColdMs = 1000;
/** What a frozen instance holds beside what is held compressed for it: what its thaw needs, and what is the kernel's. */
const heldBytesFixed = 32 * bytesPerMebibyte;
/** The price of memory on an empty edgepoint: so many milliseconds of somebody's wait for holding a GiB for a second. It rises as memory gets scarce. */
const priceMs = 1;
/** Nobody knows that an app will be wanted again at all. */
const frozenNsMax = 3600 * nsPerSecond;

/** Milliseconds that the next end user waits longer when it sleeps. */
export function savedMs(view: TierView): number {
  if (view.wakeMs === null) return 0;
  const bySizeMs = wakeMsSmallest + (view.imageBytes / bytesPerMebibyte) * wakeMsPerMebibyte;
  return Math.max(0, (view.wakeBy === 'cold' ? view.wakeMs : Math.min(view.wakeMs, bySizeMs)) - thawMs);
}

/** How long it is worth to be held frozen rather than asleep, from when it may leave. */
export function worthNs(view: TierView): number {
  const saved = savedMs(view);
  if (saved < (view.wakeBy === 'cold' ? unnoticedColdMs : unnoticedMs)) return 0;
  const snapshotMs = view.wakeBy === 'keep' ? (view.imageBytes / bytesPerMebibyte) * snapshotMsPerMebibyte : 0;
  const heldGibibytes = (memoryOf(view) * heldShare[holderOf(view) ?? 'zram'] + heldBytesFixed) / bytesPerGibibyte;
  const scarcity = 1 / Math.max(0.01, 1 - Math.min(1, view.load));
  return Math.min(frozenNsMax, ((saved + snapshotMs) / (heldGibibytes * priceMs * scarcity)) * nsPerSecond);
}

function memoryOf(view: TierView): number {
  return view.imageBytes > 0 ? view.imageBytes : view.memoryBytes;
}

/** Who would hold its memory, or does; null: nobody, so freezing it would give nothing back. */
export function holderOf(view: TierView): Holder | null {
  if (view.frozenRoom.pagerBytes !== null && memoryOf(view) >= pagerFromBytes) return 'pager';
  return view.frozenRoom.zramBytes === null ? null : 'zram';
}

/** Why it cannot be frozen now; empty when it can. */
function obstacleToFreeze(view: TierView, holder: Holder): string {
  const roomBytes = (holder === 'pager' ? view.frozenRoom.pagerBytes : view.frozenRoom.zramBytes) ?? 0;
  if (memoryOf(view) <= roomBytes) return '';
  return holder === 'pager' ? `${formatBytes(memoryOf(view))} are more than pagers may still take` : `${formatBytes(memoryOf(view))} do not fit on zram any more`;
}

export function planTier(view: TierView): TierChoice {
  if (view.idleNs < view.idleNsAllowed) return { tier: 'warm', reason: 'used lately', forNs: view.idleNsAllowed - view.idleNs };
  const idle = `unused for ${seconds(view.idleNs)}`;
  const asleep = (why: string): TierChoice => ({ tier: 'asleep', reason: why === '' ? idle : `${idle}; ${why}`, forNs: null });
  if (view.cannotFreeze) return asleep('it cannot be frozen');
  const holder = holderOf(view);
  if (!view.frozen && (view.others || holder === null)) return asleep('');
  const worth = worthNs(view);
  if (worth === 0) return asleep('');
  const obstacle = view.frozen || holder === null ? '' : obstacleToFreeze(view, holder);
  if (obstacle !== '') return asleep(obstacle);
  const leftNs = view.idleNsAllowed + worth - view.idleNs;
  const wait = `a wake from disk takes its next user ${formatMs(savedMs(view))} longer`;
  if (leftNs <= 0) return asleep(`holding it frozen costs more by now than that ${wait}`);
  const usualNs = usualGapNs(view.gapsNs);
  if (!view.frozen && usualNs !== null && usualNs > view.idleNsAllowed + worth) return asleep(`it is usually wanted again after ${seconds(usualNs)}, too long to be held frozen`);
  const why = `${wait}, which is worth ${seconds(worth)} of holding it`;
  return { tier: 'frozen', reason: view.frozen ? why : `${idle}; ${why}`, forNs: leftNs };
}

/** The middle one of the gaps; null while there are too few to tell. */
function usualGapNs(gapsNs: readonly number[]): number | null {
  const enough = 3;
  if (gapsNs.length < enough) return null;
  return gapsNs.toSorted((a, b) => a - b)[Math.floor(gapsNs.length / 2)] ?? null;
}

function seconds(ns: number): string {
  return ns < 120 * nsPerSecond ? `${(ns / nsPerSecond).toFixed(1)} s` : formatMs(ns / nsPerMs);
}
