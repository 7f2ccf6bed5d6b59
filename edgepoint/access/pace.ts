/** A bound on bytes a second, of many streams together: each waits for what went before it. */
export class Pace {
  private readonly bytesPerMs: number;
  private freeMs = 0;

  constructor(bytesPerSecond: number) {
    this.bytesPerMs = bytesPerSecond / 1000;
  }

  /** How long whoever has just taken so many bytes waits. */
  waitMs(bytes: number, nowMs: number): number {
    this.freeMs = Math.max(this.freeMs, nowMs) + bytes / this.bytesPerMs;
    return this.freeMs - nowMs;
  }
}
