import { Failure, codeOf, messageOf } from '../../kit/errors.ts';
import { formatBytes, formatMs, nsPerMs } from '../../kit/units.ts';
import type { PreparationReport } from '../../kit/wire/report.ts';
import type { ReleaseFacts, ReleaseOrder } from '../model/app.ts';
import type { Happening } from '../model/happening.ts';
import { offeringOf } from '../model/orders.ts';
import type { DeployPorts, PreparedInstance } from './ports.ts';
import { reportPreparation, sentenceOfReport } from './report.ts';
import { judgePreparation, tryAgain, whyUnsafe } from './verdict.ts';
import type { Measured, PartFailure } from './verdict.ts';

/** A stage of a deploy has begun (`tookMs` missing), ended, or failed. */
export type TellStage = (stage: string, text: string, about?: { tookMs?: number; figures?: Record<string, number>; code?: string; report?: PreparationReport; built?: NonNullable<Happening['built']> }) => void;

/** A warm-up request may take this long; one that fails is told and does not stop the deploy. */
const warmupTimeoutMs = 30_000;
const logTailBytesMax = 2000;

/** Failures of the edgepoint, not of the release: worth another try by itself. Secrets are wrapped anew when an edgepoint tells another key. */
const passing: ReadonlySet<string> = new Set(['peer-gone', 'peer-slow', 'bus-away', 'edgepoint-full', 'too-many-calls', 'superseded', 'secrets-unreadable']);

export function isPassing(thrown: unknown): boolean {
  return passing.has(codeOf(thrown));
}

/** The sentence of a failure and what to do about it. */
export function sentenceOf(thrown: unknown): string {
  const remedy = thrown instanceof Failure ? thrown.remedy : '';
  return remedy === '' ? messageOf(thrown) : `${messageOf(thrown)}. ${remedy}`;
}

/**
 * Boots a release cold, waits until it is ready, warms it, snapshots it and proves the snapshot by a trial restore. No instance is
 * left. A release that cannot be booted is a Failure; one that only cannot be restored is served by cold boots.
 */
export async function prepareRelease(order: ReleaseOrder, ports: DeployPorts, tell: TellStage, cancelled: AbortSignal): Promise<ReleaseFacts> {
  stopIf(cancelled);
  const fromBootNs = ports.clock.bootNs();
  const sinceMs = (): number => (ports.clock.bootNs() - fromBootNs) / nsPerMs;
  tell('boot', `Boots ${order.manifest.command.join(' ')}.`);
  const booted = await ports.boot(order);
  try {
    tell('boot', `The box and the program were started in ${formatMs(sinceMs())}.`, { tookMs: sinceMs(), figures: { ...booted.stepsMs } });
    await probeBooted(order, booted, ports, tell, cancelled);
    stopIf(cancelled);
    const coldBootMs = sinceMs();
    tell('probe', `It answers GET ${order.manifest.probe.path} ${formatMs(coldBootMs)} after the order to boot.`, {
      tookMs: coldBootMs,
      figures: { coldBootMs },
    });
    const warmupsFailed = await warmUp(order, booted, ports, tell);
    await askBefore(order, booted, ports);
    stopIf(cancelled);
    const snapshot = await takeTemplate(order, booted, ports, tell);
    await booted.end();
    stopIf(cancelled);
    const unsafe = 'failure' in snapshot ? null : whyUnsafe(snapshot.unguarded, order.manifest);
    const provable = !('failure' in snapshot) && (unsafe === null || order.manifest.state === 'keep');
    const trial = provable ? await proveTemplate(order, snapshot.path, { coldBootMs }, ports, tell) : null;
    const measured: Measured = { state: order.manifest.state, coldBootMs, snapshot, unsafe, trial, warmupsFailed, emptyVolumes: ports.emptyVolumes === true };
    const facts = judgePreparation(measured);
    await dropUseless(facts, snapshot, ports);
    const report = reportPreparation(measured, facts, order.manifest, offeringOf(order));
    tell('report', sentenceOfReport(report), { report });
    return facts;
  } finally {
    await booted.end();
  }
}

