/** A record on its way: the text of the message, under the subject it belongs to. */
export interface WaitingRecord {
  readonly instance: string;
  readonly sequence: number;
  readonly id: string;
  readonly subject: string;
  readonly text: string;
}

export interface ShipperOutbox {
  /** The oldest rows first. */
  waiting(rowsMax: number): Promise<readonly WaitingRecord[]>;
  /** Removes rows whose record has been acknowledged, unless a later one has taken its place. */
  remove(sent: readonly WaitingRecord[]): Promise<void>;
}

export interface ShipperOptions {
  readonly outbox: ShipperOutbox;
  /** Bus.append: resolves when the stream has stored it; rejects when the bus is away. */
  readonly append: (subject: string, text: string, id: string) => Promise<void>;
  readonly onFault: (failure: unknown) => void;
  readonly retryMsMax?: number;
}

export interface Shipper {
  /** Call when a record was stored and when the bus came back: sends all that waits. Never a poll: without a call there is no work. */
  wake(): void;
  stop(): Promise<void>;
}

/** Under way at once. */
const windowMax = 64;
const retryMsMin = 250;

/** Sends usage records from the outbox to the stream, each until it is acknowledged; after a failure it tries again ever more slowly. */
export function startShipper({ outbox, append, onFault, retryMsMax = 30_000 }: ShipperOptions): Shipper {
  let sending: Promise<void> | undefined;
  let again = false;
  let stopped = false;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let retryMs = retryMsMin;

  async function sendWindow(): Promise<number> {
    const rows = await outbox.waiting(windowMax);
    if (rows.length === 0) return 0;
    const results = await Promise.allSettled(rows.map(({ subject, text, id }) => append(subject, text, id)));
    const sent = rows.filter((_, index) => results[index]?.status === 'fulfilled');
    if (sent.length > 0) await outbox.remove(sent);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    return rows.length;
  }

  async function sendAll(): Promise<void> {
    try {
      do {
        again = false;
        while (!stopped && (await sendWindow()) > 0) retryMs = retryMsMin;
      } while (again && !stopped);
    } catch (failure) {
      onFault(failure);
      if (!stopped) retry = setTimeout(start, retryMs);
      retryMs = Math.min(retryMsMax, retryMs * 2);
    }
  }

  function start(): void {
    clearTimeout(retry);
    retry = undefined;
    if (sending) again = true;
    else {
      sending = sendAll().finally(() => {
        sending = undefined;
        if (again && !retry && !stopped) start();
      });
    }
  }

  return {
    wake: start,
    async stop() {
      stopped = true;
      clearTimeout(retry);
      await sending;
    },
  };
}
