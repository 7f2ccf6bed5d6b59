import { Failure } from '../../kit/errors.ts';
import { nsPerMs } from '../../kit/units.ts';
import type { Purpose, ReleaseOrder } from '../model/app.ts';
import type { CgroupPaths } from '../model/calls.ts';
import { offeringOf } from '../model/orders.ts';
import type { DataPaths } from '../model/paths.ts';
import type { Start } from './keeper.ts';
import { planAdmit } from './plan/admit.ts';
import type { ResourceManager } from './run.ts';
import { addInstance, appEntry, moveInstance } from './state.ts';
import type { AppEntry } from './state.ts';
import { viewRoom } from './views.ts';

/** A preparation waits this long for memory; then the deploy tries again later. */
const roomWaitMs = 20_000;
const roomLookMs = 25;
/** A pause waits this long for what is under way; then it is cut. */
const pauseWaitMs = 30_000;

/** Of a check: the entry that stands for its app (`guestEntry`), and where what it needs lies. */
export interface Guest {
  readonly app: AppEntry;
  readonly paths: DataPaths;
}

/** Starts an instance that serves nobody, for a deploy, a check or a command of its provider, with memory as any other. */
export async function startPreparation(
  manager: ResourceManager,
  order: ReleaseOrder,
  purpose: Purpose,
  start: Start,
  sleepMs: (ms: number) => Promise<void>,
  guest?: Guest,
): Promise<{ instance: string; address: string; logPath: string; gone: AbortSignal; stepsMs: Readonly<Record<string, number>>; cgroup: CgroupPaths; end(): Promise<void> }> {
  const { ports, keeper } = manager;
  const app = guest?.app ?? appEntry(manager.state, order.owner);
  const touch = (): void => (guest === undefined ? manager.touch(app) : ports.stateChanged(null));
  await waitForRoom(manager, app.key, offeringOf(order).memoryBytes, sleepMs);
  const id = ports.newInstanceId(purpose);
  const nowBootNs = ports.clock.bootNs();
  const reason = purpose === 'run' ? 'a command of its provider runs in it' : `release ${order.release} is being prepared`;
  const entry = addInstance(manager.state, app, { id, order, purpose, mode: 'cold', nowBootNs, reason });
  moveInstance(entry, start.kind === 'boot' ? 'booting' : 'restoring', nowBootNs, reason);
  touch();
  let ended: Promise<void> | null = null;
  const end = (): Promise<void> => {
    ended ??= keeper.end(entry).then(() => {
      touch();
      manager.touchRefused();
    });
    return ended;
  };
  const gone = keeper.goneSignal(id);
  try {
    const running = await keeper.start(entry, order, start, guest?.paths);
    moveInstance(entry, 'warm', ports.clock.bootNs(), reason);
    if (guest === undefined) ports.stateChanged(app.key);
    return { instance: id, address: running.address, logPath: running.logPath, gone, stepsMs: running.stepsMs, cgroup: running.cgroup, end };
  } catch (failure) {
    await end();
    throw failure;
  }
}

async function waitForRoom(manager: ResourceManager, app: string, memoryBytes: number, sleepMs: (ms: number) => Promise<void>): Promise<void> {
  const { clock } = manager.ports;
  const untilBootNs = clock.bootNs() + roomWaitMs * nsPerMs;
  for (;;) {
    const nowBootNs = clock.bootNs();
    const admission = planAdmit(viewRoom(manager.state, nowBootNs), app, memoryBytes);
    if (admission.verdict === 'start') return;
    if (nowBootNs >= untilBootNs) throw new Failure('edgepoint-full', admission.reason, { remedy: 'Deploy to another edgepoint, or again when there is less load.' });
    if (admission.verdict === 'wait') manager.evict(admission.evict, `its memory is wanted to prepare ${app}`);
    await sleepMs(roomLookMs);
  }
}

/** No instance of the app runs when this returns, and none starts until it is promoted or rejected. */
export async function pauseApp(manager: ResourceManager, order: { owner: ReleaseOrder['owner']; reason: string }, sleepMs: (ms: number) => Promise<void>): Promise<void> {
  const { clock } = manager.ports;
  const app = appEntry(manager.state, order.owner);
  manager.pause(order.owner, order.reason);
  const untilBootNs = clock.bootNs() + pauseWaitMs * nsPerMs;
  while (app.instances.size > 0 && clock.bootNs() < untilBootNs) await sleepMs(roomLookMs);
  await Promise.all([...app.instances.values()].map((entry) => manager.keeper.end(entry)));
}
