import { codeOf, messageOf } from '../../kit/errors.ts';
import { formatMs, nsPerMs } from '../../kit/units.ts';
import type { ServingRelease, WakeBy } from '../model/app.ts';
import { nextBackoff } from './backoff.ts';
import type { Start } from './keeper.ts';
import type { Step } from './plan/view.ts';
import { unparkWarm } from './freeze-and-thaw.ts';
import type { Manages } from './manages.ts';
import { moveInstance } from './state.ts';
import type { AppEntry, InstanceEntry } from './state.ts';
import { notListening } from './why.ts';

/** So many failed restores in a row and the app is woken by cold boots until its next release. */
const restoreFailuresMax = 3;
/** For what the manifest names as `snapshot.after`; then it is booted cold. */
const afterTimeoutMs = 5000;

/** Begins a wake: the instance is in its mode when this returns, and runs or has failed later. */
export function wakeInstance(manager: Manages, app: AppEntry, step: Step & { kind: 'wake' }): void {
  const serving = app.serving;
  if (serving === null) return;
  const start = startOf(app, serving, step.by);
  const id = app.kept !== null && start.kind === 'restore' && start.continues ? app.kept.instance : manager.ports.newInstanceId('serve');
  const mode = start.kind === 'boot' ? 'booting' : 'restoring';
  const meterId = start.kind === 'restore' && start.continues ? `${id}.${manager.ports.newInstanceId('serve').slice(2)}` : id;
  const entry = manager.addServing(app, { id, order: serving.order, mode, reason: step.reason, meterId });
  void wake(manager, app, entry, { serving, start, reason: step.reason });
}

function startOf(app: AppEntry, serving: ServingRelease, by: WakeBy): Start {
  const kept = app.kept;
  if (by === 'keep' && kept !== null) return { kind: 'restore', snapshotPath: kept.snapshotPath, address: kept.address, continues: true };
  if (by !== 'cold' && serving.facts.snapshotPath !== '') {
    return { kind: 'restore', snapshotPath: serving.facts.snapshotPath, address: null, continues: false };
  }
  return { kind: 'boot', address: null };
}

interface WakeOrder {
  readonly serving: ServingRelease;
  readonly start: Start;
  readonly reason: string;
}

async function wake(manager: Manages, app: AppEntry, entry: InstanceEntry, order: WakeOrder): Promise<void> {
  const { ports, keeper } = manager;
  const fromBootNs = ports.clock.bootNs();
  try {
    if (entry.meterId !== entry.facts.id) void saveMeterId(manager, entry);
    const start = leftTheDisk(order) ? await withTemplate(manager, app, order) : order.start;
    const fetched = start === order.start ? {} : { fetch: (ports.clock.bootNs() - fromBootNs) / nsPerMs };
    const running = await keeper.start(entry, order.serving.order, start);
    const { probe, snapshot } = order.serving.order.manifest;
    if (order.start.kind === 'boot') await untilItAnswers(manager, entry, order.serving, { path: probe.path, timeoutMs: probe.timeoutSeconds * 1000 });
    /* The program's own part after a restore: until it has answered, nobody else may ask. */
    else if (snapshot.after !== undefined) await untilItAnswers(manager, entry, order.serving, { path: snapshot.after, timeoutMs: afterTimeoutMs });
    const nowBootNs = ports.clock.bootNs();
    moveInstance(entry, 'warm', nowBootNs, order.reason);
    entry.lastActiveBootNs = nowBootNs;
    // It is forgotten only when this one has served for a while: an app that ends again and again starts ever more slowly.
    if (app.backoff !== null) app.backoff = { ...app.backoff, untilBootNs: 0 };
    if (order.start.kind === 'restore') app.restoreFailures = 0;
    if (keeper.goneSignal(entry.facts.id).aborted) return manager.loseInstance(app, entry, 'it ended by itself', 'app-exited');
    manager.touch(app);
    if (order.start.kind === 'restore' && order.start.continues) void unparkWarm(manager, entry);
    tellWake(manager, app, entry, { tookMs: (nowBootNs - fromBootNs) / nsPerMs, how: order, stepsMs: { ...fetched, ...running.stepsMs } });
    if (!stillWanted(manager, app)) await keeper.end(entry);
  } catch (failure) {
    await fallBack(manager, app, entry, order, failure);
  }
}

const leftTheDisk = ({ serving, start }: WakeOrder): boolean => start.kind === 'restore' && !start.continues && serving.facts.offDisk === true;

/** The template is on the disk when this returns; it is fetched once for all who wait for it. */
async function withTemplate(manager: Manages, app: AppEntry, { serving }: WakeOrder): Promise<Start> {
  const facts = await manager.ports.recall(serving);
  if (app.serving?.order.release === serving.order.release) app.serving = { ...app.serving, facts };
  return { kind: 'restore', snapshotPath: facts.snapshotPath, address: null, continues: false };
}

