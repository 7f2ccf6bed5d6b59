/**
 * Messages out of a TCP stream: two bytes of length before each (RFC 1035 4.2.2). Holds at most one unfinished message, and copies
 * each byte once, so a client that drips bytes costs no more than one that does not.
 */
export class Frames {
  /** The first byte of a length whose second has not come; else null. */
  #highByte: number | null = null;
  #message: Uint8Array | null = null;
  #filledBytes = 0;

  /** The messages that this chunk finishes, in order. */
  push(chunk: Uint8Array): Uint8Array[] {
    const finished: Uint8Array[] = [];
    let at = 0;
    while (at < chunk.length || (this.#message !== null && this.#message.length === 0)) {
      if (this.#message === null) {
        const byte = chunk[at] ?? 0;
        at += 1;
        if (this.#highByte === null) this.#highByte = byte;
        else {
          this.#message = new Uint8Array((this.#highByte << 8) | byte);
          this.#highByte = null;
          this.#filledBytes = 0;
        }
        continue;
      }
      const part = chunk.subarray(at, at + this.#message.length - this.#filledBytes);
      this.#message.set(part, this.#filledBytes);
      this.#filledBytes += part.length;
      at += part.length;
      if (this.#filledBytes < this.#message.length) break;
      finished.push(this.#message);
      this.#message = null;
    }
    return finished;
  }
}

/** A message with its length before it. */
export function framed(message: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(message.length + 2);
  bytes[0] = message.length >> 8;
  bytes[1] = message.length & 0xff;
  bytes.set(message, 2);
  return bytes;
}
