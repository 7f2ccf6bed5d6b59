import { reap } from './kernel.ts';

/**
 * Lets go of processes that came to this one because it is their subreaper and that nobody else waits for: CRIU's workers, whose slot
 * has ended, and instances that the dump still held by ptrace(2) when their end was noticed, so that they could not be reaped then.
 */
export interface OrphanReaper {
  /** It has ended or is about to. */
  expect(pid: number): void;
  stop(): void;
}

const pauseMs = 50;

export function openOrphanReaper(): OrphanReaper {
  const expected = new Set<number>();
  let timer: ReturnType<typeof setTimeout> | null = null;

  function round(): void {
    timer = null;
    for (const pid of expected) if (reap(pid)) expected.delete(pid);
    setTimer();
  }

  function setTimer(): void {
    if (expected.size > 0) timer ??= setTimeout(round, pauseMs);
  }

  return {
    expect: (pid) => {
      expected.add(pid);
      setTimer();
    },
    stop: () => {
      if (timer !== null) clearTimeout(timer);
    },
  };
}
