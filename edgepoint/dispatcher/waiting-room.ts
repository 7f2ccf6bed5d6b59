/**
 * Who waits for which application, in order of arrival. Bounded for one application and in all; whoever leaves early leaves at once.
 */
export class WaitingRoom<Waiter> {
  private readonly queues = new Map<string, Set<Waiter>>();
  private total = 0;
  private readonly bounds: { readonly perApp: number; readonly inAll: number };

  constructor(bounds: { readonly perApp: number; readonly inAll: number }) {
    this.bounds = bounds;
  }

  /** '' when the waiter was let in, else why not. */
  enter(app: string, waiter: Waiter): string {
    const queue = this.queues.get(app) ?? new Set<Waiter>();
    if (queue.size >= this.bounds.perApp) return `${this.bounds.perApp} requests wait for this application already`;
    if (this.total >= this.bounds.inAll) return `${this.bounds.inAll} requests wait here already`;
    if (queue.has(waiter)) throw new Error('broken invariant: a request waits once');
    queue.add(waiter);
    this.queues.set(app, queue);
    this.total += 1;
    return '';
  }

  /** False when it did not wait. */
  leave(app: string, waiter: Waiter): boolean {
    const queue = this.queues.get(app);
    if (queue === undefined || !queue.delete(waiter)) return false;
    this.total -= 1;
    if (queue.size === 0) this.queues.delete(app);
    return true;
  }

  /** The one who has waited longest; stays in the room. */
  first(app: string): Waiter | undefined {
    return this.queues.get(app)?.values().next().value;
  }

  /** Empties the queue of one application. */
  leaveAll(app: string): readonly Waiter[] {
    const queue = this.queues.get(app);
    if (queue === undefined) return [];
    this.queues.delete(app);
    this.total -= queue.size;
    return [...queue];
  }

  waiting(app: string): number {
    return this.queues.get(app)?.size ?? 0;
  }

  get size(): number {
    return this.total;
  }
}
