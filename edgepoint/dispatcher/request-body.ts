import { openBodyScanner } from './body-scanner.ts';
import type { BodyScanner } from './body-scanner.ts';
import { limits } from './limits.ts';
import type { Framing } from './request-head.ts';

/** The body of a request on its way: where it ends, and what can be sent once more. */
export class RequestBody {
  private readonly scanner: BodyScanner;
  private held: Buffer[] | null = [];
  private heldBytes = 0;
  /** The client has sent some of it. */
  begun = false;

  constructor(framing: Framing) {
    this.scanner = openBodyScanner(framing);
  }

  /** Nothing of it is still to come from the client. */
  get done(): boolean {
    return this.scanner.done;
  }

  /** All that was taken so far, to be sent again; null when it was too much to hold. */
  get sentBefore(): readonly Buffer[] | null {
    return this.held;
  }

  /** Takes what belongs to it from the front of the input; `bad` is '' or why the framing is refused. */
  take(input: Buffer): { readonly pieces: readonly Buffer[]; readonly rest: Buffer | null; readonly bad: string } {
    if (this.done) return { pieces: [], rest: input, bad: '' };
    this.begun = true;
    const { pieces, consumed, bad } = this.scanner.scan(input);
    this.hold(pieces);
    return { pieces, rest: consumed < input.length ? input.subarray(consumed) : null, bad };
  }

  private hold(pieces: readonly Buffer[]): void {
    if (this.held === null) return;
    for (const piece of pieces) this.heldBytes += piece.length;
    if (this.heldBytes > limits.resendBytes) this.held = null;
    else this.held.push(...pieces);
  }
}
