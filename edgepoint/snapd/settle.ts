import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** SIGPWR: clone-guard.cjs listens to it until it has given back the memory it does not use. SigCgt is a mask, bit 0 for signal 1 (proc(5)). */
const signal = 30;
const signalBit = 1n << BigInt(signal - 1);
const settleMs = 3000;
const lookMs = 2;

/**
 * Has programs that can (Node, Bun) give back the memory they do not use, so that a template is small; those that take too long are
 * left as they are. To be called for an instance that is about to become a template.
 */
export async function settlePrograms(pids: readonly number[]): Promise<void> {
  const asked = pids.filter((pid) => listens(pid) && ask(pid));
  const deadlineMs = performance.now() + settleMs;
  while (asked.some(listens) && performance.now() < deadlineMs) await sleep(lookMs);
}

function listens(pid: number): boolean {
  try {
    if (!readFileSync(`/proc/${pid}/maps`, 'utf8').includes('/clone-guard.so')) return false;
    const caught = /^SigCgt:\t([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0';
    return (BigInt(`0x${caught}`) & signalBit) !== 0n;
  } catch {
    return false; // it has ended
  }
}

function ask(pid: number): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === 'ESRCH') return false; // it has ended
    throw error;
  }
}
