import { readFields } from './protobuf.ts';

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
