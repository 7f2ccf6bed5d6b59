import type { Bus } from '../../host/bus.ts';
import type { Clock } from '../../kit/clock.ts';
import type { Site } from '../../kit/ids.ts';
import { heartbeatMessage } from '../../kit/wire/edgepoint-state.ts';
import { heartbeatSubject } from '../../kit/wire/subjects.ts';
import { encodeMessage } from '../../kit/wire/version.ts';

const heartbeatMs = 2000;

/** Every 2 s the edgepoint says that it is alive (`heartbeatSchema`). */
export function startHeartbeat(bus: Pick<Bus, 'up' | 'publish'>, site: Site, clock: Clock): { stop(): void } {
  const sayAlive = (): void => {
    if (bus.up) bus.publish(heartbeatSubject(site), encodeMessage(heartbeatMessage, { ...site, bootId: clock.bootId, bootNs: clock.bootNs() }));
  };
  const timer = setInterval(sayAlive, heartbeatMs);
  sayAlive();
  return { stop: () => clearInterval(timer) };
}