export function stopIf(cancelled: AbortSignal): void {
  if (cancelled.aborted) throw new Failure('superseded', 'a newer wish has taken its place');
}

async function probeBooted(order: ReleaseOrder, booted: PreparedInstance, ports: DeployPorts, tell: TellStage, cancelled: AbortSignal): Promise<void> {
  tell('probe', `Waits until GET ${order.manifest.probe.path} on port ${order.manifest.port} is answered below 500.`);
  const outcome = await ports.probe({
    address: booted.address,
    port: order.manifest.port,
    path: order.manifest.probe.path,
    hostname: order.hosts[0] ?? order.owner.app,
    timeoutMs: order.manifest.probe.timeoutSeconds * 1000,
    proxyProtocol: order.manifest.proxyProtocol,
    gone: AbortSignal.any([booted.gone, cancelled]),
  });
  stopIf(cancelled);
  const failure = ports.judgeProbe(outcome, order.manifest);
  if (failure === null) return;
  const tail = (await ports.readLogTail(booted.logPath)).slice(-logTailBytesMax).trim();
  const words = tail === '' ? 'It wrote nothing.' : `Its last words:\n${tail}`;
  throw new Failure(failure.code, `${failure.message}. ${failure.remedy} ${words}`.trim(), { cause: failure });
}

async function warmUp(order: ReleaseOrder, booted: PreparedInstance, ports: DeployPorts, tell: TellStage): Promise<number> {
  const { warmup, port } = order.manifest;
  if (warmup.length === 0) return 0;
  const fromBootNs = ports.clock.bootNs();
  let failed = 0;
  for (const request of warmup) {
    const outcome = await ports.probe({
      address: booted.address,
      port,
      path: request.path,
      hostname: order.hosts[0] ?? order.owner.app,
      timeoutMs: warmupTimeoutMs,
      proxyProtocol: order.manifest.proxyProtocol,
      gone: booted.gone,
    });
    if (outcome.kind !== 'answers') failed += 1;
  }
  const tookMs = (ports.clock.bootNs() - fromBootNs) / nsPerMs;
  const how = failed === 0 ? '' : `, ${failed} without success`;
  tell('warm', `${warmup.length} warm-up requests in ${formatMs(tookMs)}${how}.`, { tookMs, figures: { requests: warmup.length, failed } });
  return failed;
}

/** A failure as a sentence and, where it is a Failure, in its parts; without the words that whoever tells it says before them. */
function partFailure(thrown: unknown): PartFailure {
  const without = (text: string): string => text.replace(/^it could not be snapshotted: /, '');
  return { failure: without(sentenceOf(thrown)), code: codeOf(thrown), why: without(messageOf(thrown)), remedy: thrown instanceof Failure ? thrown.remedy : '' };
}

/** The program's own part before its snapshot, when the manifest names one. */
async function askBefore(order: ReleaseOrder, booted: PreparedInstance, ports: DeployPorts): Promise<void> {
  const path = order.manifest.snapshot.before;
  if (path === undefined) return;
  const outcome = await ports.probe({
    address: booted.address,
    port: order.manifest.port,
    path,
    hostname: order.hosts[0] ?? order.owner.app,
    timeoutMs: order.manifest.probe.timeoutSeconds * 1000,
    proxyProtocol: order.manifest.proxyProtocol,
    gone: booted.gone,
  });
  if (outcome.kind === 'answers') return;
  throw new Failure('hook-failed', `GET ${path}, which the manifest names as \`snapshot.before\`, was not answered below 500`, {
    remedy: 'Mend what answers it, or leave `snapshot.before` out.',
  });
}

type Template = { readonly path: string; readonly bytes: number; readonly imageBytes: number; readonly frozenMs: number; readonly unguarded: readonly string[] } | PartFailure;

