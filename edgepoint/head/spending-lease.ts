import type { Bus } from '../../host/bus.ts';
import type { Clock } from '../../kit/clock.ts';
import { nsPerSecond } from '../../kit/units.ts';
import { spendingBeatMessage } from '../../kit/wire/spending.ts';
import { spendingBeatSubject } from '../../kit/wire/subjects.ts';
import { parseMessage } from '../../kit/wire/version.ts';
import { noteSpendingKnown } from '../resources/caps.ts';
import type { ResourceManager } from '../resources/run.ts';
import { wakeAt } from './timers.ts';

/**
 * Apps with a spending cap are served as long as somebody judges what they spend: each beat of the conduit is good for so long. It is
 * missing when the bus is cut off, and when the conduit or metering is away. A head that begins has heard nobody yet, and begins with a lease.
 */
export function holdSpendingLease(bus: Pick<Bus, 'subscribe'>, clock: Clock, leaseSeconds: number, manager: ResourceManager): { stop(): void } {
  const onKnown = (known: boolean): void => {
    manager.ports.warn(known ? 'spending is judged again' : 'apps with a spending cap are served no more: nobody judges what they spend', {});
    noteSpendingKnown(manager, known);
  };
  let untilBootNs = clock.bootNs() + leaseSeconds * nsPerSecond;
  let cancel = (): void => undefined;
  const watch = (): void => {
    cancel = wakeAt(clock, untilBootNs, () => {
      if (clock.bootNs() < untilBootNs) watch();
      else onKnown(false);
    });
  };
  watch();
  const beats = bus.subscribe(spendingBeatSubject, (_subject, text) => {
    if (!parseMessage(spendingBeatMessage, text).ok) return;
    const lapsed = clock.bootNs() >= untilBootNs;
    untilBootNs = clock.bootNs() + leaseSeconds * nsPerSecond;
    if (!lapsed) return;
    cancel();
    watch();
    onKnown(true);
  });
  return {
    stop() {
      cancel();
      beats.stop();
    },
  };
}
