/** What we read and change of CRIU's images: protobuf messages (images/*.proto), each after its length, behind one or two magic numbers. */

export interface Field {
  readonly number: number;
  /** Of a number; exact below 2^53. */
  readonly value: number;
  /** Of a string or message. */
  readonly bytes: Uint8Array | null;
  /** The whole field as it was encoded: what is not changed is written as it was. */
  readonly raw: Uint8Array;
}

const magicBytes = 8;
const lengthBytes = 4;

/** The messages of an image, in order; what follows a length that the image does not hold is left out. */
export function imageEntries(image: Uint8Array): Uint8Array[] {
  const entries: Uint8Array[] = [];
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  let at = magicBytes;
  while (at + lengthBytes <= image.length) {
    const length = view.getUint32(at, true);
    const end = at + lengthBytes + length;
    if (end > image.length) break;
    entries.push(image.subarray(at + lengthBytes, end));
    at = end;
  }
  return entries;
}

/** The fields of a protobuf message of varints and byte strings; stops at the first of another kind. */
export function readFields(message: Uint8Array): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; at < message.length && shift < 70; shift += 7) {
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
    if (kind === 0) fields.push({ number, value: varint(), bytes: null, raw: message.subarray(from, at) });
    else if (kind === 2) {
      const length = varint();
      at += length;
      fields.push({ number, value: 0, bytes: message.subarray(at - length, at), raw: message.subarray(from, at) });
    } else break;
  }
  return fields;
}

/** The number in a field; undefined when it is absent. The last one counts, as in protobuf. */
export function numberOf(fields: readonly Field[], number: number): number | undefined {
  return fields.findLast((field) => field.number === number && field.bytes === null)?.value;
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

/** An image with the magic numbers of another and these messages. */
export function imageOf(like: Uint8Array, messages: readonly Uint8Array[]): Uint8Array {
  const withLengths = messages.flatMap((message) => {
    const length = new Uint8Array(lengthBytes);
    new DataView(length.buffer).setUint32(0, message.length, true);
    return [length, message];
  });
  return joined([like.subarray(0, magicBytes), ...withLengths]);
}
