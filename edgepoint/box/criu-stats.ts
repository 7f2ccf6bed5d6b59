import { imageEntries, numberOf, readFields } from './criu-image.ts';

/**
 * How long a dump kept its processes frozen, from CRIU's `stats-dump` image:
 * a `StatsEntry { DumpStatsEntry dump = 1 { uint32 freezing_time = 1; uint32 frozen_time = 2; ... } }` in microseconds
 * (CRIU's images/stats.proto). 0 when the bytes are of another shape.
 */
export function readFrozenMs(image: Uint8Array): number {
  const [statistics] = imageEntries(image);
  const dump = statistics && readFields(statistics).find((field) => field.number === 1)?.bytes;
  return dump ? (numberOf(readFields(dump), 2) ?? 0) / 1000 : 0;
}
