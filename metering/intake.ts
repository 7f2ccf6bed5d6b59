import type { Ledger, Outcome, UsageMessage } from './ledger.ts';

/** The most messages in one transaction of the ledger. */
export const batchMessagesMax = 500;

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

  async function writeBatches(): Promise<void> {
    while (waiting.length > 0) {
      const batch = waiting.splice(0, batchMessagesMax);
      try {
        onOutcome(await ledger.record(batch.map(({ message }) => message)), batch.length);
        for (const { resolve } of batch) resolve();
      } catch (failure) {
        for (const { reject } of batch) reject(failure);
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
