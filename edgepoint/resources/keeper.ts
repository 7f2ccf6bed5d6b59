import { Failure } from '../../kit/errors.ts';
import type { KernelCounters, RunningInstance } from '../model/calls.ts';
import type { ReleaseOrder } from '../model/app.ts';
import { bootOrder, restoreOrder } from '../model/orders.ts';
import type { DataPaths } from '../model/paths.ts';
import type { ResourcePorts } from './ports.ts';
import { dropInstance } from './state.ts';
import type { EdgepointEntry, InstanceEntry } from './state.ts';

/** How an instance comes to run. */
export type Start =
  | { readonly kind: 'boot'; readonly address: string | null }
  | { readonly kind: 'restore'; readonly snapshotPath: string; readonly address: string | null; readonly continues: boolean };

/** After SIGTERM an instance may close its files for so long before it is killed. */
const stopGraceMs = 2000;

/** Starts and ends the instances of the state, for serving and for preparing alike, and tells the perf monitor of each run. */
export class InstanceKeeper {
  private readonly state: EdgepointEntry;
  private readonly ports: ResourcePorts;
  /** Aborted when the instance has ended by itself. Holds exactly the instances that were started or adopted and not dropped. */
  private readonly ends = new Map<string, AbortController>();
  private readonly lastCounters = new Map<string, KernelCounters>();

  constructor(state: EdgepointEntry, ports: ResourcePorts) {
    this.state = state;
    this.ports = ports;
  }

  /** Aborted when the instance ends without a stop. */
  goneSignal(id: string): AbortSignal {
    let controller = this.ends.get(id);
    if (controller === undefined) {
      controller = new AbortController();
      this.ends.set(id, controller);
    }
    return controller.signal;
  }

  async start(entry: InstanceEntry, order: ReleaseOrder, start: Start, paths: DataPaths = this.ports.paths): Promise<RunningInstance> {
    const { id } = entry.facts;
    const gone = this.goneSignal(id);
    const running =
      start.kind === 'boot'
        ? await this.ports.restored.boot(bootOrder(order, id, start.address, paths))
        : await this.ports.restored.restore(restoreOrder(order, id, start, paths));
    // Whoever prepares a release finds out by asking it, and then has its last words for the provider.
    if (gone.aborted && entry.purpose === 'serve') throw new Failure('app-exited', `instance ${id} ended as soon as it was started`);
    this.adopt(entry, running, running.logStartBytes);
    return running;
  }

  /** Takes over an instance that runs. */
  adopt(entry: InstanceEntry, running: RunningInstance, logFrom: number | 'end'): void {
    this.goneSignal(entry.facts.id);
    entry.running = running;
    entry.facts = { ...entry.facts, address: running.address };
    this.ports.watch.started(running, entry.meterId, logFrom);
  }

  /** restored's news that an instance ended by itself; the entry stays until whoever owns it drops it. */
  noteExit(id: string, counters: KernelCounters): void {
    this.lastCounters.set(id, counters);
    this.ends.get(id)?.abort();
  }

  /** Ends it, if it still runs, and forgets it. Repeatable; a box that cannot be removed is reported and found by the next look at restored's list. */
  async end(entry: InstanceEntry): Promise<void> {
    const { id } = entry.facts;
    let counters: KernelCounters | null = null;
    try {
      counters = await this.ports.restored.stop({ instance: id, graceMs: stopGraceMs });
    } catch (failure) {
      this.ports.warn('an instance could not be ended', { instance: id, failure });
    }
    if (this.lastCounters.has(id)) counters = this.lastCounters.get(id) ?? counters;
    if (entry.running !== null) this.ports.watch.ended({ instance: id, meterId: entry.meterId }, counters);
    this.forget(id);
  }

  private forget(id: string): void {
    this.ends.delete(id);
    this.lastCounters.delete(id);
    dropInstance(this.state, id);
  }
}
