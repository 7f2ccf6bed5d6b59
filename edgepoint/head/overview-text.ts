import { formatBytes, formatMs } from '../../kit/units.ts';
import { drainOf } from './overview.ts';
import type { Overview } from './overview.ts';

const modesInOrder = ['warm', 'frozen', 'booting', 'restoring', 'draining'] as const;

/** What `edgepoint status` prints first; rows of a table. */
export function overviewText(now: Overview): string {
  const { links } = now;
  const there = (is: boolean): string => (is ? 'connected' : 'AWAY');
  const modes = modesInOrder.flatMap((mode) => (now.instances[mode] === undefined ? [] : [`${now.instances[mode]} ${mode}`]));
  const users = { 'not-drained': 'taken', draining: 'sent elsewhere; being drained', drained: 'sent elsewhere; drained', stuck: 'sent elsewhere; all is drained but what never sleeps' }[drainOf(now)];
  const since = now.drainedSinceWallMs === null ? '' : ` (since ${new Date(now.drainedSinceWallMs).toISOString()})`;
  const rows: readonly (readonly [string, string])[] = [
    ['edgepoint', `${now.zone}.${now.edgepoint}`],
    ['end users', `${users}${since}`],
    ['apps', `${now.apps}, ${now.asleep} asleep`],
    ['instances', modes.join(', ') || 'none'],
    ['promised', `${formatBytes(now.usedBytes)} of ${formatBytes(now.capacityBytes)} (load ${(now.load * 100).toFixed(0)} %)`],
    ['memory', `${formatBytes(now.memoryFreeBytes)} of ${formatBytes(now.memoryBytes)} free`],
    ['disk', `${formatBytes(now.diskFreeBytes)} of ${formatBytes(now.diskBytes)} free`],
    ['bus', `${there(links.bus)}; last heartbeat ${now.heartbeatAgoMs === null ? 'never' : `${formatMs(now.heartbeatAgoMs)} ago`}`],
    ['daemons', (['restored', 'snapd', 'dispatcher'] as const).map((name) => `${name} ${there(links[name])}`).join(', ')],
  ];
  return [...rows.map(([name, text]) => `${name.padEnd(10)} ${text}`), ...now.warnings.map((text) => `${'WARNING'.padEnd(10)} ${text}`)].join('\n');
}
