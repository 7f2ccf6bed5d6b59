/**
 * How long a dump kept its processes frozen, from CRIU's `stats-dump` image: two magic numbers and a length of 4 bytes each, then
 * a protobuf `StatsEntry { DumpStatsEntry dump = 1 { uint32 freezing_time = 1; uint32 frozen_time = 2; ... } }` in microseconds
 * (CRIU's images/stats.proto). 0 when the bytes are of another shape.
 */
export function readFrozenMs(image: Uint8Array): number {
  const entry = image.subarray(12);
  const dump = readFields(entry).find((field) => field.number === 1)?.bytes;
  if (!dump) return 0;
  return (readFields(dump).find((field) => field.number === 2)?.value ?? 0) / 1000;
}

interface Field {
  readonly number: number;
  readonly value: number;
  readonly bytes: Uint8Array | null;
}

/** The fields of a protobuf message of varints and byte strings; stops at the first of another kind. */
function readFields(message: Uint8Array): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; at < message.length && shift < 53; shift += 7) {
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
