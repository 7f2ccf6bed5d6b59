import { z } from 'zod';
import { defineMessage } from './version.ts';

/** A name in DNS, lower case, without the closing dot (RFC 1035; letters, digits and inner hyphens in each label). */
export const domainPattern = /^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** The zone and all names in it, which are the operator's to give. */
export const isOfZone = (domain: string, zoneName: string): boolean => domain === zoneName || domain.endsWith(`.${zoneName}`);
const domainSchema = z.string().regex(domainPattern);

/** What stands before the name of a host in the name of its DNS challenge (RFC 8555, section 8.4). */
export const dnsChallengeLabel = '_acme-challenge';
/** The path of HTTP challenges, up to their token (RFC 8555, section 8.3). */
export const httpChallengePath = '/.well-known/acme-challenge/';

/** KV bucket `challenges`, key `dns.<place>`: a TXT record that the global dispatcher answers with while the key is there. */
export const dnsChallengeSchema = z.object({
  /** `_acme-challenge.<apex>`; the dispatcher takes no other. */
  name: z.string().max(253),
  /** Base64url of a SHA-256. */
  value: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
});
export type DnsChallenge = z.output<typeof dnsChallengeSchema>;
export const dnsChallengeMessage = defineMessage('dns-challenge', { major: 1, minor: 0 }, dnsChallengeSchema);

/** KV bucket `challenges`, key `http.<place>`: what every edgepoint answers with at the path of that token, on that host alone. */
export const httpChallengeSchema = z.object({
  host: domainSchema,
  token: z.string().regex(/^[A-Za-z0-9_-]{16,128}$/),
  /** Token and thumbprint of the account's key. */
  answer: z.string().regex(/^[A-Za-z0-9_-]{16,128}\.[A-Za-z0-9_-]{43}$/),
});
export type HttpChallenge = z.output<typeof httpChallengeSchema>;
export const httpChallengeMessage = defineMessage('http-challenge', { major: 1, minor: 0 }, httpChallengeSchema);

/** KV bucket `certificates`, key `<zone>.<edgepoint>.<name>`: a certificate with its private key, for that edgepoint's dispatcher alone. */
export const sharedCertificateSchema = z.object({
  /** The first name it covers without `*.`; also its file's name there. */
  name: domainSchema,
  /** Digest of the chain: another after each renewal. */
  certificateId: z.string().max(64),
  /** The public key it is sealed for. */
  sealTo: z.string().max(128),
  /** PEM of key and chain, sealed (`host/wrap.ts`). */
  sealed: z.string().max(200_000),
});
/** What is sealed for one name does not open under another. */
export const certificateContext = (name: string): string => `edgepoint certificate 1\n${name}`;
export type SharedCertificate = z.output<typeof sharedCertificateSchema>;
export const sharedCertificateMessage = defineMessage('shared-certificate', { major: 1, minor: 0 }, sharedCertificateSchema);

/** KV bucket `issued`, key `<name>`: how it stands with a certificate; written by the certifier, read by the conduit. */
export const issuedCertificateSchema = z.object({
  name: domainSchema,
  names: z.array(z.string()).max(100),
  /** Wall clock, ms; null while there is none. */
  notBeforeMs: z.number().nullable(),
  notAfterMs: z.number().nullable(),
  /** When an authority is asked next at the earliest; null when nothing is planned. */
  nextMs: z.number().nullable(),
  /** Stable code and sentence of what went wrong last, or is about to; empty when all is well. */
  code: z.string(),
  text: z.string(),
});
export type IssuedCertificate = z.output<typeof issuedCertificateSchema>;
export const issuedCertificateMessage = defineMessage('issued-certificate', { major: 1, minor: 0 }, issuedCertificateSchema);

/** KV bucket `domains`, key `<domain>`: a provider's own domain whose record was seen, so that a certificate shall be asked for it; written by the conduit. */
export const wantedDomainSchema = z.object({
  domain: domainSchema,
  provider: z.string(),
  scope: z.string(),
  app: z.string(),
  /** `<zone>.<edgepoint>` of each edgepoint that hosts it: those get the certificate. */
  sites: z.array(z.string()).max(10_000),
});
export type WantedDomain = z.output<typeof wantedDomainSchema>;
export const wantedDomainMessage = defineMessage('wanted-domain', { major: 1, minor: 0 }, wantedDomainSchema);
