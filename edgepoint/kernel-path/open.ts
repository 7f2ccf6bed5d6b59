import type { Clock } from '../../kit/clock.ts';
import { addressNumber } from '../model/instance-address.ts';
import type { DispatcherNews } from '../model/calls.ts';
import type { OwnRanges } from '../model/own-address.ts';
import { openGate } from './gate.ts';
import { openNftables } from './nftables.ts';
import { KernelPath } from './run.ts';
import { heldQueue, ruleset } from './table.ts';

/** A packet may wait this long for its app, as a request may. */
const holdMs = 60_000;

/** The kernel path of an edgepoint, ready to be told its routes. Needs root, in the network namespace of the edgepoint. */
export async function openKernelPath(about: {
  readonly ranges: OwnRanges;
  readonly bridge: string;
  /** Of instances: its first address, and how many of its bits are fixed. */
  readonly subnet: { readonly address: string; readonly prefixLength: number };
  readonly boxProgram: string;
  readonly clock: Clock;
  readonly tell: DispatcherNews['demand'];
  readonly warn: (text: string, fields: Record<string, unknown>) => void;
  /** The process that holds packets has ended. */
  readonly onLost: () => void;
}): Promise<KernelPath> {
  const nftables = openNftables();
  nftables.run(ruleset(about.ranges, about.bridge));
  const hostMax = 2 ** (32 - about.subnet.prefixLength);
  const firstAddress = Math.floor(addressNumber(about.subnet.address) / hostMax) * hostMax;
  const gate = await openGate(about.boxProgram, { queue: heldQueue, holdMs }, { held: (app, held) => path.noteHeld(app, held), lost: about.onLost });
  const path: KernelPath = new KernelPath({
    nftables,
    gate,
    subnet: { mark: firstAddress, mask: 2 ** 32 - hostMax },
    nowBootNs: about.clock.bootNs,
    epoch: `own/${about.clock.bootId}/${about.clock.bootNs()}`,
    tell: about.tell,
    every: (ms, callback) => {
      const timer = setInterval(callback, ms);
      return () => clearInterval(timer);
    },
    sleepMs: (ms) => Bun.sleep(ms),
    warn: about.warn,
  });
  return path;
}
