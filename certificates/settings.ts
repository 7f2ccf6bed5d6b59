import { z } from 'zod';
import type { Settings } from '../host/config.ts';
import { namePattern } from '../kit/ids.ts';
import { domainPattern } from '../kit/wire/certificates.ts';

const schema = z.object({
  directoryUrl: z.url({ protocol: /^https$/ }).describe("The authority's directory (RFC 8555, section 7.1.1), such as https://acme-v02.api.letsencrypt.org/directory."),
  authorityCaFile: z.string().default('').describe("PEM file of who vouches for the authority's own server, for one inside a company; empty for the public ones."),
  contact: z.array(z.string().regex(/^mailto:.+@.+$/)).max(10).default([]).describe('Where the authority writes to: mailto:ops@example.com.'),
  bindingKeyId: z.string().default('').describe('Key id of an external account binding, for authorities that want one; empty for none.'),
  bindingKeyFile: z.string().default('').describe('File with the key of that binding (base64url).'),
  zoneName: z.string().regex(domainPattern).describe('The DNS zone of the apps: a certificate for it and everything directly below it.'),
  nameservers: z.array(z.string()).min(1).describe("Addresses of the zone's name servers, 192.0.2.53 or 192.0.2.53:53: a challenge must be answered by each before the authority looks."),
  sites: z
    .array(z.object({ zone: z.string().regex(namePattern), edgepoint: z.string().regex(namePattern) }))
    .max(10_000)
    .default([])
    .describe('The edgepoints that get the certificates.'),
  domainsMax: z.int().min(0).max(9_000).default(1_000).describe("Certificates for providers' own domains, together."),
  retrySeconds: z.number().min(1).default(60).describe('After a first failure it is tried again so much later, four times as long after each further one, up to 12 hours.'),
  databaseUrl: z.string().default('file:certificates.db').describe('libSQL: file:PATH, libsql://... or http://...'),
  keyFile: z.string().min(1).describe('File with the key that accounts and private keys are stored under; made when it is not there. Whoever loses it orders anew.'),
  natsUrl: z.string().default('nats://127.0.0.1:4222').describe('The message cluster.'),
  natsSeedFile: z.string().min(1).describe('File with the NKEY seed of this daemon.'),
  health: z.string().default('').describe('Where /healthz and /metrics are served: unix:/path or host:port; empty for nowhere.'),
});

export const certificatesSettings: Settings<typeof schema> = {
  name: 'certificates',
  about: 'Orders certificates from an ACME authority, renews them, and hands them to the edgepoints.',
  prefix: 'CERTIFICATES',
  schema,
};
export type CertificatesSettings = Readonly<z.output<typeof schema>>;
