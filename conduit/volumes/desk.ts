import type { Bus } from '../../host/bus.ts';
import { Failure } from '../../kit/errors.ts';
import { newId, siteKey } from '../../kit/ids.ts';
import type { RandomBytes, Site } from '../../kit/ids.ts';
import { volumesSubject } from '../../kit/wire/subjects.ts';
import { volumesAskMessage, volumesBeatMs, volumesLineMessage, volumesSilentMsMax } from '../../kit/wire/volumes.ts';
import type { VolumesAsk, VolumesLine } from '../../kit/wire/volumes.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';

/** Asks under way, of all providers. */
const inAllMax = 256;

interface Asked {
  heardMs: number;
  take(line: VolumesLine): void;
  silent(): void;
}

/** What providers ask edgepoints about volumes. It carries lines and keeps nothing: what has begun goes on without it. */
export class VolumeDesk {
  private readonly ports: { readonly bus: Bus; readonly randomBytes: RandomBytes; readonly nowMs: () => number };
  private readonly asked = new Map<string, Asked>();
  private readonly subscription: { stop(): void };
  private readonly looks: NodeJS.Timeout;

  constructor(ports: VolumeDesk['ports']) {
    this.ports = ports;
    this.subscription = ports.bus.subscribe('volumes.*.*.from.*', (subject, text) => {
      const parsed = parseMessage(volumesLineMessage, text);
      // By the subject: no other edgepoint can speak on it.
      const asked = this.asked.get(subject);
      if (asked === undefined || !parsed.ok) return;
      asked.heardMs = ports.nowMs();
      asked.take(parsed.value.line);
    });
    this.looks = setInterval(() => {
      for (const asked of this.asked.values()) if (ports.nowMs() - asked.heardMs > volumesSilentMsMax) asked.silent();
    }, volumesBeatMs);
  }

  /** Tells every line but beats and a failure, until it is done. Failures: what the edgepoint says, `bus-away`, `busy`, `edgepoint-away`, `client-gone`. */
  async ask(site: Site, ask: VolumesAsk, onLine: (line: VolumesLine) => void, gone?: AbortSignal): Promise<Extract<VolumesLine, { type: 'done' }>> {
    const { bus, randomBytes, nowMs } = this.ports;
    if (this.asked.size >= inAllMax) throw new Failure('busy', 'too many are asking about volumes', { remedy: 'Try again in a minute.' });
    const name = newId('ask', randomBytes);
    const subject = volumesSubject(site, 'from', name);
    try {
      return await new Promise((resolve, reject) => {
        this.asked.set(subject, {
          heardMs: nowMs(),
          take: (line) => {
            if (line.type === 'beat') return;
            if (line.type === 'failed') return reject(new Failure(line.code, line.text, { remedy: line.remedy }));
            onLine(line);
            if (line.type === 'done') resolve(line);
          },
          silent: () => reject(new Failure('edgepoint-away', `${siteKey(site)} is silent; what was begun goes on there`, { remedy: '`conduit volumes APP` shows what has come of it.' })),
        });
        gone?.addEventListener('abort', () => reject(new Failure('client-gone', 'nobody listens any more')), { once: true });
        if (!bus.publish(volumesSubject(site, 'to', name), encodeMessage(volumesAskMessage, ask))) reject(new Failure('bus-away', 'the message bus is away', { remedy: 'Try again in a moment.' }));
      });
    } finally {
      this.asked.delete(subject);
    }
  }

  stop(): void {
    clearInterval(this.looks);
    this.subscription.stop();
  }
}
