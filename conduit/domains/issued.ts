import type { Bus } from '../../host/bus.ts';
import type { Log } from '../../host/log.ts';
import { issuedCertificateMessage } from '../../kit/wire/certificates.ts';
import type { IssuedCertificate } from '../../kit/wire/certificates.ts';
import { buckets } from '../../kit/wire/subjects.ts';
import { parseMessage } from '../../kit/wire/version.ts';

/** How it stands with certificates, as the certifier says it. */
export interface Issued {
  /** Null when nobody has said anything: no authority is asked, or not yet. */
  of(name: string): IssuedCertificate | null;
  /** Calls back after each change; returns what stops it. */
  onChange(callback: () => void): () => void;
  stop(): void;
}

export async function watchIssued(bus: Bus, log: Log): Promise<Issued> {
  const known = new Map<string, IssuedCertificate>();
  const callbacks = new Set<() => void>();
  const watch = await bus.watchKv(buckets.issued, '>', (key, text) => {
    const parsed = text === null ? null : parseMessage(issuedCertificateMessage, text);
    if (parsed !== null && !parsed.ok) log.warn('what is said of a certificate is not understood', { key, reason: parsed.reason });
    else if (parsed === null) known.delete(key);
    else known.set(key, parsed.value);
    for (const callback of callbacks) callback();
  });
  return {
    of: (name) => known.get(name) ?? null,
    onChange(callback) {
      callbacks.add(callback);
      return () => callbacks.delete(callback);
    },
    stop: () => watch.stop(),
  };
}
