import type { UsageTotals } from '../kit/wire/usage.ts';

/**
 * Totals as whole numbers without a bound: a sum over instances may pass 2^53, where a double begins to skip integers,
 * and money must not depend on the order of an addition.
 */
export type ExactTotals = Readonly<Record<keyof UsageTotals, bigint>>;

/** Every counter a record carries, in the order of the ledger's columns. A new counter is a row here and a step of the schema. */
export const counters = [
  { name: 'cpuNs', column: 'cpu_ns' },
  { name: 'memoryByteSeconds', column: 'memory_byte_seconds' },
  { name: 'bytesIn', column: 'bytes_in' },
  { name: 'bytesOut', column: 'bytes_out' },
  { name: 'requests', column: 'requests' },
  { name: 'wakes', column: 'wakes' },
  { name: 'storageByteSeconds', column: 'storage_byte_seconds' },
] as const satisfies readonly { name: keyof UsageTotals; column: string }[];

function collect<T>(valueOf: (name: keyof UsageTotals) => T): Record<keyof UsageTotals, T> {
  return {
    cpuNs: valueOf('cpuNs'),
    memoryByteSeconds: valueOf('memoryByteSeconds'),
    bytesIn: valueOf('bytesIn'),
    bytesOut: valueOf('bytesOut'),
    requests: valueOf('requests'),
    wakes: valueOf('wakes'),
    storageByteSeconds: valueOf('storageByteSeconds'),
  };
}

export const zeroTotals: ExactTotals = collect(() => 0n);

/** Fractions of a nanosecond or byte-second are dropped: the provider is never billed for a part. */
export function exactTotals(totals: UsageTotals): ExactTotals {
  return collect((name) => BigInt(Math.floor(totals[name])));
}

/** For the wire, which carries doubles: exact up to 2^53, then to 16 digits. */
export function wireTotals(totals: ExactTotals): UsageTotals {
  return collect((name) => Number(totals[name]));
}

export function addTotals(left: ExactTotals, right: ExactTotals): ExactTotals {
  return collect((name) => left[name] + right[name]);
}

export function highestTotals(left: ExactTotals, right: ExactTotals): ExactTotals {
  return collect((name) => (left[name] > right[name] ? left[name] : right[name]));
}

export function sameTotals(left: ExactTotals, right: ExactTotals): boolean {
  return counters.every(({ name }) => left[name] === right[name]);
}

/** The first counter of `later` that is below the one in `earlier`, or undefined when none is. */
export function counterThatFell(earlier: ExactTotals, later: ExactTotals): keyof UsageTotals | undefined {
  return counters.find(({ name }) => later[name] < earlier[name])?.name;
}
