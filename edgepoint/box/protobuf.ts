/**
 * As much of protobuf's encoding as CRIU's images need: fields that are numbers (varints) or bytes (strings, messages within messages).
 * A field keeps the bytes it was read from, so that what is not changed is written as it was.
 */
export interface Field {
  readonly number: number;
  /** Of a varint; exact up to 2^53. */
  readonly value: number;
  /** Of a string or message; null for a number. */
  readonly bytes: Uint8Array | null;
  /** The whole field as it was encoded. */
  readonly raw: Uint8Array;
}

/** The fields of a message in order; stops at the first that is neither a varint nor bytes. */
export function readFields(message: Uint8Array): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; at < message.length; shift += 7) {
      const byte = message[at++] as number;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) break;
    }
    return value;
  };
  while (at < message.length) {
    const from = at;
    const key = varint();
    const kind = key & 7;
    const number = Math.floor(key / 8);
    if (kind === 0) {
      const value = varint();
      fields.push({ number, value, bytes: null, raw: message.subarray(from, at) });
    } else if (kind === 2) {
      const length = varint();
      at += length;
      fields.push({ number, value: 0, bytes: message.subarray(at - length, at), raw: message.subarray(from, at) });
    } else break;
  }
  return fields;
}

function varintBytes(value: number): number[] {
  const out: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out.push((rest % 128) + 128);
  return [...out, rest];
}

export function numberField(number: number, value: number): Field {
  return { number, value, bytes: null, raw: Uint8Array.from([...varintBytes(number * 8), ...varintBytes(value)]) };
}

export function bytesField(number: number, bytes: Uint8Array): Field {
  return { number, value: 0, bytes, raw: joined([Uint8Array.from([...varintBytes(number * 8 + 2), ...varintBytes(bytes.length)]), bytes]) };
}

export function writeFields(fields: readonly Field[]): Uint8Array {
  return joined(fields.map((field) => field.raw));
}

/** The same fields with these in the place of those that had their numbers. */
export function withFields(fields: readonly Field[], changed: readonly Field[]): Field[] {
  return fields.map((field) => changed.find((other) => other.number === field.number) ?? field);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Two magic numbers of four bytes stand before the messages of an image. */
const magicBytes = 8;

/** The messages of an image of CRIU's: each has its length, four bytes, before it. */
export function readImage(image: Uint8Array): Uint8Array[] {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const messages: Uint8Array[] = [];
  for (let at = magicBytes; at + 4 <= image.length; ) {
    const length = view.getUint32(at, true);
    messages.push(image.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return messages;
}

/** An image with the magic numbers of another and these messages. */
export function writeImage(like: Uint8Array, messages: readonly Uint8Array[]): Uint8Array {
  const withLengths = messages.flatMap((message) => {
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, message.length, true);
    return [length, message];
  });
  return joined([like.subarray(0, magicBytes), ...withLengths]);
}