async function takeTemplate(order: ReleaseOrder, booted: PreparedInstance, ports: DeployPorts, tell: TellStage): Promise<Template> {
  const path = ports.paths.template(order.owner, order.release);
  tell('snapshot', 'Takes the snapshot.');
  try {
    // What an earlier, interrupted deploy of this release left.
    await ports.snapd.discard({ snapshotPath: path });
    const taken = await ports.snapd.snapshot({ instance: booted.instance, snapshotPath: path, keepRunning: true });
    tell('snapshot', `The template is ${formatBytes(taken.bytes)} (${formatBytes(taken.imageBytes)} of memory); it was frozen for ${formatMs(taken.frozenMs)}.`, {
      tookMs: taken.tookMs,
      figures: { bytes: taken.bytes, frozenMs: taken.frozenMs },
    });
    return { path: taken.snapshotPath, bytes: taken.bytes, imageBytes: taken.imageBytes, frozenMs: taken.frozenMs, unguarded: taken.unguarded };
  } catch (thrown) {
    if (isPassing(thrown)) throw thrown;
    const failed = partFailure(thrown);
    tell('snapshot', `It cannot be snapshotted: ${failed.failure}`, { code: thrown instanceof Failure ? thrown.code : 'snapshot-failed' });
    return failed;
  }
}

/** Restores the template as end users' requests will, until one restore is faster than the boot was or enough have been tried. */
async function proveTemplate(
  order: ReleaseOrder,
  snapshotPath: string,
  about: { coldBootMs: number },
  ports: DeployPorts,
  tell: TellStage,
): Promise<Measured['trial']> {
  tell('trial', 'Restores a trial copy of it.');
  let restoreMs = Infinity;
  let trials = 0;
  let cloneMemoryBytes: number | null = null;
  try {
    do {
      trials += 1;
      const tried = await tryRestore(order, snapshotPath, ports);
      restoreMs = Math.min(restoreMs, tried.restoreMs);
      ({ cloneMemoryBytes } = tried);
    } while (tryAgain({ state: order.manifest.state, coldBootMs: about.coldBootMs, restoreMs, trials }));
  } catch (thrown) {
    if (isPassing(thrown)) throw thrown;
    const failed = partFailure(thrown);
    tell('trial', `Its snapshot does not restore: ${failed.failure}. It will be booted cold.`, { code: 'restore-failed' });
    return failed;
  }
  const ratio = about.coldBootMs / restoreMs;
  tell('trial', `Restored and answered in ${formatMs(restoreMs)}; the cold boot took ${formatMs(about.coldBootMs)} (${ratio.toFixed(1)} times).`, {
    tookMs: restoreMs,
    figures: { restoreMs, coldBootMs: about.coldBootMs, trials },
  });
  return { restoreMs, trials, cloneMemoryBytes };
}

export async function tryRestore(order: ReleaseOrder, snapshotPath: string, ports: DeployPorts): Promise<{ restoreMs: number; cloneMemoryBytes: number | null }> {
  const fromBootNs = ports.clock.bootNs();
  const trial = await ports.restore(order, snapshotPath);
  try {
    const outcome = await ports.probe({
      address: trial.address,
      port: order.manifest.port,
      path: order.manifest.snapshot.after ?? order.manifest.probe.path,
      hostname: order.hosts[0] ?? order.owner.app,
      timeoutMs: Math.min(order.manifest.probe.timeoutSeconds * 1000, 30_000),
      proxyProtocol: order.manifest.proxyProtocol,
      gone: trial.gone,
    });
    const failure = ports.judgeProbe(outcome, order.manifest);
    if (failure !== null) throw failure;
    const restoreMs = (ports.clock.bootNs() - fromBootNs) / nsPerMs;
    return { restoreMs, cloneMemoryBytes: ports.readMemory?.(trial) ?? null };
  } finally {
    await trial.end();
  }
}

/** A snapshot that no wake will use only costs. */
async function dropUseless(facts: ReleaseFacts, snapshot: Measured['snapshot'], ports: DeployPorts): Promise<void> {
  if (facts.snapshotPath !== '' || 'failure' in snapshot) return;
  try {
    await ports.snapd.discard({ snapshotPath: snapshot.path });
  } catch (failure) {
    ports.warn('a useless snapshot could not be removed', { snapshotPath: snapshot.path, failure });
  }
}
