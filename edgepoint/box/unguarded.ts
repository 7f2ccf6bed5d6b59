import { readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { codeOf } from '../../kit/errors.ts';
import { ownGenerator } from './own-generators.ts';

/** Our own, which starts the processes of an instance that has several and draws nothing (box.h, INIT_PATH). */
const initPath = '/run/edgepoint/init';

/**
 * The programs of these processes, each once, whose random generators the clone guard cannot renew, with the reason: `server (linked
 * statically)`. They have not loaded it, or hold a generator of their own.
 */
export function unguardedPrograms(pids: readonly number[]): string[] {
  return [...new Set(pids.flatMap((pid) => unguardedProgram(pid)))].toSorted();
}

function unguardedProgram(pid: number): string[] {
  try {
    const program = readlinkSync(`/proc/${pid}/exe`);
    if (program === initPath) return [];
    const guarded = readFileSync(`/proc/${pid}/maps`, 'utf8').includes('/clone-guard.so');
    const reason = guarded ? ownGenerator(`/proc/${pid}/exe`) : 'linked statically';
    return reason === null ? [] : [`${basename(program)} (${reason})`];
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes(codeOf(error))) return []; // it has ended
    return [`process ${pid} (its program cannot be read: ${codeOf(error)})`];
  }
}
