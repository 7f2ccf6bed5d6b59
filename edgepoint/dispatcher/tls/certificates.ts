import type { X509Certificate } from 'node:crypto';
import { messageOf } from '../../../kit/errors.ts';

/** One certificate with its chain and key, as one PEM text says it. */
export interface Certificate {
  /** What the file is called, for people. */
  readonly label: string;
  /** DNS names of its subjectAltName, lower case; a first label of `*` stands for exactly one (RFC 6125, section 6.4.3). */
  readonly names: readonly string[];
  /** Wall clock, ms. */
  readonly notAfterMs: number;
  /** The certificates, the server's own first. */
  readonly chain: string;
  /** Never to be logged. */
  readonly key: string;
}

const certificateBlock = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
const keyBlock = /-----BEGIN (?:RSA |EC )?PRIVATE KEY-----[^-]+-----END (?:RSA |EC )?PRIVATE KEY-----/;
const namePattern = /^(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*$/;

/**
 * Reads a PEM text with a private key and a certificate chain in any order; the first certificate must be the key's. The text says
 * why it is refused, and nothing of what it holds.
 */
export function readCertificate(label: string, pem: string): Certificate | string {
  const key = keyBlock.exec(pem)?.[0];
  const blocks = pem.match(certificateBlock) ?? [];
  const [own] = blocks;
  if (key === undefined) return 'it has no private key (unencrypted, as PEM)';
  if (own === undefined) return 'it has no certificate';
  let certificate: X509Certificate;
  try {
    // Loaded with the first certificate.
    const crypto = process.getBuiltinModule('node:crypto');
    certificate = new crypto.X509Certificate(own);
    if (!certificate.checkPrivateKey(crypto.createPrivateKey(key))) return 'its private key is not that of its first certificate';
  } catch (thrown) {
    return `it cannot be read: ${messageOf(thrown)}`;
  }
  const names = namesOf(certificate.subjectAltName ?? '');
  if (names.length === 0) return 'its certificate names no host (subjectAltName)';
  return { label, names, notAfterMs: Date.parse(certificate.validTo), chain: blocks.join('\n'), key };
}

const namesOf = (subjectAltName: string): readonly string[] =>
  subjectAltName.split(', ').flatMap((entry) => {
    const name = entry.startsWith('DNS:') ? entry.slice('DNS:'.length).toLowerCase() : '';
    return namePattern.test(name) ? [name] : [];
  });

/** Which certificate answers for which name: an exact name before a wildcard, and of several for one name the one that lasts longest. */
export class CertificateTable {
  private readonly byName = new Map<string, Certificate>();

  constructor(certificates: Iterable<Certificate>) {
    for (const certificate of certificates) {
      for (const name of certificate.names) {
        const known = this.byName.get(name);
        if (known === undefined || lastsLonger(certificate, known)) this.byName.set(name, certificate);
      }
    }
  }

  /** `name` in lower case without a closing dot, as SNI (RFC 6066, section 3) and routes have it; null: no certificate covers it. */
  find(name: string): Certificate | null {
    const exact = this.byName.get(name);
    if (exact !== undefined) return exact;
    const dot = name.indexOf('.');
    return dot <= 0 ? null : (this.byName.get(`*${name.slice(dot)}`) ?? null);
  }

  get size(): number {
    return this.byName.size;
  }
}

const lastsLonger = (one: Certificate, other: Certificate): boolean =>
  one.notAfterMs === other.notAfterMs ? one.label < other.label : one.notAfterMs > other.notAfterMs;

/** Whether a certificate covers a host name. */
export function covers(certificate: Certificate, name: string): boolean {
  if (certificate.names.includes(name)) return true;
  const dot = name.indexOf('.');
  return dot > 0 && certificate.names.includes(`*${name.slice(dot)}`);
}
