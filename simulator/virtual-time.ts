import { nsPerMs } from '../kit/units.ts';

interface Event {
  readonly atNs: number;
  /** Events of one moment happen in the order in which they were planned. */
  readonly sequence: number;
  run: (() => void) | null;
}

/**
 * A clock that jumps from event to event. Code that awaits runs on it unchanged: after whatever may have let a promise go on, time
 * stands still until all of them have.
 */
export class VirtualTime {
  nowNs = 0;
  private readonly heap: Event[] = [];
  private sequence = 0;
  private unsettled = false;

  /** Calls back at that time, never before now; the returned function forgets it. */
  at(atNs: number, run: () => void): () => void {
    const event: Event = { atNs: Math.max(atNs, this.nowNs), sequence: this.sequence, run };
    this.sequence += 1;
    this.push(event);
    return () => {
      event.run = null;
    };
  }

  /** A promise that is kept `ms` milliseconds from now. */
  async pass(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.at(this.nowNs + ms * nsPerMs, () => {
        this.settle();
        resolve();
      });
    });
  }

  /** Somebody who awaits may go on: time waits for it. */
  settle(): void {
    this.unsettled = true;
  }

  async runUntil(endNs: number): Promise<void> {
    await this.settled();
    for (let next = this.heap[0]; next !== undefined && next.atNs <= endNs; next = this.heap[0]) {
      this.pop();
      if (next.run === null) continue;
      this.nowNs = next.atNs;
      next.run();
      if (this.unsettled) await this.settled();
    }
    this.nowNs = endNs;
  }

  private async settled(): Promise<void> {
    this.unsettled = false;
    await new Promise<void>((resolve) => void setImmediate(resolve));
  }

  private push(event: Event): void {
    const { heap } = this;
    let index = heap.length;
    heap.push(event);
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above] as Event;
      if (!isBefore(event, parent)) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = event;
  }

  private pop(): void {
    const { heap } = this;
    const last = heap.pop() as Event;
    if (heap.length === 0) return;
    let index = 0;
    for (;;) {
      let below = 2 * index + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && isBefore(heap[below + 1] as Event, heap[below] as Event)) below += 1;
      const child = heap[below] as Event;
      if (!isBefore(child, last)) break;
      heap[index] = child;
      index = below;
    }
    heap[index] = last;
  }
}

function isBefore(one: Event, other: Event): boolean {
  return one.atNs < other.atNs || (one.atNs === other.atNs && one.sequence < other.sequence);
}
