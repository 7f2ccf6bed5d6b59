import { formatBytes, microsPerUnit } from '../kit/units.ts';
import type { UsageReport } from '../kit/wire/usage.ts';
import type { Charge } from './charges.ts';
import type { RefusedRow } from './ledger.ts';
import type { InvoiceLine } from './rating.ts';

/** `0.001234 EUR`: every micro is shown, for a sum of rounded figures must be checkable by eye. */
export function formatMicros(micros: number, currency: string): string {
  return `${(micros / microsPerUnit).toFixed(6)} ${currency}`;
}

function formatQuantity(line: InvoiceLine, charges: readonly Charge[]): string {
  const perName = charges.find(({ charge }) => charge === line.charge)?.perName;
  const parts = line.quantity / line.per;
  const figure = Number.isInteger(parts) ? String(parts) : parts.toFixed(parts < 0.001 ? 9 : 6);
  return perName === undefined ? `${line.quantity} ${line.unit}` : `${figure} ${perName}`;
}

/** Columns as wide as their widest cell; the last ones stand to the right, as figures do. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[], leftColumns: number): string[] {
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => (row[column] ?? '').length)));
  const print = (cells: readonly string[]): string =>
    widths.map((width, column) => (column < leftColumns ? (cells[column] ?? '').padEnd(width) : (cells[column] ?? '').padStart(width))).join('  ').trimEnd();
  return [print(heads), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(print)];
}

/** Usage and invoice lines as a person reads them. */
export function printReport(report: UsageReport, charges: readonly Charge[]): string {
  if (report.code !== '') return `${report.note}\n`;
  const appName = (row: { scope: string; app: string }): string => (row.scope === 'main' ? row.app : `${row.scope}/${row.app}`);
  const used = table(
    ['app', 'instances', 'CPU', 'memory', 'in', 'out', 'requests', 'wakes', 'at rest'],
    report.apps.map((usage) => [
      appName(usage),
      String(usage.instances),
      `${(usage.totals.cpuNs / 1e9).toFixed(2)} s`,
      `${formatBytes(usage.totals.memoryByteSeconds)}·s`,
      formatBytes(usage.totals.bytesIn),
      formatBytes(usage.totals.bytesOut),
      String(usage.totals.requests),
      String(usage.totals.wakes),
      `${formatBytes(usage.totals.storageByteSeconds)}·s`,
    ]),
    1,
  );
  const billed = table(
    ['app', 'charge', 'quantity', 'price', 'amount'],
    [
      ...report.lines.map((line) => [
        appName(line),
        line.charge,
        formatQuantity(line, charges),
        formatMicros(line.priceMicros, report.currency),
        formatMicros(line.amountMicros, report.currency),
      ]),
      ['total', '', '', '', formatMicros(report.totalMicros, report.currency)],
    ],
    2,
  );
  return [`Usage of ${report.provider}`, '', ...used, '', 'Invoice lines', '', ...billed, ''].join('\n');
}

/** Records that were set aside, as a person reads them. */
export function printRefused(rows: readonly RefusedRow[]): string {
  if (rows.length === 0) return 'Nothing was set aside.\n';
  const cells = rows.map(({ firstWallMs, times, code, subject, reason }) => [new Date(firstWallMs).toISOString(), String(times), code, subject, reason]);
  return `${table(['first seen', 'times', 'code', 'subject', 'reason'], cells, 5).join('\n')}\n`;
}
