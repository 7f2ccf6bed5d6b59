import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../kit/clock.ts';
import { nsPerMs } from '../../kit/units.ts';
import { heldPath, pagerPath } from '../box/folders.ts';
import { readFill } from '../box/memory/fill.ts';
import { connectToPager, type PagerConnection, readHeld } from '../box/memory/held.ts';
import { type PagerAtWork, startPager } from './pager.ts';

/** Whose memory a pager takes. */
export interface PagedOut {
  readonly instance: string;
  readonly memoryCgroup: string;
  /** Of its first process. */
  readonly pid: number;
  /** What a thaw needs, and stays: freezing.ts. */
  readonly hotPath: string;
}

/** The pagers of frozen instances, and of those that were frozen and still lack memory: started, followed, and adopted after a kill -9. */
export interface Pagers {
  /** Has a pager take the memory of an instance; null when none can, and then the instance is as it was. */
  take(one: PagedOut, cut: AbortSignal): Promise<PagerAtWork | null>;
  /** `endIt` is called when memory of the instance will never be there again; also for one that has no pager yet. */
  follow(instance: string, endIt: (reason: string) => void): void;
  /** Whether memory of it lies with a pager. */
  holds(instance: string): boolean;
  /** Its memory will never be whole again, so it must not run. */
  isLost(instance: string): boolean;
  /** The instance is gone, and its files with it. */
  forget(instance: string): void;
  /** What they hold together. */
  heldBytes(): number;
}

export interface PagersOptions {
  readonly runFolder: string;
  readonly boxProgram: string;
  readonly clock: Clock;
  /** Whether this machine lets a process have its page faults answered. */
  readonly machineAllows: boolean;
  /** That all of them may hold together now. */
  readonly heldBytesMax: () => number;
  readonly onChange?: (heldBytes: number) => void;
  readonly expectOrphan: (pid: number) => void;
  readonly note: (text: string, fields: Record<string, unknown>) => void;
}

/** Its lock is gone a moment after its connections. */
const endMs = 1000;
const pollMs = 10;

export function openPagers(options: PagersOptions): Pagers {
  const { runFolder, clock } = options;
  const held = new Map<string, number>();
  const servers = new Map<string, number>();
  const ends = new Map<string, (reason: string) => void>();
  const connections = new Map<string, PagerConnection>();
  /** Of whose pagers the end is looked into; a new pager ends that, for the files are its own then. */
  const settling = new Map<string, symbol>();

  function setHeld(instance: string, bytes: number): void {
    if (bytes > 0) held.set(instance, bytes);
    else held.delete(instance);
    options.onChange?.(heldBytes());
  }

  /** It has ended, or there is none. */
  async function settle(instance: string): Promise<void> {
    setHeld(instance, 0);
    const server = servers.get(instance);
    if (server !== undefined) options.expectOrphan(server); // without its guard it has become a child of this process
    const deadlineNs = clock.bootNs() + endMs * nsPerMs;
    const mine = Symbol();
    settling.set(instance, mine);
    while (settling.get(instance) === mine) {
      const left = readHeld(runFolder, instance);
      if (left.kind === 'none') return;
      if (left.kind === 'done') {
        for (const path of [heldPath(runFolder, instance), pagerPath(runFolder, instance)]) rmSync(path, { force: true });
        return;
      }
      if (left.kind === 'failed') return void ends.get(instance)?.(left.reason);
      if (clock.bootNs() > deadlineNs) {
        const alive = await connectToPager(runFolder, instance);
        return alive === null ? void ends.get(instance)?.('its pager has ended too early') : keep(instance, alive);
      }
      await sleep(pollMs);
    }
  }

  async function connect(instance: string): Promise<void> {
    const connection = await connectToPager(runFolder, instance);
    return connection === null ? settle(instance) : keep(instance, connection);
  }

  async function keep(instance: string, connection: PagerConnection): Promise<void> {
    connections.set(instance, connection);
    if (!held.has(instance)) setHeld(instance, await connection.heldBytes()); // adopted from an earlier restored
    void connection.ended.then(() => {
      if (connections.get(instance) !== connection) return;
      connections.delete(instance);
      void settle(instance);
    });
  }

  const heldBytes = (): number => [...held.values()].reduce((all, one) => all + one, 0);

  return {
    async take(one, cut) {
      const { instance } = one;
      if (!options.machineAllows || readFill(runFolder, instance).kind === 'under-way') return null;
      connections.delete(instance); // the new one takes over from it
      settling.delete(instance);
      const order = {
        ...one,
        heldPath: heldPath(runFolder, instance),
        pagerPath: pagerPath(runFolder, instance),
        heldBytesMax: Math.max(0, options.heldBytesMax() - (heldBytes() - (held.get(instance) ?? 0))),
      };
      const pager = await startPager(options.boxProgram, order, cut, clock.bootNs, (pid) => servers.set(instance, pid)).catch(async (error: unknown) => {
        await connect(instance);
        throw error;
      });
      if (typeof pager === 'string') {
        options.note('no pager for a freeze', { instance, reason: pager });
        await connect(instance);
        return null;
      }
      return {
        stoppedNs: pager.stoppedNs,
        letGo: async () => {
          const taken = await pager.letGo().catch(async (error: unknown) => {
            await connect(instance);
            throw error;
          });
          setHeld(instance, taken.heldBytes);
          await connect(instance);
          return taken;
        },
      };
    },

    follow(instance, endIt) {
      ends.set(instance, endIt);
      void connect(instance);
    },

    holds: (instance) => readHeld(runFolder, instance).kind === 'under-way',
    isLost: (instance) => readHeld(runFolder, instance).kind === 'failed',

    forget(instance) {
      setHeld(instance, 0);
      for (const known of [servers, ends, connections, settling]) known.delete(instance);
    },

    heldBytes,
  };
}
