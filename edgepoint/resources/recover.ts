import { codeOf } from '../../kit/errors.ts';
import { ownerKey } from '../../kit/ids.ts';
import { purposeOfId } from '../model/app.ts';
import type { KeptInstance } from '../model/app.ts';
import type { RunningInstance, SnapdCalls } from '../model/calls.ts';
import { runsAlone } from '../model/orders.ts';
import { unparkWarm } from './freeze-and-thaw.ts';
import type { ResourceManager } from './run.ts';
import { addInstance, findInstance, moveInstance } from './state.ts';
import type { AppEntry, InstanceEntry } from './state.ts';
import { notListening } from './why.ts';

/**
 * Brings what we believe into agreement with what restored says runs: adopts instances we do not know and can use, ends the others,
 * and loses those that are gone. Repeatable; asked after each start of the head or of restored.
 */
export function reconcile(manager: ResourceManager, list: readonly RunningInstance[], meterIds: ReadonlyMap<string, string>): void {
  const { ports, state } = manager;
  const listed = new Set(list.map((running) => running.instance));
  for (const running of list) {
    if (findInstance(state, running.instance) !== null) continue;
    const app = state.apps.get(ownerKey(running.owner));
    const unusable = app === undefined ? 'its app is not hosted here' : whyUnusable(app, running);
    if (app === undefined || unusable !== null) {
      ports.warn('an orphan is ended', { instance: running.instance, reason: unusable });
      void endOrphan(manager, running.instance);
    } else adopt(manager, app, running, meterIds.get(running.instance) ?? running.instance);
  }
  for (const [id, app] of state.appOf) {
    const entry = app.instances.get(id);
    if (entry === undefined || listed.has(id) || entry.purpose !== 'serve') continue;
    // Others than warm and frozen ones are in the middle of a call that is repeated.
    if (['warm', 'frozen'].includes(entry.facts.mode)) manager.loseInstance(app, entry, 'it was gone when restored came back', 'instance-lost');
  }
}

function whyUnusable(app: AppEntry, running: RunningInstance): string | null {
  if (purposeOfId(running.instance) !== 'serve') return 'what it was started for has ended, or begins again';
  if (app.serving === null) return 'no release of its app serves';
  if (app.serving.order.release !== running.release) return `release ${app.serving.order.release} serves, not ${running.release}`;
  if (runsAlone(app.serving.order) && app.instances.size > 0) return 'its app runs one at a time and another runs';
  return null;
}

async function endOrphan(manager: ResourceManager, instance: string): Promise<void> {
  try {
    await manager.ports.restored.stop({ instance, graceMs: 1000 });
  } catch (failure) {
    manager.ports.warn('an orphan could not be ended; it is tried again when restored is next asked', { instance, failure });
  }
}

/** A restored instance listens already; one that was being booted may not yet. */
function adopt(manager: ResourceManager, app: AppEntry, running: RunningInstance, meterId: string): void {
  const { ports, keeper, state } = manager;
  const serving = app.serving;
  if (serving === null) return;
  const entry = addInstance(state, app, {
    id: running.instance,
    order: serving.order,
    purpose: 'serve',
    mode: running.frozen === true ? 'frozen' : 'booting',
    nowBootNs: ports.clock.bootNs(),
    reason: 'it ran already when the head started',
    meterId,
  });
  keeper.adopt(entry, running, 'end');
  if (running.frozen === true) {
    entry.frozen = Promise.resolve();
    return manager.touch(app);
  }
  void finishAdoption(manager, app, entry);
}

async function finishAdoption(manager: ResourceManager, app: AppEntry, entry: InstanceEntry): Promise<void> {
  const serving = app.serving;
  if (serving === null) return;
  const { manifest } = serving.order;
  const outcome = await manager.ports.probe({
    address: entry.facts.address,
    port: manifest.port,
    path: manifest.probe.path,
    hostname: serving.order.hosts[0] ?? serving.order.owner.app,
    timeoutMs: manifest.probe.timeoutSeconds * 1000,
    proxyProtocol: manifest.proxyProtocol,
    gone: manager.keeper.goneSignal(entry.facts.id),
  });
  const failure = notListening(outcome, manifest);
  if (failure !== null) return manager.loseInstance(app, entry, failure.message, failure.code);
  moveInstance(entry, 'warm', manager.ports.clock.bootNs(), 'it ran already when the head started');
  manager.touch(app);
  // It may have been about to sleep when the head died.
  await unparkWarm(manager, entry);
}

/**
 * The state a kept instance sleeps with, after a restart. A snapshot that was intended is ordered again: snapd gives the result of one
 * that is complete or under way, and takes one that never began, for the instance was drained before the intent was written. When it
 * cannot, the snapshot before counts. `drop` is one that does not count any more.
 */
export async function settleKept(
  about: { kept: KeptInstance | null; intended: KeptInstance | null },
  snapd: SnapdCalls,
): Promise<{ kept: KeptInstance | null; drop: string }> {
  const { kept, intended } = about;
  if (intended === null) return { kept, drop: '' };
  try {
    const taken = await snapd.snapshot({ instance: intended.instance, snapshotPath: intended.snapshotPath, keepRunning: false });
    return { kept: { ...intended, snapshotPath: taken.snapshotPath, bytes: taken.bytes }, drop: kept?.snapshotPath ?? '' };
  } catch (failure) {
    // Only a snapd that could not be asked leaves the question open.
    if (codeOf(failure) === 'peer-gone' || codeOf(failure) === 'peer-slow') throw failure;
    return { kept, drop: '' };
  }
}
