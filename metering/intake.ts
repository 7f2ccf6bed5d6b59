import type { Ledger, Outcome, UsageMessage } from './ledger.ts';

/** The most messages in one transaction of the ledger. */
export const batchMessagesMax = 500;
const failuresInARowMax = 3;

export interface Intake {
  /** Resolves when the message is in the ledger and may be acknowledged; rejects when it must come again. */
  accept(message: UsageMessage): Promise<void>;
  /** Resolves when nothing is waiting or being written. */
  settled(): Promise<void>;
}

interface Waiting {
  readonly message: UsageMessage;
  readonly resolve: () => void;
  readonly reject: (failure: unknown) => void;
}

/**
 * Group commit: while one transaction is on its way to the disk the next batch gathers, so that a burst costs few
 * transactions and a lone record waits for nobody. What may wait is bounded by the consumer's unacknowledged messages.
 */
export function openIntake(ledger: Pick<Ledger, 'record'>, onOutcome: (outcome: Outcome, messages: number) => void): Intake {
  const waiting: Waiting[] = [];
  let running: Promise<void> | undefined;

  async function write(batch: readonly Waiting[]): Promise<void> {
    onOutcome(await ledger.record(batch.map(({ message }) => message)), batch.length);
    for (const { resolve } of batch) resolve();
  }

  /** One message that the ledger cannot take must not hold up the others; a ledger that is away refuses them all, and soon. */
  async function writeOneByOne(batch: readonly Waiting[]): Promise<void> {
    let failuresInARow = 0;
    let last: unknown;
    for (const one of batch) {
      try {
        if (failuresInARow >= failuresInARowMax) throw last;
        await write([one]);
        failuresInARow = 0;
      } catch (failure) {
        last = failure;
        failuresInARow += 1;
        one.reject(failure);
      }
    }
  }

  async function writeBatches(): Promise<void> {
    while (waiting.length > 0) {
      const batch = waiting.splice(0, batchMessagesMax);
      try {
        await write(batch);
      } catch (failure) {
        if (batch.length > 1) await writeOneByOne(batch);
        else batch[0]?.reject(failure);
      }
      // Lets what has arrived meanwhile join the next batch.
      await new Promise((resolve) => setImmediate(resolve));
    }
    running = undefined;
  }

  return {
    accept: (message) =>
      new Promise<void>((resolve, reject) => {
        waiting.push({ message, resolve, reject });
        running ??= new Promise((next) => setImmediate(next)).then(writeBatches);
      }),
    settled: async () => {
      while (running) await running;
    },
  };
}
