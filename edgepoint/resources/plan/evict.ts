import type { IdleView } from './view.ts';

/**
 * Whom to put to sleep so that `neededBytes` come free: frozen ones first, then the ones unused longest, no more of them than needed.
 * Null when even all of them would not do: then none is disturbed.
 */
export function planEvict(idle: readonly IdleView[], neededBytes: number, forApp: string): readonly IdleView[] | null {
  const others = idle
    .filter((candidate) => candidate.app !== forApp)
    .toSorted((a, b) => Number(b.frozen) - Number(a.frozen) || a.lastActiveBootNs - b.lastActiveBootNs || (a.id < b.id ? -1 : 1));
  const chosen: IdleView[] = [];
  let freedBytes = 0;
  for (const candidate of others) {
    if (freedBytes >= neededBytes) break;
    chosen.push(candidate);
    freedBytes += candidate.memoryBytes;
  }
  return freedBytes >= neededBytes ? chosen : null;
}
