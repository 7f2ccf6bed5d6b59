import { Failure, codeOf, messageOf } from '../../kit/errors.ts';
import { formatBytes, formatMs, nsPerMs } from '../../kit/units.ts';
import type { KeptInstance } from '../model/app.ts';
import { letRun } from './freeze-and-thaw.ts';
import type { Step } from './plan/view.ts';
import type { Manages } from './manages.ts';
import { moveInstance } from './state.ts';
import type { AppEntry, InstanceEntry } from './state.ts';

/** What is under way may end within this time; then the instance serves on. An old release's may take longer. */
const drainMs = 2000;
const endDrainMs = 30_000;
/** After a drain that failed: with the dispatcher away it fails at once, and so would each next try, for ever. */
const drainRetryMs = 200;
/** After a snapshot that failed, the next try waits this long, doubling. */
const sleepRetryMs = 5000;
const sleepRetryMsMax = 600_000;

/** The second half of `sleep` and `end`; the instance is draining already. Never rejects. */
export async function sleepInstance(
  manager: Manages,
  app: AppEntry,
  entry: InstanceEntry,
  step: Step & { kind: 'sleep' | 'end' },
): Promise<void> {
  const keeps = step.kind === 'sleep' && app.serving?.order.manifest.state === 'keep';
  try {
    const { id } = entry.facts;
    // One that is frozen was drained before, and its tunnels are parked.
    const drained =
      entry.frozen !== null ||
      (step.kind === 'end'
        ? await drainToEnd(manager, app, id)
        : await manager.ports.dispatcher.drain({ instance: id, park: keeps, timeoutMs: drainMs }));
    if (manager.keeper.goneSignal(id).aborted) return manager.loseInstance(app, entry, 'it ended by itself', 'app-exited');
    if (!drained && step.kind === 'sleep' && !('regardless' in step)) return stayWarm(manager, app, entry, 'something came under way while it was to sleep');
    app.backoff = null;
    if (keeps) await sleepWithState(manager, app, entry, step.reason);
    else await sleepWithoutState(manager, app, entry, step);
  } catch (failure) {
    await failedToSleep(manager, app, entry, failure);
  }
  manager.touch(app);
  manager.touchRefused();
}

/** Resolves when nothing is under way at any instance of an app that is given nothing new. Never rejects. */
export async function drainAll(manager: Pick<Manages, 'ports'>, app: AppEntry): Promise<void> {
  await Promise.all([...app.instances.keys()].map((instance) => drainToEnd(manager, app, instance)));
}

/** True when nothing is under way at an instance that is to go for good; false when that took too long, or the dispatcher is away. */
async function drainToEnd({ ports }: Pick<Manages, 'ports'>, app: AppEntry, instance: string): Promise<boolean> {
  const untilBootNs = ports.clock.bootNs() + endDrainMs * nsPerMs;
  // Another drain of it may have been under way (it was about to sleep), and one drain breaks off another: it is asked again.
  for (let asked = 0; asked < 3 && app.instances.has(instance) && ports.clock.bootNs() < untilBootNs; asked += 1) {
    if (await ports.dispatcher.drain({ instance, park: false, timeoutMs: endDrainMs })) return true;
  }
  return false;
}

function stayWarm(manager: Manages, app: AppEntry, entry: InstanceEntry, reason: string): void {
  const nowBootNs = manager.ports.clock.bootNs();
  app.noSleepBeforeBootNs = Math.max(app.noSleepBeforeBootNs, nowBootNs + drainRetryMs * nsPerMs);
  moveInstance(entry, 'warm', nowBootNs, reason);
  manager.touch(app);
}

async function sleepWithoutState(manager: Manages, app: AppEntry, entry: InstanceEntry, step: Step & { kind: 'sleep' | 'end' }): Promise<void> {
  // Asleep only once it is gone: whoever reads `asleep` may count on no process, and a volume on no second writer.
  await manager.keeper.end(entry);
  moveInstance(entry, 'asleep', manager.ports.clock.bootNs(), step.reason);
  manager.ports.tell({
    owner: app.owner,
    release: entry.facts.release,
    kind: 'sleep',
    text: `Instance ${entry.facts.id} ${step.kind === 'end' ? 'has ended' : 'went to sleep'}: ${step.reason}.`,
    figures: { left: app.instances.size },
  });
}

