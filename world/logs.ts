import { closeSync, copyFileSync, existsSync, openSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';

/** Each daemon's log keeps between half of this and this, plus one older part. */
const logBytesMax = 8 * 1024 * 1024;

export const logPath = (logFolder: string, name: string): string => join(logFolder, `${name}.log`);

/** A descriptor for a daemon's stdout and stderr: appending, so that the file may be cut while the daemon writes. */
export function openDaemonLog(logFolder: string, name: string): number {
  return openSync(logPath(logFolder, name), 'a', 0o640);
}

export function closeDaemonLog(descriptor: number): void {
  closeSync(descriptor);
}

/** Moves the content of a grown log into `<name>.log.1` and empties it; what is written in between is lost, which a log may. */
export function cutGrownLogs(logFolder: string, names: readonly string[]): void {
  for (const name of names) {
    const path = logPath(logFolder, name);
    if (!existsSync(path) || statSync(path).size < logBytesMax) continue;
    copyFileSync(path, `${path}.1`);
    truncateSync(path);
  }
}

export function lastLines(logFolder: string, name: string, count: number): string {
  const path = logPath(logFolder, name);
  const text = existsSync(path) ? readFileSync(path, 'utf8').trimEnd() : '';
  return text === '' ? '(its log is empty)' : text.split('\n').slice(-count).join('\n');
}
