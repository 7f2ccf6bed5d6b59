import { z } from 'zod';
import { buildSchema, installers, manifestSchema } from './manifest.ts';
import { wrappedSecretsSchema } from './secrets.ts';
import { defineMessage } from './version.ts';

/** Checks of one provider at once: each has a place of its own, so that what is written over and over stays bounded. */
export const checksPerProviderMax = 2;

/** The place behind those of checks: a provider has one build under way at once. */
export const buildPlace = checksPerProviderMax + 1;

/** Uid slots of checks: above those of apps (`desiredAppSchema`), so that nothing of a check can be taken for an app's. */
export const checkUidSlots = { first: 60_001, last: 65_000 } as const;

/**
 * A release that shall be prepared and forgotten: KV bucket `desired`, key `<zone>.<edgepoint>.<provider>.check-<place>`. It is no
 * release: nothing serves it, no name leads to it and nothing of it stays. A deleted key means that nobody waits for it any more.
 */
export const checkOrderSchema = z.object({
  /** Its events carry it as their `deployId`. */
  checkId: z.string().regex(/^[a-z0-9-]{1,64}$/),
  provider: z.string(),
  scope: z.string(),
  app: z.string(),
  /** What a deploy would make of it. */
  release: z.int().min(1),
  artefactDigest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  artefactBytes: z.int().min(0),
  /** Its name in the edgepoint's object store: not its digest, which an app's release may have too. */
  object: z.string(),
  manifest: manifestSchema,
  /** Those of the app's present release. */
  secrets: wrappedSecretsSchema.optional(),
  hosts: z.array(z.string()),
  uidSlot: z.int().min(checkUidSlots.first).max(checkUidSlots.last),
  /** It shall be built rather than prepared: the artefact is a source folder, and what comes of it goes into the edgepoint's bucket of builds. */
  build: buildSchema.extend({ install: z.enum(installers) }).optional(),
});
export type BuildOrder = NonNullable<z.output<typeof checkOrderSchema>['build']>;
export type CheckOrder = z.output<typeof checkOrderSchema>;
export const checkOrderMessage = defineMessage('check-order', { major: 1, minor: 2 }, checkOrderSchema);
