import { limits } from './limits.ts';
import type { Outlet } from './outlet.ts';

/** Sees a client that takes nothing of what is queued for it. */
export class StallWatch {
  private bytes = 0;
  private sinceMs = 0;

  /** True when nothing has left for `writeMs`, though something waits. */
  stalls(outlet: Outlet, nowMs: number): boolean {
    if (!outlet.blocked || outlet.writtenBytes !== this.bytes) {
      this.bytes = outlet.writtenBytes;
      this.sinceMs = nowMs;
      return false;
    }
    return nowMs - this.sinceMs >= limits.writeMs;
  }
}
