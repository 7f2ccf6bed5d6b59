import { z } from 'zod';
import { manifestSchema } from './manifest.ts';
import { wrappedSecretsSchema } from './secrets.ts';
import { cappedSchema } from './spending.ts';
import { defineMessage } from './version.ts';

/**
 * What one edgepoint shall host: KV bucket `desired`, key `<zone>.<edgepoint>.<provider>.<scope>.<app>`.
 * A deleted key means: host it no longer. The artefact lies in the object store bucket of that edgepoint, under its digest.
 */
export const desiredAppSchema = z.object({
  provider: z.string(),
  scope: z.string(),
  app: z.string(),
  /** Counts up within the app. */
  release: z.int().min(1),
  /** `sha256:` and 64 hexadecimal digits of the uploaded tar.gz. */
  artefactDigest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  artefactBytes: z.int().min(0),
  /** With the variables that `conduit env` has set. */
  manifest: manifestSchema,
  /** Missing when it has none. */
  secrets: wrappedSecretsSchema.optional(),
  /** The app's names in DNS, without the closing dot; the Host values its requests carry. */
  hosts: z.array(z.string()),
  /** 1 to 60,000: instances of this app see uid 0 to 65535 as `uidSlot * 65536` onwards on the machine. */
  uidSlot: z.int().min(1).max(60_000),
  /** The deploy that asked for it; progress events carry it. */
  deployId: z.string(),
  /** `<zone>.<edgepoint>` of each edgepoint that hosts it, this one too: they may have its template of one another. */
  sites: z.array(z.string()).default([]),
  /** `<zone>.<edgepoint>` of the one of them that makes the requests of the manifest's `cron`; empty when there are none. */
  cronSite: z.string().default(''),
  /** Of a canary (scope `canary`): the part of the app's requests that it gets, in percent. Missing for an app itself. */
  canaryPercent: z.int().min(1).max(99).optional(),
  /** Missing when no spending cap applies to it. */
  capped: cappedSchema.optional(),
});
export type DesiredApp = z.output<typeof desiredAppSchema>;
export const desiredAppMessage = defineMessage('desired-app', { major: 1, minor: 7 }, desiredAppSchema);

/** The name table the global dispatcher answers from: KV bucket `names`, key `<provider>.<scope>.<app>`, written by the conduit. */
export const nameEntrySchema = z.object({
  provider: z.string(),
  scope: z.string(),
  app: z.string(),
  hosts: z.array(z.string()),
  /** `<zone>.<edgepoint>` of each edgepoint that hosts it. */
  sites: z.array(z.string()),
});
export type NameEntry = z.output<typeof nameEntrySchema>;
export const nameEntryMessage = defineMessage('name-entry', { major: 1, minor: 0 }, nameEntrySchema);
