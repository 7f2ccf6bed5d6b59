/** Messages out of a TCP stream: two bytes of length before each (RFC 1035 4.2.2). Holds at most one unfinished message. */
export class Frames {
  #held = new Uint8Array(0);

  /** Whether a message has begun and not ended. */
  get unfinished(): boolean {
    return this.#held.length > 0;
  }

  /** The messages that this chunk finishes, in order. */
  push(chunk: Uint8Array): Uint8Array[] {
    let bytes = chunk;
    if (this.#held.length > 0) {
      bytes = new Uint8Array(this.#held.length + chunk.length);
      bytes.set(this.#held);
      bytes.set(chunk, this.#held.length);
    }
    const messages: Uint8Array[] = [];
    let at = 0;
    while (at + 2 <= bytes.length) {
      const end = at + 2 + (((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0));
      if (end > bytes.length) break;
      messages.push(bytes.slice(at + 2, end));
      at = end;
    }
    this.#held = bytes.slice(at);
    return messages;
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
