import type { AppState } from '../../kit/wire/edgepoint-state.ts';
import { formatBytes, formatMs, nsPerMs } from '../../kit/units.ts';
import type { InstanceMode } from '../model/instance.ts';
import type { EdgepointEntry } from '../resources/state.ts';
import { usedBytesOf } from '../resources/views.ts';
import { loadOf } from '../resources/describe.ts';

/** What of an app still runs or waits here, while the edgepoint is drained. */
export interface Left {
  /** provider.scope.app */
  readonly app: string;
  /** Instances by mode. */
  readonly instances: Readonly<Partial<Record<InstanceMode, number>>>;
  /** Requests, connections and accesses under way, and requests that are held. */
  readonly underWay: number;
  readonly waiting: number;
  /** Why it does not sleep, however long one waits; empty when it will. */
  readonly stays: string;
}

/** Whether the edgepoint is connected with them. */
export interface Links {
  readonly restored: boolean;
  readonly snapd: boolean;
  readonly dispatcher: boolean;
  readonly bus: boolean;
}

/** What only the machine knows. */
export interface MachineFacts {
  readonly memoryBytes: number;
  /** What programs may still take (MemAvailable). */
  readonly memoryFreeBytes: number;
  readonly diskBytes: number;
  readonly diskFreeBytes: number;
}

export interface Overview extends MachineFacts {
  readonly zone: string;
  readonly edgepoint: string;
  /** Null: it takes end users. */
  readonly drainedSinceWallMs: number | null;
  readonly left: readonly Left[];
  readonly apps: number;
  /** Apps that nothing runs of. */
  readonly asleep: number;
  /** Instances by mode, of all apps. */
  readonly instances: Readonly<Partial<Record<InstanceMode, number>>>;
  /** 0 to 1. */
  readonly load: number;
  /** Memory that its running instances are promised, and that they may be promised together. */
  readonly usedBytes: number;
  readonly capacityBytes: number;
  readonly links: Links;
  /** Milliseconds since the bus took the last heartbeat; null: it took none. */
  readonly heartbeatAgoMs: number | null;
  /** Events that wait for the bus. */
  readonly eventsWaiting: number;
  /** What an operator should look at, a sentence each. */
  readonly warnings: readonly string[];
}

export interface OverviewFacts extends MachineFacts {
  readonly zone: string;
  readonly edgepoint: string;
  readonly drainedSinceWallMs: number | null;
  readonly links: Links;
  readonly heartbeatBootNs: number | null;
  readonly nowBootNs: number;
  readonly eventsWaiting: number;
  readonly apps: readonly AppState[];
}

/** What an operator is told of an edgepoint: a pure function of its state and of facts. */
export function overviewOf(state: EdgepointEntry, facts: OverviewFacts): Overview {
  const { nowBootNs, heartbeatBootNs, apps, ...same } = facts;
  const left = leftOf(state);
  const instances: Partial<Record<InstanceMode, number>> = {};
  for (const one of left) for (const [mode, count] of Object.entries(one.instances)) instances[mode as InstanceMode] = (instances[mode as InstanceMode] ?? 0) + count;
  const told = {
    ...same,
    left,
    apps: state.apps.size,
    asleep: [...state.apps.values()].filter((app) => app.instances.size === 0).length,
    instances,
    load: loadOf(state),
    usedBytes: usedBytesOf(state),
    capacityBytes: state.capacityBytes,
    heartbeatAgoMs: heartbeatBootNs === null ? null : (nowBootNs - heartbeatBootNs) / nsPerMs,
  };
  return { ...told, warnings: warningsOf(told, apps) };
}

function leftOf(state: EdgepointEntry): Left[] {
  const left: Left[] = [];
  for (const app of new Set([...state.active, ...[...state.apps.values()].filter(({ waiting }) => waiting > 0)])) {
    const instances: Partial<Record<InstanceMode, number>> = {};
    let underWay = 0;
    for (const entry of app.instances.values()) {
      const { mode } = entry.facts;
      instances[mode] = (instances[mode] ?? 0) + 1;
      underWay += entry.outstanding + entry.tunnels + Number(entry.accessed);
    }
    const stays = app.serving?.facts.staysAwake ?? '';
    left.push({ app: app.key, instances, underWay, waiting: app.waiting, stays });
  }
  return left.toSorted((one, other) => (one.app < other.app ? -1 : 1));
}

/** Three heartbeats missed, and the global dispatcher answers without the edgepoint. */
const heartbeatMsMax = 6000;
const diskFreeShareMin = 0.05;
const diskFreeBytesMin = 2 ** 30;
const memoryFreeShareMin = 0.05;
const fullLoad = 0.95;
const namedMax = 3;

/** Each row: what to say, when it holds; in the order of how bad it is. */
export function warningsOf(told: Omit<Overview, 'warnings'>, apps: readonly AppState[]): string[] {
  const { links, heartbeatAgoMs } = told;
  const failed = apps.filter(({ status }) => status === 'failed').map(({ provider, scope, app }) => `${provider}.${scope}.${app}`);
  const rows: readonly (readonly [holds: boolean, says: string])[] = [
    [!links.restored, 'restored is away: nothing wakes.'],
    [!links.snapd, 'snapd is away: nothing that keeps its state falls asleep, and no deploy ends.'],
    [!links.dispatcher, 'The local dispatcher is away: no request is answered.'],
    [!links.bus, 'The bus is away: what runs runs on; deploys, usage and events wait.'],
    [links.bus && (heartbeatAgoMs === null || heartbeatAgoMs > heartbeatMsMax), `The last heartbeat ${heartbeatAgoMs === null ? 'was never sent' : `is ${formatMs(heartbeatAgoMs)} old`}: the global dispatcher sends nobody here.`],
    [told.diskFreeBytes < Math.max(diskFreeBytesMin, told.diskBytes * diskFreeShareMin), `The disk has ${formatBytes(told.diskFreeBytes)} left: deploys and sleeps will fail.`],
    [told.memoryFreeBytes < told.memoryBytes * memoryFreeShareMin, `The machine has ${formatBytes(told.memoryFreeBytes)} of memory left.`],
    [told.load >= fullLoad, `Instances are promised ${formatBytes(told.usedBytes)} of ${formatBytes(told.capacityBytes)}: requests that wake another may be refused.`],
    [failed.length > 0, `${failed.length} ${failed.length === 1 ? 'app has' : 'apps have'} failed here: ${failed.slice(0, namedMax).join(', ')}${failed.length > namedMax ? ', ...' : ''}.`],
    [told.eventsWaiting > 0 && links.bus, `${told.eventsWaiting} events wait for the bus.`],
  ];
  return rows.filter(([holds]) => holds).map(([, says]) => says);
}

/** How a drain stands: `drained` when nothing runs or waits, `stuck` when only that is left which never sleeps. */
export function drainOf({ drainedSinceWallMs, left }: Pick<Overview, 'drainedSinceWallMs' | 'left'>): 'not-drained' | 'draining' | 'drained' | 'stuck' {
  if (drainedSinceWallMs === null) return 'not-drained';
  if (left.length === 0) return 'drained';
  return left.every(({ stays, underWay, waiting }) => stays !== '' && underWay === 0 && waiting === 0) ? 'stuck' : 'draining';
}
