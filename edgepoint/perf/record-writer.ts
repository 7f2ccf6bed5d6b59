import type { UsageRecord } from '../../kit/wire/usage.ts';
import type { UsageState } from './usage.ts';

export interface OutboxEntry {
  readonly record: UsageRecord;
  /** What to go on from after a restart of the head; null when the instance has ended and nothing follows. */
  readonly state: UsageState | null;
}

/** The head's database (`outbox.ts`). */
export interface UsageOutbox {
  /**
   * Stores all of them in one transaction; durable when it returns, nothing stored when it throws. May be repeated. A record that
   * waits to be sent may be replaced by a later one of the same instance, for its totals contain the earlier one's.
   */
  put(entries: readonly OutboxEntry[]): Promise<void>;
}

const retryMs = 1000;
/**
 * A record of an instance that goes on waits this long: a write to the disk blocks the head for milliseconds, and an instance starts
 * just when a held request must go on. What a crash loses of it the next record carries. A last record is written at once.
 */
const gatherMs = 100;
/** Instances with a record that could not be stored; beyond it the database has been away for hours and the oldest are given up. */
const pendingMax = 10_000;

export interface RecordWriter {
  put(entry: OutboxEntry): void;
  /** Resolves when all is stored, or has been tried a last time. */
  close(): Promise<void>;
}

/** Stores records in the order they were made; while the database is busy or away, keeps only the newest of each instance. */
export function openRecordWriter(outbox: UsageOutbox, onFault: (failure: unknown) => void): RecordWriter {
  const pending = new Map<string, OutboxEntry>();
  let writing: Promise<void> | undefined;
  /** The next try after a failure, or the end of gathering. */
  let due: ReturnType<typeof setTimeout> | undefined;
  let failed = false;
  let closed = false;

  function keep(entry: OutboxEntry): void {
    const newer = pending.get(entry.record.instance);
    if (!newer || newer.record.sequence < entry.record.sequence) pending.set(entry.record.instance, entry);
    if (pending.size <= pendingMax) return;
    const [oldest] = pending.keys();
    if (oldest !== undefined) pending.delete(oldest);
    onFault(new Error(`usage of ${oldest} is lost: ${pendingMax} records wait for the database`));
  }

  async function writeAll(): Promise<void> {
    while (pending.size > 0) {
      const entries = [...pending.values()];
      pending.clear();
      try {
        await outbox.put(entries);
        failed = false;
      } catch (failure) {
        onFault(failure);
        for (const entry of entries) keep(entry);
        failed = true;
        if (!closed) due ??= setTimeout(start, retryMs);
        return;
      }
    }
  }

  function start(): void {
    clearTimeout(due);
    due = undefined;
    writing ??= writeAll().finally(() => {
      writing = undefined;
      if (pending.size > 0 && !due && !closed) start();
    });
  }

  return {
    put(entry) {
      keep(entry);
      if (entry.state === null && !failed) start();
      else if (!closed) due ??= setTimeout(start, gatherMs);
    },
    async close() {
      closed = true;
      clearTimeout(due);
      await writing;
      await writeAll();
    },
  };
}
