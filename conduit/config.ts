import { z } from 'zod';
import { namePattern } from '../kit/ids.ts';
import { bytesPerMebibyte } from '../kit/units.ts';

/** The conduit's settings; where they come from is told in host/config.ts. */
export const conduitSettings = {
  name: 'conduit',
  about: 'The providers’ door: API, web page and the desired state of every app.',
  prefix: 'CONDUIT',
  schema: z.object({
    listen: z.string().regex(/^.+:\d{1,5}$/).default('127.0.0.1:7700').describe('host:port of the API and the web page'),
    databaseUrl: z.string().default('file:conduit.db').describe('libSQL: file:PATH, libsql://… or http://…'),
    databaseToken: z.string().default('').describe('token of a remote libSQL server'),
    keyFile: z.string().default('conduit.key').describe('the key of this installation, under which secrets are kept; made when there is none. Keep a copy apart from the database'),
    natsUrl: z.string().default('nats://127.0.0.1:4222').describe('the message bus'),
    natsSeedFile: z.string().default('').describe('file with the NKEY seed of the conduit’s bus user'),
    zoneName: z.string().default('edge.test').describe('DNS zone of the apps: each is <app>.<zoneName>'),
    sites: z
      .array(z.object({ zone: z.string().regex(namePattern), edgepoint: z.string().regex(namePattern) }))
      .max(10_000)
      .default([])
      .describe('the operator’s edgepoints'),
    uploadFolder: z.string().default('uploads').describe('where artefacts are received and kept'),
    uploadBytesMax: z
      .number()
      .int()
      .min(1024)
      .default(512 * bytesPerMebibyte)
      .describe('the largest artefact, packed'),
    layerBytesPerProvider: z.number().int().min(1024).default(16 * 1024 * bytesPerMebibyte).describe('layers of images, packed, kept for each provider'),
    uploadsMax: z.number().int().min(1).max(64).default(4).describe('uploads under way at once'),
    checksMax: z.number().int().min(1).max(64).default(8).describe('checks (conduit check) under way at once, of all providers'),
    checkSeconds: z.number().min(1).max(3600).default(600).describe('how long a check may take before it is broken off'),
    resolver: z.string().default('').describe('the resolver at which records of providers’ own domains are looked up, 192.0.2.1 or 192.0.2.1:53; empty: the machine’s'),
    domainsPerProvider: z.number().int().min(0).max(9_000).default(50).describe('providers’ own domains, for each provider'),
    webhooksAnywhere: z.boolean().default(false).describe('alerts may go to webhooks at addresses that are not public: this machine’s and those of private networks'),
    health: z.string().default('').describe('unix:/path or host:port of /healthz and /metrics; empty: none'),
  }),
};
export type ConduitSettings = z.output<typeof conduitSettings.schema>;
