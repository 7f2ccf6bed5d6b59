import { createRequire } from 'node:module';
import type * as ffi from 'bun:ffi';
import { shouldGiveBack } from '../kit/quiet.ts';

/** So often a daemon looks at its own counters. */
const lookMs = 1000;
/** On a busy machine a burst has pauses, and its end comes after what looked like one: so long after it, memory is given back once more. */
const onceMoreAfterMs = 5000;

/** Others that hold memory for a next time, a database its pages, say; each is asked before the garbage is collected. */
const holders = new Set<() => void>();

/** `give` is asked whenever memory is given back, until the returned function is called. It must not throw. */
export function alsoGiveBack(give: () => void): () => void {
  holders.add(give);
  return () => void holders.delete(give);
}

/**
 * A runtime keeps what a burst of work has needed for a next one: garbage, and the freed memory of native libraries (each statement of
 * the database takes some of it until it is collected). A daemon may wait for days, so it gives both back when a burst is over.
 */
export function giveBackWhenQuiet(): void {
  const { dlopen } = createRequire(import.meta.url)('bun:ffi') as typeof ffi;
  const { malloc_trim: trim } = dlopen('libc.so.6', { malloc_trim: { args: ['u64'], returns: 'i32' } }).symbols;
  const usedMs = (): number => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  };
  let last = { atMs: performance.now(), usedMs: usedMs() };
  let given = { usedMs: 0, residentBytes: process.memoryUsage.rss() };
  let onceMoreAtMs = Infinity;
  setInterval(() => {
    const now = { atMs: performance.now(), usedMs: usedMs() };
    const onceMore = now.atMs >= onceMoreAtMs;
    if (shouldGiveBack({ busyMs: now.usedMs - last.usedMs, passedMs: now.atMs - last.atMs, sinceGivenMs: now.usedMs - given.usedMs, grownBytes: process.memoryUsage.rss() - given.residentBytes, onceMore })) {
      for (const give of holders) give();
      // What they have begun is done by then.
      setImmediate(() => {
        Bun.gc(true);
        trim(0n);
        given = { usedMs: usedMs(), residentBytes: process.memoryUsage.rss() };
      });
      onceMoreAtMs = onceMore ? Infinity : now.atMs + onceMoreAfterMs;
    }
    last = { atMs: performance.now(), usedMs: usedMs() };
  }, lookMs).unref();
}
