import { z } from 'zod';

/** Yes, or no with a stable code, the reason in the provider's words and what to do about it (texts empty when yes). */
const answerSchema = z.object({ can: z.boolean(), code: z.string(), why: z.string(), remedy: z.string() });
export type ReportAnswer = z.output<typeof answerSchema>;

/**
 * What preparing a release on one edgepoint has shown: it was booted, probed, warmed, snapshotted and restored there, and this is what
 * was measured. A deploy and a check tell the same one. Null stands for what was not measured because something before it failed.
 */
export const preparationReportSchema = z.object({
  canSnapshot: answerSchema,
  /** Whether several instances of it may run at one edgepoint, each from the one template. */
  canClone: answerSchema,
  wakeBy: z.enum(['template', 'keep', 'cold']),
  /** Why it is woken in this way. */
  wakeReason: z.string(),
  /** Why it is never put to sleep; empty when it sleeps. */
  staysAwake: z.string(),
  /** The snapshot as it was taken, whether or not it is used. */
  imageBytes: z.number().nullable(),
  /** How long the program stood still while it was snapshotted. */
  frozenMs: z.number().nullable(),
  /** From the order to the first answer; the fastest of the trials. */
  coldBootMs: z.number(),
  restoreMs: z.number().nullable(),
  trials: z.number(),
  /** What the kernel counts as memory of one restored copy after its first answer. */
  cloneMemoryBytes: z.number().nullable(),
  /** `<zone>.<edgepoint>` that made the template, and measured its cold boot; empty: the one that reports. */
  madeBy: z.string().default(''),
  warnings: z.array(z.object({ code: z.string(), text: z.string() })),
});
export type PreparationReport = z.output<typeof preparationReportSchema>;
