import { bytesPerGibibyte, bytesPerMebibyte } from '../kit/units.ts';
import type { ExactTotals } from './totals.ts';

/**
 * The one table of what is charged, and for how much. Nothing else in the platform costs anything: what has no row here is free,
 * and a new charge is a new row. Rating (`rating.ts`) knows no charge by name.
 */
export interface Charge {
  /** Stands in invoice lines for ever; never given another meaning. */
  readonly charge: string;
  /** What `quantity` counts: small enough that whole ones lose nobody money. */
  readonly unit: string;
  /** How many units cost `priceMicros`. */
  readonly per: number;
  /** What `per` units are called by people. */
  readonly perName: string;
  /** Millionths of the operator's currency, a whole number. */
  readonly priceMicros: number;
  /** Whole units in these totals; a part of a unit is dropped, in the provider's favour. Below 2^53 for 285,000 core-years. */
  readonly quantity: (totals: ExactTotals) => bigint;
}

const nsPerCpuMs = 1_000_000n;
const mebibyte = BigInt(bytesPerMebibyte);
/** A month is 730 hours, a twelfth of a year of 8,760, so that no month costs more than another for the same use. */
const secondsPerMonth = 730 * 3600;

export const charges: readonly Charge[] = [
  { charge: 'cpu', unit: 'CPU ms', per: 1000, perName: 'CPU second', priceMicros: 20, quantity: (totals) => totals.cpuNs / nsPerCpuMs },
  {
    charge: 'memory',
    unit: 'MiB-second',
    per: 1024,
    perName: 'GiB-second',
    priceMicros: 3,
    quantity: (totals) => totals.memoryByteSeconds / mebibyte,
  },
  { charge: 'egress', unit: 'byte', per: bytesPerGibibyte, perName: 'GiB out', priceMicros: 40_000, quantity: (totals) => totals.bytesOut },
  { charge: 'requests', unit: 'request', per: 1_000_000, perName: 'million requests', priceMicros: 300_000, quantity: (totals) => totals.requests },
  { charge: 'wakes', unit: 'wake', per: 1_000_000, perName: 'million wakes', priceMicros: 1_000_000, quantity: (totals) => totals.wakes },
  {
    charge: 'storage',
    unit: 'MiB-second at rest',
    per: 1024 * secondsPerMonth,
    perName: 'GiB-month at rest',
    priceMicros: 100_000,
    quantity: (totals) => totals.storageByteSeconds / mebibyte,
  },
];

/** Refuses a table that could not be billed from: the start of metering calls it, so a bad row never meets a provider. */
export function checkCharges(table: readonly Charge[]): readonly Charge[] {
  const seen = new Set<string>();
  for (const row of table) {
    if (seen.has(row.charge)) throw new Error(`broken invariant: the charge ${row.charge} stands twice in the table`);
    seen.add(row.charge);
    if (!Number.isSafeInteger(row.per) || row.per < 1) throw new Error(`broken invariant: ${row.charge}: per must be a whole number above 0`);
    if (!Number.isSafeInteger(row.priceMicros) || row.priceMicros < 0) {
      throw new Error(`broken invariant: ${row.charge}: priceMicros must be a whole number, 0 or more`);
    }
  }
  return table;
}
