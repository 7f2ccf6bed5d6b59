import type { Manages } from './manages.ts';
import { findInstance } from './state.ts';
import { notListening } from './why.ts';

/** An instance somebody could not reach has this long to answer us. */
const answerMs = 2000;
/** Instances being asked, and whether they were reported again meanwhile: that is newer than the answer may be. */
const underCheck = new Map<string, boolean>();

/** The dispatcher could not reach an instance: it is asked, and ended when it does not answer. */
export async function checkSuspect(manager: Manages, instance: string, reason: string): Promise<void> {
  if (underCheck.has(instance)) {
    underCheck.set(instance, true);
    return;
  }
  try {
    do {
      underCheck.set(instance, false);
      await askSuspect(manager, instance, reason);
    } while (underCheck.get(instance) === true);
  } finally {
    underCheck.delete(instance);
  }
}

async function askSuspect(manager: Manages, instance: string, reason: string): Promise<void> {
  const found = findInstance(manager.state, instance);
  const serving = found?.app.serving ?? null;
  if (found === null || serving === null || found.entry.facts.mode !== 'warm') return;
  const { manifest } = serving.order;
  const outcome = await manager.ports.probe({
    address: found.entry.facts.address,
    port: found.entry.port,
    path: manifest.probe.path,
    hostname: serving.order.hosts[0] ?? serving.order.owner.app,
    timeoutMs: answerMs,
    proxyProtocol: manifest.proxyProtocol,
    gone: manager.keeper.goneSignal(instance),
  });
  // A server that answers with 500 is there; what it answers is its provider's affair.
  if (outcome.kind === 'bad-status' || notListening(outcome, manifest) === null) return;
  if (findInstance(manager.state, instance)?.entry.facts.mode !== 'warm') return;
  manager.loseInstance(found.app, found.entry, `it does not answer any more (${reason})`, 'app-unreachable');
}
