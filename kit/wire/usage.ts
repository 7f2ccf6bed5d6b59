import { z } from 'zod';
import { defineMessage } from './version.ts';

/**
 * What one instance has used since it began: stream USAGE, subject `usage.<zone>.<edgepoint>.<provider>.<scope>.<app>`.
 * All counters are totals since the instance's start, so that a record lost, repeated or out of order cannot change what is
 * billed: the ledger bills the growth of the highest total it has seen for (edgepoint, instance).
 * Sleeping templates and volumes are reported the same way under an `instance` of `storage:<app release>`.
 */
export const usageSchema = z.object({
  /** `<instance>/<sequence>`; permanent, for de-duplication. */
  id: z.string().max(200),
  zone: z.string(),
  edgepoint: z.string(),
  provider: z.string(),
  scope: z.string(),
  app: z.string(),
  release: z.int(),
  instance: z.string(),
  /** Counts up within the instance. */
  sequence: z.int().min(0),
  bootId: z.string(),
  /** Boot clock of the edgepoint. */
  fromBootNs: z.number(),
  toBootNs: z.number(),
  /** Label only. */
  wallMs: z.number(),
  /** True when the instance has ended and this is its last record. */
  final: z.boolean(),
  totals: z.object({
    cpuNs: z.number().min(0),
    /** Resident memory integrated over time. */
    memoryByteSeconds: z.number().min(0),
    bytesIn: z.number().min(0),
    bytesOut: z.number().min(0),
    requests: z.number().min(0),
    /** 1 when this instance began by a restore. */
    wakes: z.number().min(0),
    /** Snapshots and volumes at rest, integrated over time. */
    storageByteSeconds: z.number().min(0),
  }),
});
export type UsageRecord = z.output<typeof usageSchema>;
export type UsageTotals = UsageRecord['totals'];
export const usageMessage = defineMessage('usage', { major: 1, minor: 0 }, usageSchema);

/** NATS request `metering.query` (reply: usageReport): what a provider used and what it costs, from the ledger. */
export const usageQuerySchema = z.object({
  provider: z.string(),
  /** Empty for all. */
  app: z.string().default(''),
});
export type UsageQuery = z.output<typeof usageQuerySchema>;
export const usageQueryMessage = defineMessage('usage-query', { major: 1, minor: 0 }, usageQuerySchema);

export const usageReportSchema = z.object({
  provider: z.string(),
  /** Empty when the question was answered, else why not: `bad-query`, `nothing-used`, `unknown-app`, `ledger-away`. */
  code: z.string().default(''),
  /** A sentence for people, when there is something to say. */
  note: z.string().default(''),
  currency: z.string(),
  apps: z.array(z.object({ scope: z.string(), app: z.string(), instances: z.int(), totals: usageSchema.shape.totals })),
  /** One line for each charged thing and app; `quantity * priceMicros / per` rounded half up to whole micros is `amountMicros`. */
  lines: z.array(
    z.object({
      scope: z.string(),
      app: z.string(),
      charge: z.string(),
      quantity: z.number(),
      unit: z.string(),
      per: z.number(),
      priceMicros: z.number(),
      amountMicros: z.number(),
    }),
  ),
  totalMicros: z.number(),
});
export type UsageReport = z.output<typeof usageReportSchema>;
export const usageReportMessage = defineMessage('usage-report', { major: 1, minor: 0 }, usageReportSchema);
