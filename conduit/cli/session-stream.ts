import { ReceiveWindow, SendWindow } from '../../kit/flow.ts';
import { dataBytesMax } from '../../kit/wire/access.ts';
import type { AccessClose, AccessFrame } from '../../kit/wire/access.ts';
import { RecordReader, encodeRecord } from '../../kit/wire/session.ts';
import type { SessionRecord } from '../../kit/wire/session.ts';

export type SessionEnd = { readonly status: number } | { readonly close: AccessClose };

export interface SessionStreamPorts {
  send(frame: AccessFrame): void;
  /** Calls back when it has been written. */
  write(to: 'stdout' | 'stderr', bytes: Uint8Array, written: () => void): void;
  /** Whether more input may come. */
  wantsInput(wants: boolean): void;
  /** Called once, with how the command ended or why the session did; all that it had written before has been written. */
  over(end: SessionEnd): void;
}

/**
 * The command line's end of a session: records over the windows of an access.
 *
 * Modes: flowing -> ending (it has said the last, which is still being written) -> over.
 */
export class SessionStream {
  readonly #ports: SessionStreamPorts;
  readonly #sending = new SendWindow();
  readonly #receiving = new ReceiveWindow();
  readonly #reader = new RecordReader();
  #unsent: Uint8Array[] = [];
  #writing = 0;
  #end: SessionEnd | null = null;
  #over = false;

  constructor(ports: SessionStreamPorts) {
    this.#ports = ports;
  }

  /** What the terminal or stdin says. The input of one call is at most `recordBytesMax`. */
  say(record: Parameters<typeof encodeRecord>[0]): void {
    if (this.#end !== null) return;
    this.#unsent.push(encodeRecord(record));
    this.#flush();
  }

  take(frame: AccessFrame): void {
    if (this.#end !== null) return;
    if (frame.kind === 'credit') return this.#sending.credit(frame.bytes) ? this.#flush() : this.#broken();
    if (frame.kind === 'close') return this.#finish({ close: frame.close });
    if (frame.kind !== 'data') return;
    const records = this.#receiving.receive(frame.bytes.length) ? this.#reader.take(frame.bytes) : null;
    if (records === null) return this.#broken();
    this.#takeRecords(records, frame.bytes.length);
  }

  #takeRecords(records: readonly SessionRecord[], bytes: number): void {
    let left = 1;
    const written = (): void => {
      left -= 1;
      if (left > 0) return;
      const credit = this.#receiving.passOn(bytes);
      if (credit > 0 && this.#end === null) this.#ports.send({ kind: 'credit', bytes: credit });
    };
    for (const record of records) {
      if (record.kind === 'output' || record.kind === 'errors') {
        left += 1;
        this.#writing += 1;
        this.#ports.write(record.kind === 'output' ? 'stdout' : 'stderr', record.bytes, () => {
          this.#writing -= 1;
          written();
          this.#settle();
        });
      } else if (record.kind === 'exit') this.#finish({ status: record.status });
      else if (record.kind === 'failed') this.#finish({ close: { code: 'session-failed', text: `the command could not be begun: ${record.text}` } });
    }
    written();
  }

  #flush(): void {
    while (this.#unsent.length > 0 && this.#sending.left > 0) {
      const first = this.#unsent[0] ?? new Uint8Array();
      const bytes = first.subarray(0, Math.min(dataBytesMax, this.#sending.left));
      this.#sending.spend(bytes.length);
      if (bytes.length === first.length) this.#unsent.shift();
      else this.#unsent[0] = first.subarray(bytes.length);
      this.#ports.send({ kind: 'data', bytes });
    }
    this.#ports.wantsInput(this.#unsent.length === 0);
  }

  #broken(): void {
    this.#finish({ close: { code: 'access-broken', text: 'the instance says what is no session' } });
  }

  #finish(end: SessionEnd): void {
    if (this.#end !== null) return;
    this.#end = end;
    this.#ports.send({ kind: 'close', close: { code: '', text: '' } });
    this.#settle();
  }

  #settle(): void {
    if (this.#end === null || this.#writing > 0 || this.#over) return;
    this.#over = true;
    this.#ports.over(this.#end);
  }
}
