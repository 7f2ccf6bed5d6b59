import type { InstanceState } from './fleet.ts';

interface Drain {
  readonly park: boolean;
  readonly end: (drained: boolean) => void;
}

/** Drains under way: each ends when nothing is under way at its instance, or with its time. */
export class Drains {
  private readonly underWay = new Map<InstanceState, Drain>();

  /** `reopen` is called when the drain failed. A second drain of the same instance ends the first. */
  begin(state: InstanceState, order: { park: boolean; timeoutMs: number; reopen: () => void }): Promise<{ drained: boolean }> {
    this.end(state, false);
    state.way = 'draining';
    state.parked = order.park;
    state.closeIdle();
    if (order.park) for (const tunnel of state.tunnels) tunnel.park();
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.end(state, false), order.timeoutMs);
      const end = (drained: boolean): void => {
        clearTimeout(timer);
        this.underWay.delete(state);
        if (drained) state.way = 'drained';
        else order.reopen();
        resolve({ drained });
      };
      this.underWay.set(state, { park: order.park, end });
      this.check(state);
    });
  }

  /** Ends the drain of this instance, if there is one. */
  end(state: InstanceState, drained: boolean): void {
    this.underWay.get(state)?.end(drained);
  }

  /** Something ended at this instance. */
  check(state: InstanceState): void {
    const drain = this.underWay.get(state);
    if (drain !== undefined && state.outstanding === 0 && (drain.park || state.tunnels.size === 0)) drain.end(true);
  }
}
