import { createHash } from 'node:crypto';
import { formatBytes, formatMs } from '../../kit/units.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import type { ReleaseFacts, ReleaseOrder } from '../model/app.ts';
import type { WantedTemplate } from '../model/exchange.ts';
import { offeringOf } from '../model/orders.ts';
import type { DeployPorts } from './ports.ts';
import { isPassing, sentenceOf, stopIf, tryRestore } from './prepare.ts';
import type { TellStage } from './prepare.ts';
import { reportPreparation, sentenceOfReport } from './report.ts';
import { judgePreparation, tryAgain, type Measured } from './verdict.ts';

/** All that a template depends on of a release; another app of the same name and number has another. */
export function wantedTemplate({ owner, release, artefactDigest, manifest, uidSlot, secrets }: ReleaseOrder): WantedTemplate {
  const text = JSON.stringify({ owner: [owner.provider, owner.scope, owner.app], release, artefactDigest, manifest, uidSlot, secrets: secrets?.digest });
  return { owner, release, orderDigest: createHash('sha256').update(text).digest('hex') };
}

/**
 * Whether another edgepoint may use the template of such a release. One that keeps its state has one instance for each edgepoint, and
 * nobody asked whether copies of it draw their own random numbers; one with a volume remembers what it read from the one it was made on.
 */
export function mayBeShared(manifest: Pick<Manifest, 'state' | 'volume'>): boolean {
  return manifest.state === 'template' && manifest.volume.length === 0;
}

/**
 * A template of the release from the object store, proved here by a trial restore as one's own would be. Null when there is none that can
 * be used here, or when it does not restore faster than the release booted where it was made: it is then prepared here.
 */
export async function adoptTemplate(order: ReleaseOrder, ports: DeployPorts, tell: TellStage, cancelled: AbortSignal): Promise<ReleaseFacts | null> {
  const { shared } = ports;
  if (shared === undefined || !mayBeShared(order.manifest)) return null;
  const snapshotPath = ports.paths.template(order.owner, order.release);
  const brought = await shared.bring(order, { snapshotPath, cancelled, tell: (text) => tell('template', text) });
  stopIf(cancelled);
  if (brought === null) return null;
  tell('template', `${brought.by} has a template of it: ${formatBytes(brought.bytes)}, fetched and verified in ${formatMs(brought.tookMs)}.`, {
    tookMs: brought.tookMs,
    figures: { bytes: brought.bytes },
  });
  const trial = await prove(order, brought.snapshotPath, brought.coldBootMs, ports);
  const measured: Measured = {
    state: 'template',
    coldBootMs: brought.coldBootMs,
    snapshot: { path: brought.snapshotPath, bytes: brought.bytes, imageBytes: brought.imageBytes },
    unsafe: null,
    trial,
    madeBy: brought.by,
  };
  const facts = judgePreparation(measured);
  if (facts.wakeBy !== 'template' || trial === null || 'failure' in trial) {
    await ports.snapd.discard({ snapshotPath });
    tell('trial', `The template of ${brought.by} is not used: ${facts.wakeReason}. It is made here.`);
    return null;
  }
  tell('trial', `Restored and answered in ${formatMs(trial.restoreMs)}; at ${brought.by} the cold boot took ${formatMs(brought.coldBootMs)}.`, {
    tookMs: trial.restoreMs,
    figures: { restoreMs: trial.restoreMs, coldBootMs: brought.coldBootMs, trials: trial.trials ?? 1 },
  });
  const report = reportPreparation(measured, facts, order.manifest, offeringOf(order));
  tell('report', sentenceOfReport(report), { report });
  return facts;
}

async function prove(order: ReleaseOrder, snapshotPath: string, coldBootMs: number, ports: DeployPorts): Promise<Measured['trial']> {
  let best = { restoreMs: Infinity, cloneMemoryBytes: null as number | null };
  let trials = 0;
  try {
    do {
      trials += 1;
      const tried = await tryRestore(order, snapshotPath, ports);
      if (tried.restoreMs < best.restoreMs) best = tried;
    } while (tryAgain({ state: 'template', coldBootMs, restoreMs: best.restoreMs, trials }));
    return { ...best, trials };
  } catch (thrown) {
    if (isPassing(thrown)) throw thrown;
    return { failure: sentenceOf(thrown) };
  }
}
