import { z } from 'zod';
import { preparationReportSchema } from './report.ts';
import { defineMessage } from './version.ts';

/** The stages of a deploy on one edgepoint, in order; `ready` and `failed` end it. A check has those up to `report`, which ends it, and `failed`. */
export const deployStages = ['fetch', 'unpack', 'boot', 'probe', 'warm', 'snapshot', 'trial', 'report', 'sleep', 'ready', 'failed'] as const;

/** Stream EVENTS, subject `event.<zone>.<edgepoint>.<provider>.<scope>.<app>`: what happened to an app, for people and progress bars. */
export const eventSchema = z.object({
  zone: z.string(),
  edgepoint: z.string(),
  provider: z.string(),
  scope: z.string(),
  app: z.string(),
  release: z.int(),
  /** Empty when it belongs to no deploy; of a check, the check's id. */
  deployId: z.string().default(''),
  kind: z.enum(['deploy', 'wake', 'sleep', 'scale', 'fault', 'check']),
  /** For `deploy` and `check`: one of deployStages. */
  stage: z.string().default(''),
  /** A sentence for people. */
  text: z.string(),
  /** A stable code when something failed, else empty. */
  code: z.string().default(''),
  /** How long the thing it speaks of took; null when it has just begun. */
  tookMs: z.number().nullable().default(null),
  figures: z.record(z.string(), z.number()).default({}),
  wallMs: z.number(),
  /** At the stage `report`: what preparing the release has shown. */
  report: preparationReportSchema.nullable().default(null),
  /** At the stage `built`: the artefact that came of a build, and its name in the edgepoint's bucket of builds. */
  built: z.object({ object: z.string().max(200), digest: z.string().regex(/^sha256:[0-9a-f]{64}$/), bytes: z.int().min(0) }).nullable().default(null),
});
export type AppEvent = z.output<typeof eventSchema>;
export const eventMessage = defineMessage('event', { major: 1, minor: 3 }, eventSchema);

/** Stream LOGS, subject `log.<zone>.<edgepoint>.<provider>.<scope>.<app>`: what instances wrote on stdout and stderr. */
export const logSchema = z.object({
  provider: z.string(),
  scope: z.string(),
  app: z.string(),
  release: z.int(),
  instance: z.string(),
  wallMs: z.number(),
  /** One or more whole lines (a line over 8 KiB is cut). */
  text: z.string(),
});
export type LogChunk = z.output<typeof logSchema>;
export const logMessage = defineMessage('log', { major: 1, minor: 0 }, logSchema);
