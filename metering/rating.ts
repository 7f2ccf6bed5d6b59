import type { UsageReport } from '../kit/wire/usage.ts';
import type { Charge } from './charges.ts';
import { addTotals, wireTotals, zeroTotals } from './totals.ts';
import type { ExactTotals } from './totals.ts';

/** What one app used, summed over its instances and edgepoints. */
export interface AppUsage {
  readonly scope: string;
  readonly app: string;
  readonly instances: number;
  readonly totals: ExactTotals;
}

export type InvoiceLine = UsageReport['lines'][number];

/**
 * `quantity * priceMicros / per` in whole micros, an exact half rounded up. There are two roundings and no other:
 * a quantity drops its part of a unit (charges.ts), and a line's amount is rounded once, here. Sums are of rounded lines,
 * so what a provider adds up by hand is what is asked of them.
 */
export function amountMicros(quantity: bigint, priceMicros: bigint, per: bigint): bigint {
  return (2n * quantity * priceMicros + per) / (2n * per);
}

function invoiceLine(usage: AppUsage, charge: Charge): InvoiceLine {
  const quantity = charge.quantity(usage.totals);
  return {
    scope: usage.scope,
    app: usage.app,
    charge: charge.charge,
    quantity: Number(quantity),
    unit: charge.unit,
    per: charge.per,
    priceMicros: charge.priceMicros,
    amountMicros: Number(amountMicros(quantity, BigInt(charge.priceMicros), BigInt(charge.per))),
  };
}

/** One line for each app and charge that was used at all, in the order of apps and of the table. */
export function invoiceLines(usages: readonly AppUsage[], charges: readonly Charge[]): InvoiceLine[] {
  return usages.flatMap((usage) => charges.map((charge) => invoiceLine(usage, charge)).filter((line) => line.quantity > 0));
}

/** The sum of the lines, which is what is owed: there is no second way to it. */
export function totalMicros(lines: readonly InvoiceLine[]): number {
  return lines.reduce((sum, line) => sum + line.amountMicros, 0);
}

export function sumUsages(usages: readonly AppUsage[]): ExactTotals {
  return usages.reduce((sum, usage) => addTotals(sum, usage.totals), zeroTotals);
}

export interface Bill {
  readonly provider: string;
  readonly currency: string;
  readonly usages: readonly AppUsage[];
}

/** Usage and what it costs, as `metering.query` answers it. */
export function rate(bill: Bill, charges: readonly Charge[]): Pick<UsageReport, 'provider' | 'currency' | 'apps' | 'lines' | 'totalMicros'> {
  const lines = invoiceLines(bill.usages, charges);
  return {
    provider: bill.provider,
    currency: bill.currency,
    apps: bill.usages.map(({ scope, app, instances, totals }) => ({ scope, app, instances, totals: wireTotals(totals) })),
    lines,
    totalMicros: totalMicros(lines),
  };
}
