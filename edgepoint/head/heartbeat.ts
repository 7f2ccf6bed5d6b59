import type { Bus } from '../../host/bus.ts';
import type { Clock } from '../../kit/clock.ts';
import type { Site } from '../../kit/ids.ts';
import { heartbeatMessage } from '../../kit/wire/edgepoint-state.ts';
import { heartbeatSubject } from '../../kit/wire/subjects.ts';
import { encodeMessage } from '../../kit/wire/version.ts';

const heartbeatMs = 2000;

export interface Heartbeat {
  /** When the bus took the last one; null: none yet. */
  readonly lastBootNs: number | null;
  stop(): void;
}

/** Every 2 s the edgepoint says that it is alive (`heartbeatSchema`). */
export function startHeartbeat(bus: Pick<Bus, 'up' | 'publish'>, site: Site, clock: Clock): Heartbeat {
  let lastBootNs: number | null = null;
  const sayAlive = (): void => {
    const bootNs = clock.bootNs();
    if (bus.up && bus.publish(heartbeatSubject(site), encodeMessage(heartbeatMessage, { ...site, bootId: clock.bootId, bootNs }))) lastBootNs = bootNs;
  };
  const timer = setInterval(sayAlive, heartbeatMs);
  sayAlive();
  return {
    get lastBootNs() {
      return lastBootNs;
    },
    stop: () => clearInterval(timer),
  };
}
