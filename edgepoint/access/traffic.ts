import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';

interface Count {
  readonly owner: Owner;
  readonly epoch: string;
  bytesIn: number;
  bytesOut: number;
  told: boolean;
}

/**
 * Bytes of accesses, by instance: totals, as the meter wants them (`Demand.traffic`). Each run of an instance has an epoch of its own, so
 * that a kept instance that wakes again under its name does not begin with what was counted before it slept.
 */
export class Traffic {
  private readonly byApp = new Map<string, Map<string, Count>>();
  private readonly begun: string;
  private epochs = 0;
  private readonly telling: (owner: Owner, traffic: { instance: string; epoch: string; bytesIn: number; bytesOut: number }) => void;

  constructor(begun: string, telling: Traffic['telling']) {
    this.begun = begun;
    this.telling = telling;
  }

  count(owner: Owner, instance: string, bytesIn: number, bytesOut: number): void {
    const key = ownerKey(owner);
    const ofApp = this.byApp.get(key) ?? new Map<string, Count>();
    this.byApp.set(key, ofApp);
    const count = ofApp.get(instance) ?? { owner, epoch: `access/${this.begun}/${(this.epochs += 1)}`, bytesIn: 0, bytesOut: 0, told: true };
    ofApp.set(instance, count);
    count.bytesIn += bytesIn;
    count.bytesOut += bytesOut;
    count.told = false;
  }

  tell(key: string): void {
    for (const [instance, count] of this.byApp.get(key) ?? []) {
      if (count.told) continue;
      count.told = true;
      const { owner, epoch, bytesIn, bytesOut } = count;
      this.telling(owner, { instance, epoch, bytesIn, bytesOut });
    }
  }

  /** Other instances of the app run no more. */
  keepOnly(key: string, instances: ReadonlySet<string>): void {
    const ofApp = this.byApp.get(key);
    if (ofApp === undefined) return;
    this.tell(key);
    for (const instance of ofApp.keys()) if (!instances.has(instance)) ofApp.delete(instance);
    if (ofApp.size === 0) this.byApp.delete(key);
  }
}
