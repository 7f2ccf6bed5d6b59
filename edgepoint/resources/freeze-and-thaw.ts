import { codeOf, messageOf } from '../../kit/errors.ts';
import { formatBytes, formatMs, nsPerMs } from '../../kit/units.ts';
import type { Manages } from './manages.ts';
import type { Step } from './plan/view.ts';
import { moveInstance } from './state.ts';
import type { AppEntry, InstanceEntry } from './state.ts';

/** What is under way may end within this time; then the instance stays warm. */
const drainMs = 2000;
const drainRetryMs = 200;

/** The second half of `freeze`; the instance is draining already. Never rejects. */
export async function freezeInstance(manager: Manages, app: AppEntry, entry: InstanceEntry, step: Step & { kind: 'freeze' }): Promise<void> {
  const { ports } = manager;
  const { id } = entry.facts;
  const drained = await ports.dispatcher.drain({ instance: id, park: app.serving?.order.manifest.state === 'keep', timeoutMs: drainMs });
  entry.freezing = false;
  if (manager.keeper.goneSignal(id).aborted) return manager.loseInstance(app, entry, 'it ended by itself', 'app-exited');
  const nowBootNs = ports.clock.bootNs();
  if (!drained || app.waiting > 0 || app.accessWaits) {
    app.noSleepBeforeBootNs = Math.max(app.noSleepBeforeBootNs, nowBootNs + drainRetryMs * nsPerMs);
    moveInstance(entry, 'warm', nowBootNs, 'it was wanted while it was to be frozen');
    manager.touch(app);
    return unparkWarm(manager, entry);
  }
  moveInstance(entry, 'frozen', nowBootNs, step.reason);
  entry.frozen = freezeNow(manager, app, entry, step.reason);
  // A request may have come meanwhile: then it is thawed at once, which cuts the freeze short.
  manager.touch(app);
}

async function freezeNow(manager: Manages, app: AppEntry, entry: InstanceEntry, reason: string): Promise<void> {
  const { ports } = manager;
  const { id, release } = entry.facts;
  try {
    const taken = await ports.restored.freeze({ instance: id });
    ports.tell({
      owner: app.owner,
      release,
      kind: 'sleep',
      text: `Instance ${id} was frozen and gave back ${formatBytes(taken.givenBackBytes)} of ${formatBytes(taken.memoryBytes)}: ${reason}.`,
      tookMs: taken.tookMs,
      figures: { memoryBytes: taken.memoryBytes, givenBackBytes: taken.givenBackBytes, stoppedMs: taken.stoppedMs },
    });
  } catch (failure) {
    if (entry.facts.mode !== 'frozen') return; // it was wanted, or has ended: whoever took it over sees to it
    entry.cannotFreeze = true;
    ports.tell({ owner: app.owner, release, kind: 'fault', code: codeOf(failure), text: `Instance ${id} could not be frozen: ${messageOf(failure)}. It is put to sleep instead.` });
    manager.touch(app);
  }
}

/**
 * One that has become warm is given what was parked for it, and requests. Not when the plan that followed lets it go again: a drain that is
 * under way would be broken off, and the instance would end with new requests in it.
 */
export async function unparkWarm({ ports }: Pick<Manages, 'ports'>, entry: InstanceEntry): Promise<void> {
  if (entry.facts.mode === 'warm') await ports.dispatcher.unpark(entry.facts.id);
}

/** Begins a thaw: the instance is on its way to warm when this returns. */
export function thawInstance(manager: Manages, app: AppEntry, entry: InstanceEntry, step: Step & { kind: 'thaw' }): void {
  moveInstance(entry, 'restoring', manager.ports.clock.bootNs(), step.reason);
  void thaw(manager, app, entry, step.reason);
}

/** Runs again when this returns, also when the order to freeze it was still under way. Rejects when it cannot. */
export async function letRun(manager: Manages, entry: InstanceEntry): Promise<void> {
  const { restored } = manager.ports;
  const { id } = entry.facts;
  await restored.thaw({ instance: id });
  if (entry.frozen !== null) {
    // A freeze that is repeated because restored was killed under it may come after the thaw.
    const order = await Promise.race([entry.frozen.then(() => 'answered' as const), Promise.resolve('under way' as const)]);
    if (order === 'under way') {
      await entry.frozen;
      await restored.thaw({ instance: id });
    }
  }
  entry.frozen = null;
}

async function thaw(manager: Manages, app: AppEntry, entry: InstanceEntry, reason: string): Promise<void> {
  const { ports, keeper } = manager;
  const { id, release } = entry.facts;
  const fromBootNs = ports.clock.bootNs();
  try {
    await letRun(manager, entry);
  } catch (failure) {
    return manager.loseInstance(app, entry, `it could not be thawed: ${messageOf(failure)}`, 'thaw-failed');
  }
  const nowBootNs = ports.clock.bootNs();
  moveInstance(entry, 'warm', nowBootNs, reason);
  entry.lastActiveBootNs = nowBootNs;
  if (keeper.goneSignal(id).aborted) return manager.loseInstance(app, entry, 'it ended by itself', 'app-exited');
  manager.touch(app);
  void unparkWarm(manager, entry);
  const tookMs = (nowBootNs - fromBootNs) / nsPerMs;
  ports.tell({ owner: app.owner, release, kind: 'wake', text: `Instance ${id} was thawed in ${formatMs(tookMs)}: ${reason}.`, tookMs });
  if (manager.state.apps.get(app.key) !== app) await keeper.end(entry);
}
