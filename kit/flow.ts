/**
 * Flow control by credit: whoever sends may have `windowBytes` under way that the receiver has not yet passed on. So a reader that
 * stops stops its writer, across whatever lies between them, and nobody in between holds more than a window.
 */
export const windowBytes = 256 * 1024;
/** Credit is given back in pieces of this size: one message for many small writes. */
const creditLeastBytes = windowBytes / 8;

/** The sending end. Invariant: 0 <= left <= windowBytes. */
export class SendWindow {
  #left = windowBytes;

  get left(): number {
    return this.#left;
  }

  /** False when more is sent than there is credit for: the flow is broken. */
  spend(bytes: number): boolean {
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  /** False when more is given back than was ever spent. */
  credit(bytes: number): boolean {
    if (bytes > windowBytes - this.#left) return false;
    this.#left += bytes;
    return true;
  }
}

/** The receiving end. */
export class ReceiveWindow {
  readonly #sender = new SendWindow();
  #passedOn = 0;

  /** False when the sender had no credit for so much. */
  receive(bytes: number): boolean {
    return this.#sender.spend(bytes);
  }

  /** So much of what was received has been passed on; the credit to give now, often none. */
  passOn(bytes: number): number {
    this.#passedOn += bytes;
    if (this.#passedOn < creditLeastBytes) return 0;
    const credit = this.#passedOn;
    this.#passedOn = 0;
    this.#sender.credit(credit);
    return credit;
  }
}
