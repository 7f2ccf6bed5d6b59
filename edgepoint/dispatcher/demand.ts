import type { Demand } from '../model/calls.ts';
import type { AppState } from './fleet.ts';
import { limits } from './limits.ts';

/** Where demand is told; false when nobody hears. */
export type TellDemand = (demand: Demand) => boolean;

/** Tells changed demand: at once when requests begin to wait, otherwise all changes of `demandMs` together. Works only for what changed. */
export class DemandTeller {
  private readonly changed = new Set<AppState>();
  private timer: ReturnType<typeof setTimeout> | null = null;
  private readonly tell: TellDemand;
  private readonly describe: (app: AppState) => Demand;

  constructor(tell: TellDemand, describe: (app: AppState) => Demand) {
    this.tell = tell;
    this.describe = describe;
  }

  demandChanged(app: AppState, urgent: boolean): void {
    if (urgent) {
      if (this.tell(this.describe(app))) this.changed.delete(app);
      else this.changed.add(app);
      return;
    }
    this.changed.add(app);
    this.timer ??= setTimeout(() => this.flush(), limits.demandMs);
  }

  /** Tells everything; what nobody heard stays changed and is told with the next `flush`. */
  flush(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    for (const app of this.changed) if (this.tell(this.describe(app))) this.changed.delete(app);
  }
}
