/**
 * Two clocks. Durations, leases and usage use the boot clock (CLOCK_BOOTTIME, clock_gettime(2)) with the boot id;
 * wall time only labels what people read, and may jump.
 */
export interface Clock {
  /** Nanoseconds since this machine booted, counting suspended time; never goes back while `bootId` stays the same. */
  readonly bootNs: () => number;
  /** The kernel's boot id (/proc/sys/kernel/random/boot_id): boot times of two boots must never be compared. */
  readonly bootId: string;
  /** Milliseconds since 1970, for labels only. */
  readonly wallMs: () => number;
}
