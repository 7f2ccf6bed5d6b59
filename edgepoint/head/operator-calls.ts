import { readFileSync, statfsSync } from 'node:fs';
import { totalmem } from 'node:os';
import type { Handlers } from '../../host/calls.ts';
import type { Clock } from '../../kit/clock.ts';
import type { Site } from '../../kit/ids.ts';
import { describeApp } from '../resources/describe.ts';
import type { ResourceManager } from '../resources/run.ts';
import { answersOf } from './answers.ts';
import type { Status } from './answers.ts';
import { overviewOf } from './overview.ts';
import type { Links, MachineFacts, Overview } from './overview.ts';

export interface OperatorPorts {
  readonly site: Site;
  readonly clock: Clock;
  readonly manager: ResourceManager;
  readonly dataFolder: string;
  links(): Links;
  /** When the bus took the last heartbeat. */
  heartbeatBootNs(): number | null;
  eventsWaiting(): number;
  /** As the last head left it. */
  readonly drainedSinceWallMs: number | null;
  saveDrain(sinceWallMs: number | null): Promise<void>;
  /** Whether clients' connections go on after an answer. */
  keepConnections(keeps: boolean): void;
  /** What the edgepoint says of itself has changed. */
  changed(): void;
}

/** What `edgepoint status` gets. */
export interface FullStatus extends Status {
  readonly edgepoint: Overview;
}

/** What an operator asks and orders, over the head's socket: whoever may open it is of the edgepoint itself, or root. */
export function operatorCalls(ports: OperatorPorts): Handlers {
  const { clock, manager } = ports;
  let sinceWallMs = ports.drainedSinceWallMs;
  ports.keepConnections(sinceWallMs === null);
  /** On the disk first: a head that begins anew right after the answer must know. */
  const drain = async (next: number | null): Promise<Overview> => {
    if ((next === null) !== (sinceWallMs === null)) {
      await ports.saveDrain(next);
      sinceWallMs = next;
      manager.setDraining(next !== null);
      ports.keepConnections(next === null);
      ports.changed();
    }
    return overview();
  };
  const overview = (): Overview => {
    const apps = [...manager.state.apps.values()].map((app) => describeApp(app, manager.state.stored, clock.bootNs()));
    return overviewOf(manager.state, {
      ...ports.site,
      ...machineFacts(ports.dataFolder),
      drainedSinceWallMs: sinceWallMs,
      links: ports.links(),
      heartbeatBootNs: ports.heartbeatBootNs(),
      nowBootNs: clock.bootNs(),
      eventsWaiting: ports.eventsWaiting(),
      apps,
    });
  };
  const { dump, status } = answersOf(manager, clock);
  return {
    dump,
    status: (): FullStatus => ({ ...status(), edgepoint: overview() }),
    overview,
    drain: () => drain(clock.wallMs()),
    undrain: () => drain(null),
  };
}

function machineFacts(dataFolder: string): MachineFacts {
  const { bavail, blocks, bsize } = statfsSync(dataFolder);
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? '0';
  return { memoryBytes: totalmem(), memoryFreeBytes: Number(available) * 1024, diskBytes: blocks * bsize, diskFreeBytes: bavail * bsize };
}
