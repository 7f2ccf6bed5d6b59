import type { Bus } from '../host/bus.ts';
import { readPublicKey, wrapFor } from '../host/wrap.ts';
import { siteKey } from '../kit/ids.ts';
import type { Site } from '../kit/ids.ts';
import { certificateContext, sharedCertificateMessage } from '../kit/wire/certificates.ts';
import { buckets, certificateKey } from '../kit/wire/subjects.ts';
import { encodeMessage, parseMessage } from '../kit/wire/version.ts';

/** A certificate and who shall have it. */
export interface Shared {
  readonly name: string;
  readonly certificateId: string;
  /** `<zone>.<edgepoint>`; null: all. */
  readonly sites: ReadonlySet<string> | null;
}

export interface SharePorts {
  readonly bus: Pick<Bus, 'getKv' | 'putKv' | 'deleteKv'>;
  /** The public key that a site's dispatcher has said; empty while it has said none. */
  readonly sealTo: (site: string) => string;
  /** Key and chain; null when it is gone. */
  readonly pem: (name: string) => Promise<string | null>;
  readonly onShared: (site: string, name: string) => void;
}

/**
 * Puts certificates on the bus, each sealed for the dispatcher of each edgepoint that shall have it. What lies there already of the same
 * certificate for the same key stays. Takes back what was shared under `gone`.
 */
export async function share(sites: readonly Site[], certificates: readonly Shared[], gone: readonly string[], ports: SharePorts): Promise<void> {
  const { bus } = ports;
  for (const site of sites) {
    const where = siteKey(site);
    const sealTo = ports.sealTo(where);
    const key = readPublicKey(sealTo);
    for (const { name, certificateId, sites: only } of certificates) {
      if (only !== null && !only.has(where)) await takeBack(bus, site, name);
      else if (key !== null && !(await isThere(bus, site, name, certificateId, sealTo))) {
        const pem = await ports.pem(name);
        if (pem === null) continue;
        const sealed = wrapFor(key, certificateContext(name), Buffer.from(pem, 'latin1'));
        await bus.putKv(buckets.certificates, certificateKey(site, name), encodeMessage(sharedCertificateMessage, { name, certificateId, sealTo, sealed }));
        ports.onShared(where, name);
      }
    }
    for (const name of gone) await takeBack(bus, site, name);
  }
}

async function isThere(bus: SharePorts['bus'], site: Site, name: string, certificateId: string, sealTo: string): Promise<boolean> {
  const text = await bus.getKv(buckets.certificates, certificateKey(site, name));
  const parsed = text === null ? null : parseMessage(sharedCertificateMessage, text);
  return parsed !== null && parsed.ok && parsed.value.certificateId === certificateId && parsed.value.sealTo === sealTo;
}

async function takeBack(bus: SharePorts['bus'], site: Site, name: string): Promise<void> {
  const key = certificateKey(site, name);
  if ((await bus.getKv(buckets.certificates, key)) !== null) await bus.deleteKv(buckets.certificates, key);
}
