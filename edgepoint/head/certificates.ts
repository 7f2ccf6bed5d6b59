import type { Bus } from '../../host/bus.ts';
import { siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { httpChallengeMessage, sharedCertificateMessage } from '../../kit/wire/certificates.ts';
import { buckets } from '../../kit/wire/subjects.ts';
import { parseMessage } from '../../kit/wire/version.ts';
import type { DispatcherLink } from './peers.ts';

type DispatcherEnd = Pick<DispatcherLink, 'certificate' | 'certificates' | 'challenge'>;

/**
 * Hands on to the local dispatcher what the bus says of certificates and of how they are proved. It is read anew for each dispatcher that
 * connects, so nothing of it is kept here; certificates are sealed for the dispatcher, and this process cannot read them.
 */
export class CertificateLink {
  private watches: readonly { stop(): void }[] = [];
  /** Counts beginnings: what an earlier one still tells is for a dispatcher that has gone. */
  private turn = 0;
  private readonly bus: Pick<Bus, 'watchKv'>;
  private readonly site: Site;
  private readonly dispatcher: DispatcherEnd;
  private readonly warn: (text: string, fields: Record<string, unknown>) => void;

  constructor(bus: Pick<Bus, 'watchKv'>, site: Site, dispatcher: DispatcherEnd, warn: (text: string, fields: Record<string, unknown>) => void) {
    this.bus = bus;
    this.site = site;
    this.dispatcher = dispatcher;
    this.warn = warn;
  }

  /** A dispatcher has connected. */
  async begin(): Promise<void> {
    this.stop();
    const { turn } = this;
    const names = new Set<string>();
    const prefix = `${siteKey(this.site)}.`;
    const certificates = await this.bus.watchKv(buckets.certificates, `${prefix}>`, (key, text) => {
      if (turn === this.turn) this.certificate(key.slice(prefix.length), text, names);
    });
    const challenges = await this.bus.watchKv(buckets.challenges, 'http.>', (key, text) => {
      if (turn === this.turn) this.challenge(key, text);
    });
    if (turn !== this.turn) return [certificates, challenges].forEach((watch) => watch.stop());
    this.watches = [certificates, challenges];
    // Only when the bus has told all is what it has not told gone.
    void certificates.ready.then(() => {
      if (turn === this.turn) this.dispatcher.certificates([...names]);
    });
  }

  /** The dispatcher has gone. */
  stop(): void {
    this.turn += 1;
    for (const watch of this.watches) watch.stop();
    this.watches = [];
  }

  private certificate(name: string, text: string | null, names: Set<string>): void {
    if (text === null) {
      names.delete(name);
      return this.dispatcher.certificate({ name, sealed: null });
    }
    // What cannot be understood here stands for one that is wanted: an earlier one of its name stays.
    names.add(name);
    const parsed = parseMessage(sharedCertificateMessage, text);
    if (!parsed.ok) return this.warn('a certificate cannot be understood', { name, reason: parsed.reason });
    if (parsed.value.name !== name) return this.warn('a certificate stands under the name of another', { name });
    this.dispatcher.certificate({ name, sealed: parsed.value.sealed });
  }

  private challenge(key: string, text: string | null): void {
    const parsed = text === null ? null : parseMessage(httpChallengeMessage, text);
    if (parsed !== null && !parsed.ok) this.warn('a challenge cannot be understood', { key, reason: parsed.reason });
    this.dispatcher.challenge({ key, challenge: parsed === null || !parsed.ok ? null : parsed.value });
  }
}