async function sleepWithState(manager: Manages, app: AppEntry, entry: InstanceEntry, reason: string): Promise<void> {
  const { ports, keeper } = manager;
  const { id, release, address } = entry.facts;
  // What stands still cannot be snapshotted.
  if (entry.frozen !== null) await letRun(manager, entry);
  const before = app.kept;
  const sequence = (before?.instance === id ? before.sequence : 0) + 1;
  const next: KeptInstance = { instance: id, release, address, sequence, snapshotPath: ports.paths.kept(id, sequence), bytes: 0 };
  await ports.records.intendKept(app.owner, next);
  const taken = await ports.snapd.snapshot({ instance: id, snapshotPath: next.snapshotPath, keepRunning: false });
  // From here on the state is on disk only: whatever fails now must not lose it.
  app.kept = { ...next, snapshotPath: taken.snapshotPath, bytes: taken.bytes, imageBytes: taken.imageBytes };
  try {
    await ports.records.saveKept(app.owner, app.kept);
  } catch (failure) {
    ports.warn('a kept snapshot is recorded only as an intent', { instance: id, failure });
  }
  await keeper.end(entry);
  moveInstance(entry, 'asleep', ports.clock.bootNs(), reason);
  app.sleepFailures = 0;
  manager.ports.tell({
    owner: app.owner,
    release,
    kind: 'sleep',
    text: `Instance ${id} went to sleep with its state (${formatBytes(taken.bytes)}, frozen for ${formatMs(taken.frozenMs)}): ${reason}.`,
    tookMs: taken.tookMs,
    figures: { bytes: taken.bytes, frozenMs: taken.frozenMs },
  });
  if (before !== null && before.snapshotPath !== next.snapshotPath) await discardQuietly(manager, before.snapshotPath);
}

async function discardQuietly(manager: Manages, snapshotPath: string): Promise<void> {
  try {
    await manager.ports.snapd.discard({ snapshotPath });
  } catch (failure) {
    manager.ports.warn('an old snapshot could not be removed', { snapshotPath, failure });
  }
}

async function dropIntentQuietly(manager: Manages, app: AppEntry): Promise<void> {
  try {
    await manager.ports.records.dropIntent(app.owner);
  } catch (failure) {
    manager.ports.warn('an intent could not be taken back', { app: app.key, failure });
  }
}

/** The instance runs on when it still can; the next try waits. */
async function failedToSleep(manager: Manages, app: AppEntry, entry: InstanceEntry, failure: unknown): Promise<void> {
  const { ports } = manager;
  const nowBootNs = ports.clock.bootNs();
  if (entry.facts.mode !== 'draining') {
    ports.warn('an instance fell asleep with a fault', { instance: entry.facts.id, failure });
    return;
  }
  app.sleepFailures += 1;
  await dropIntentQuietly(manager, app);
  const delayMs = Math.min(sleepRetryMsMax, sleepRetryMs * 2 ** Math.min(20, app.sleepFailures - 1));
  app.noSleepBeforeBootNs = nowBootNs + delayMs * nsPerMs;
  if (manager.keeper.goneSignal(entry.facts.id).aborted) {
    return manager.loseInstance(app, entry, `it ended while it was put to sleep: ${messageOf(failure)}`, 'app-exited');
  }
  moveInstance(entry, 'warm', nowBootNs, 'it could not be put to sleep');
  ports.tell({
    owner: app.owner,
    release: entry.facts.release,
    kind: 'fault',
    code: failure instanceof Failure ? failure.code : codeOf(failure),
    text: `Instance ${entry.facts.id} could not be put to sleep: ${messageOf(failure)}. It serves on; the next try is in ${formatMs(delayMs)}.`,
  });
  await ports.dispatcher.unpark(entry.facts.id);
}