async function saveMeterId(manager: Manages, entry: InstanceEntry): Promise<void> {
  try {
    await manager.ports.records.saveMeterId(entry.facts.id, entry.meterId);
  } catch (failure) {
    manager.ports.warn('the meter of a wake could not be recorded', { instance: entry.facts.id, failure });
  }
}

function stillWanted(manager: Manages, app: AppEntry): boolean {
  return manager.state.apps.get(app.key) === app;
}

async function untilItAnswers(manager: Manages, entry: InstanceEntry, serving: ServingRelease, question: { path: string; timeoutMs: number }): Promise<void> {
  const { manifest } = serving.order;
  const gone = manager.keeper.goneSignal(entry.facts.id);
  const outcome = await manager.ports.probe({
    address: entry.facts.address,
    port: manifest.port,
    path: question.path,
    hostname: serving.order.hosts[0] ?? serving.order.owner.app,
    timeoutMs: question.timeoutMs,
    proxyProtocol: manifest.proxyProtocol,
    gone,
  });
  const failure = notListening(outcome, manifest);
  if (failure !== null) throw failure;
}

/** A failed restore is followed by a cold boot under the same held requests; a failed cold boot by a pause. */
async function fallBack(manager: Manages, app: AppEntry, entry: InstanceEntry, order: WakeOrder, failure: unknown): Promise<void> {
  const { ports, keeper } = manager;
  const nowBootNs = ports.clock.bootNs();
  const reason = messageOf(failure);
  const { serving, start } = order;
  moveInstance(entry, 'failed', nowBootNs, reason);
  const kept = start.kind === 'restore' && start.continues;
  ports.tell({
    owner: app.owner,
    release: serving.order.release,
    kind: 'fault',
    code: start.kind === 'restore' ? 'restore-failed' : codeOf(failure),
    text:
      start.kind === 'restore'
        ? `Instance ${entry.facts.id} could not be restored (${reason}); it is booted cold instead${kept ? ', without the state it slept with' : ''}.`
        : `Instance ${entry.facts.id} could not be started: ${reason}`,
  });
  await keeper.end(entry);
  if (!stillWanted(manager, app)) return;
  if (start.kind === 'restore') {
    // A store that is away says nothing of the template: the next wake asks again.
    const away = codeOf(failure) === 'template-away';
    if (!away) app.restoreFailures += 1;
    if (codeOf(failure) === 'template-lost') ports.remake(serving.order);
    if (codeOf(failure) === 'snapshot-refused' && !kept) {
      wakeCold(app, serving, reason);
      ports.remake(serving.order);
    } else if (app.restoreFailures >= restoreFailuresMax && !kept) wakeCold(app, serving, `its template could not be restored ${restoreFailuresMax} times in a row: ${reason}`);
    const again = { ...order, start: { kind: 'boot' as const, address: start.address } };
    const id = kept ? entry.facts.id : ports.newInstanceId('serve');
    const meterId = kept ? `${id}.${ports.newInstanceId('serve').slice(2)}` : id;
    const next = manager.addServing(app, { id, order: serving.order, mode: 'booting', reason: `${order.reason}; its restore failed`, meterId });
    await wake(manager, app, next, again);
    if (kept) void unparkWarm(manager, next);
    return;
  }
  app.backoff = nextBackoff(app.backoff, { nowBootNs: ports.clock.bootNs(), reason: `it could not be started: ${reason}`, free: false });
  // A failed cold boot is answered by 503 until the pause is over, from the first one on.
  app.backoff = { ...app.backoff, failures: Math.max(2, app.backoff.failures) };
  manager.touch(app);
  manager.touchRefused();
}

/** From now on, until another template of it is there. */
function wakeCold(app: AppEntry, serving: ServingRelease, wakeReason: string): void {
  const { release, deployId } = serving.order;
  if (app.serving?.order.release !== release || app.serving.order.deployId !== deployId) return;
  app.serving = { ...serving, facts: { ...serving.facts, wakeBy: 'cold', wakeReason } };
}

function tellWake(
  manager: Manages,
  app: AppEntry,
  entry: InstanceEntry,
  about: { tookMs: number; how: WakeOrder; stepsMs: Readonly<Record<string, number>> },
): void {
  const { start, reason } = about.how;
  const fetched = 'fetch' in about.stepsMs ? ', which was fetched from the object store,' : '';
  const how = start.kind === 'boot' ? 'booted cold' : start.continues ? 'woken where it slept' : `restored from its template${fetched}`;
  let warm = 0;
  for (const other of app.instances.values()) if (other.purpose === 'serve' && other.facts.mode === 'warm') warm += 1;
  manager.ports.tell({
    owner: app.owner,
    release: entry.facts.release,
    kind: warm > 1 ? 'scale' : 'wake',
    text: `Instance ${entry.facts.id} was ${how} in ${formatMs(about.tookMs)}: ${reason}.`,
    tookMs: about.tookMs,
    figures: { ...about.stepsMs, warm },
  });
}
