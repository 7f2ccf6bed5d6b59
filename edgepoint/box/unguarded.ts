import { readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';

/** Our own, which starts the processes of an instance that has several and draws nothing (box.h, INIT_PATH). */
const initPath = '/run/edgepoint/init';

/** The programs of these processes, each once, that have not loaded the clone guard: they are linked statically, or have shaken it off. */
export function unguardedPrograms(pids: readonly number[]): string[] {
  return [...new Set(pids.flatMap((pid) => programWithoutGuard(pid)))].toSorted();
}

function programWithoutGuard(pid: number): string[] {
  try {
    if (readFileSync(`/proc/${pid}/maps`, 'utf8').includes('/clone-guard.so')) return [];
    const program = readlinkSync(`/proc/${pid}/exe`);
    return program === initPath ? [] : [basename(program)];
  } catch {
    return []; // it has ended
  }
}
