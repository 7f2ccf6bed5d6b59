import { z } from 'zod';
import { defineMessage } from './version.ts';

/** A calendar month in UTC, `2026-11`; months compare as their texts do. */
export const monthSchema = z.string().regex(/^\d{4}-(?:0[1-9]|1[0-2])$/);

export function monthOf(wallMs: number): string {
  return new Date(wallMs).toISOString().slice(0, 7);
}

/** When the month after this one begins: milliseconds of the wall clock. */
export function monthEndWallMs(month: string): number {
  const [year = 0, number = 0] = month.split('-').map(Number);
  return Date.UTC(year, number, 1);
}

/**
 * What an app has cost in a month so far, its canary too: KV bucket `spending`, key `<provider>.<app>`, written by metering whenever it has
 * grown. What the ledger takes in belongs to the month in which it does, by metering's clock.
 */
export const spentSchema = z.object({
  provider: z.string(),
  app: z.string(),
  month: monthSchema,
  currency: z.string(),
  /** Millionths of the currency: the sum of the rounded lines, as on an invoice. */
  micros: z.number().min(0),
});
export type Spent = z.output<typeof spentSchema>;
export const spentMessage = defineMessage('spent', { major: 1, minor: 0 }, spentSchema);

/**
 * Sign of life of those who see to caps. Metering says that it counts (`metering.beat`), and the conduit, as long as it hears that and judges
 * by it, says so to the edgepoints (`spending.beat`): without it they serve apps that have a cap only for a while.
 */
export const spendingBeatSchema = z.object({});
export const spendingBeatMessage = defineMessage('spending-beat', { major: 1, minor: 0 }, spendingBeatSchema);

/** What an edgepoint must know of an app that has a cap, its own or its provider's. */
export const cappedSchema = z.object({
  /** Why it is not served until then (milliseconds of the wall clock); null while it is. */
  stopped: z.object({ reason: z.string().max(500), untilWallMs: z.number() }).nullable(),
});
export type Capped = z.output<typeof cappedSchema>;
