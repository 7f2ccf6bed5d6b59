import type { Log } from '../../host/log.ts';
import { messageOf } from '../../kit/errors.ts';
import type { CapStore, DueAlert } from '../store/caps.ts';
import type { Posting } from './post.ts';
import { alertBody, isDue, signedRequest, waitAfter, waitMsMax } from './webhook.ts';

export interface AlertPorts {
  readonly caps: Pick<CapStore, 'waiting' | 'settle'>;
  post(posting: Posting): Promise<void>;
  /** The sealed secret of a provider's webhook, opened. */
  open(provider: string, sealed: string): Promise<string>;
  readonly anywhere: boolean;
  wallMs(): number;
  readonly log: Log;
  onChange(): void;
}

/** Tells webhooks of alerts: each at least once, by one id, one at a time for each provider; one that waits for its next attempt holds back no other. What waits stands in the database. */
export interface Alerts {
  /** There may be something to tell. */
  wake(): void;
  stop(): Promise<void>;
}

/** At once, of all providers. */
const underWayMax = 16;
const noteCharactersMax = 200;

export function openAlerts(ports: AlertPorts): Alerts {
  const underWay = new Map<string, Promise<void>>();
  let looking: Promise<void> | null = null;
  let again = false;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  async function look(): Promise<void> {
    const waiting = await ports.caps.waiting();
    if (stopped) return;
    const nowWallMs = ports.wallMs();
    let nextMs = Infinity;
    for (const alert of waiting) {
      if (underWay.has(alert.provider) || underWay.size >= underWayMax) continue;
      if (isDue(alert.nextWallMs, nowWallMs)) underWay.set(alert.provider, deliver(alert).finally(() => void underWay.delete(alert.provider)).then(wake));
      else nextMs = Math.min(nextMs, alert.nextWallMs - nowWallMs);
    }
    clearTimeout(timer);
    if (nextMs < Infinity) timer = setTimeout(wake, Math.min(nextMs, waitMsMax));
  }

  async function deliver(alert: DueAlert): Promise<void> {
    const { id, provider, url } = alert;
    const attempts = alert.attempts + 1;
    try {
      const secret = await ports.open(provider, alert.secret);
      await ports.post({ url, anywhere: ports.anywhere, ...signedRequest({ id, body: alertBody(provider, alert), secret, nowWallMs: ports.wallMs() }) });
      await ports.caps.settle(id, { state: 'delivered', attempts, nextWallMs: alert.nextWallMs, note: '' });
    } catch (thrown) {
      const waitMs = waitAfter(attempts);
      const note = messageOf(thrown).slice(0, noteCharactersMax);
      const state = waitMs === null ? 'failed' : 'waiting';
      await ports.caps
        .settle(id, { state, attempts, nextWallMs: ports.wallMs() + (waitMs ?? 0), note })
        .catch((failure: unknown) => ports.log.error('how an alert fared could not be written', { id, reason: messageOf(failure) }));
      ports.log.info('an alert was not taken', { id, provider, attempts, note });
    }
    ports.onChange();
  }

  function wake(): void {
    if (stopped) return;
    again = true;
    looking ??= (async () => {
      while (again && !stopped) {
        again = false;
        await look();
      }
    })()
      .catch((thrown: unknown) => {
        ports.log.error('alerts could not be read', { reason: messageOf(thrown) });
        timer = setTimeout(wake, 1000);
      })
      .finally(() => {
        looking = null;
      });
  }

  return {
    wake,
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await looking;
    },
  };
}
