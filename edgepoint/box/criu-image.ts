/** What we read of CRIU's images: protobuf messages (images/*.proto), each after its length, behind one or two magic numbers. */

export interface Field {
  readonly number: number;
  /** Of a number; exact below 2^53. */
  readonly value: number;
  /** Of a string or message. */
  readonly bytes: Uint8Array | null;
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
    const key = varint();
    const kind = key & 7;
    const number = Math.floor(key / 8);
    if (kind === 0) fields.push({ number, value: varint(), bytes: null });
    else if (kind === 2) {
      const length = varint();
      fields.push({ number, value: 0, bytes: message.subarray(at, at + length) });
      at += length;
    } else break;
  }
  return fields;
}

/** The number in a field; undefined when it is absent. The last one counts, as in protobuf. */
export function numberOf(fields: readonly Field[], number: number): number | undefined {
  return fields.findLast((field) => field.number === number && field.bytes === null)?.value;
}
