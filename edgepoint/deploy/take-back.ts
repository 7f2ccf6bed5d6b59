import type { ReleaseOrder } from '../model/app.ts';
import type { DeployPorts } from './ports.ts';
import type { TellStage } from './prepare.ts';

/**
 * The release that served before serves again: its template is kept for a way back (`run.ts`), so nothing is prepared, and instances of the
 * other one serve until one of it is warm. Recorded so that a head that is killed in between tries the failing release once more rather than
 * have none.
 */
export async function serveBefore(order: ReleaseOrder, { reason, figures }: { reason: string; figures: Readonly<Record<string, number>> }, ports: DeployPorts, tell: TellStage): Promise<void> {
  const { owner, release } = order;
  const records = await ports.records.list(owner);
  const own = records.find((record) => record.order.release === release);
  const [before] = records
    .filter((record) => record.order.release < release && record.rejected === '' && record.facts !== null)
    .toSorted((a, b) => b.order.release - a.order.release);
  if (own === undefined || before?.facts === undefined || before.facts === null || ports.serving.servingRelease(owner) !== release) return;
  if (before.order.manifest.state === 'keep' || before.order.manifest.volume.length > 0) return;
  await ports.records.setServing(owner, before.order.release);
  ports.serving.promote({ order: before.order, facts: before.facts });
  ports.serving.reject(owner, reason);
  await ports.records.save(order, own.facts, reason);
  tell('failed', `Release ${release} is taken back here, and release ${before.order.release} serves again: ${reason}`, { code: 'release-taken-back', figures });
  ports.shared?.changed();
}
