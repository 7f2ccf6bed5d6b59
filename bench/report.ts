/** What a benchmark found: ratios are medians of pairs measured in turn; figures name their unit. Null: it could not be measured here, and `notes` says why. */
export interface Report {
  readonly bench: string;
  readonly ratios: Readonly<Record<string, number | null>>;
  readonly figures: Readonly<Record<string, number | null>>;
  /** Rows for people: what, and its numbers. */
  readonly rows: readonly Readonly<Record<string, string | number>>[];
  readonly notes: readonly string[];
}

/** The table for people, then one line of JSON. */
export function printReport(report: Report): void {
  console.table(report.rows);
  for (const note of report.notes) console.log(note);
  console.log(JSON.stringify({ bench: report.bench, ratios: report.ratios, figures: report.figures }));
}
