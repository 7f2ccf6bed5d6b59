import { formatBytes } from '../../kit/units.ts';

/** `warning`: it works without, less well. */
export type Level = 'ok' | 'warning' | 'failure';

export interface Finding {
  readonly level: Level;
  readonly text: string;
  readonly remedy?: string;
}

export const ok = (text: string): Finding => ({ level: 'ok', text });
export const failure = (text: string, remedy: string): Finding => ({ level: 'failure', text, remedy });

/** What a disk with so much free is good for. An app's template takes megabytes, its artefact what its provider sends. */
export function judgeDisk(about: { freeBytes: number; freeFiles: number }): Finding {
  const text = `${formatBytes(about.freeBytes)} and ${about.freeFiles} files free`;
  if (about.freeBytes < 2 ** 30 || about.freeFiles < 10_000) return failure(text, 'Make room: deploys fail when the disk is full, and apps that keep their state cannot fall asleep.');
  if (about.freeBytes < 10 * 2 ** 30) return { level: 'warning', text, remedy: 'Room for a few apps only.' };
  return ok(text);
}

/** `state`: what adjtimex(2) returns; TIME_ERROR says that nothing keeps the clock right. */
export function judgeClock(state: number): Finding {
  const timeError = 5;
  if (state !== timeError) return ok('kept right by the network');
  return { level: 'warning', text: 'nothing keeps it right', remedy: 'Run an NTP client (systemd-timesyncd, chrony): durations and bills do not depend on the wall clock, times in logs and certificates do.' };
}
