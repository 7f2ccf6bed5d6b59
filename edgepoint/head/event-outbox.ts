import { codeOf } from '../../kit/errors.ts';
import { nsPerMs } from '../../kit/units.ts';

export interface WaitingMessage {
  readonly subject: string;
  readonly text: string;
  readonly id: string;
}

export interface MessageOutbox {
  add(message: WaitingMessage): void;
  /** The bus came back. */
  wake(): void;
  /** Sends what it can within `ms`. */
  stop(ms: number): Promise<void>;
  readonly waiting: number;
  /** Messages that found no place. */
  readonly dropped: number;
}

/** What people would like to know may wait for the bus, but not without limit: the oldest goes first. */
const waitingMax = 1000;
const retryMs = 1000;

/** Appends messages to their streams one after the other, in order, each until it is stored; refused ones are dropped and told. */
export function openMessageOutbox(options: {
  append: (subject: string, text: string, id: string) => Promise<void>;
  bootNs: () => number;
  onDropped: (failure: unknown) => void;
}): MessageOutbox {
  const queue: WaitingMessage[] = [];
  let sending: Promise<void> | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  let dropped = 0;

  const send = async (): Promise<void> => {
    for (let message = queue[0]; message !== undefined; message = queue[0]) {
      try {
        await options.append(message.subject, message.text, message.id);
      } catch (failure) {
        if (codeOf(failure) !== 'bus-forbidden' && codeOf(failure) !== 'bus-refused') {
          timer ??= setTimeout(wake, retryMs);
          return;
        }
        dropped += 1;
        options.onDropped(failure);
      }
      if (queue[0] === message) queue.shift();
    }
  };
  const wake = (): void => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    sending ??= send().finally(() => {
      sending = null;
    });
  };
  return {
    add: (message) => {
      queue.push(message);
      if (queue.length > waitingMax) {
        queue.shift();
        dropped += 1;
      }
      if (timer === null) wake();
    },
    wake,
    stop: async (ms) => {
      const untilBootNs = options.bootNs() + ms * nsPerMs;
      while (queue.length > 0 && sending !== null && options.bootNs() < untilBootNs) await new Promise((resolve) => setTimeout(resolve, 10));
      if (timer !== null) clearTimeout(timer);
    },
    get waiting() {
      return queue.length;
    },
    get dropped() {
      return dropped;
    },
  };
}
