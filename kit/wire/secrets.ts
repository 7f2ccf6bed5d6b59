import { z } from 'zod';
import { ownerKey, siteKey } from '../ids.ts';
import type { Owner, Site } from '../ids.ts';

/** Names and values of secrets, as they are once they are opened. A name becomes that of a file. */
export const plainSecretsSchema = z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string().regex(/^[^\0]*$/));
export type PlainSecrets = z.output<typeof plainSecretsSchema>;

/** The secrets of one release, for one edgepoint alone (`host/wrap.ts`). */
export const wrappedSecretsSchema = z.object({
  /** The same for the same secrets of the provider at every edgepoint; tells nothing else of them. */
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  /** `plainSecretsSchema` as JSON, wrapped for the key that the edgepoint tells of itself (`edgepointStateSchema.opens`). */
  wrapped: z.string().max(256 * 1024),
});
export type WrappedSecrets = z.output<typeof wrappedSecretsSchema>;

/** What they are bound to: given to another app, release or edgepoint they do not open. */
export const secretsContext = (owner: Owner, release: number, site: Site): string => `edgepoint secrets 1\n${ownerKey(owner)}\n${release}\n${siteKey(site)}`;
