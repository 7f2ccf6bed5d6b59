import { rm } from 'node:fs/promises';
import { codeOf } from '../../kit/errors.ts';
import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { formatBytes, formatMs, nsPerMs } from '../../kit/units.ts';
import type { ReleaseFacts, ReleaseOrder } from '../model/app.ts';
import { writesAlone } from '../model/orders.ts';
import { adoptTemplate } from './adopt.ts';
import { fetchArtefact, isUnpacked, unpackArtefact } from './artefact.ts';
import { bringImage, isImageThere, removeImage } from './image.ts';
import { planDeploy } from './plan.ts';
import { serveBefore } from './take-back.ts';
import type { DeployPorts, ReleaseRecord } from './ports.ts';
import { isPassing, prepareRelease, sentenceOf } from './prepare.ts';
import type { TellStage } from './prepare.ts';
import { Slots } from './slots.ts';

/** A wish of the conduit about one app: a release, or (null) that it be hosted no longer. */
interface Wish {
  readonly owner: Owner;
  readonly order: ReleaseOrder | null;
  readonly artefactBytes: number;
  /** What is known of the release counts for nothing: its template is of no use any more. */
  readonly again?: boolean;
  /** It serves, fails, and the release before is to serve in its place. */
  readonly back?: { readonly reason: string; readonly figures: Readonly<Record<string, number>> };
}

/** A template that is refused so soon after it was made would be refused again. */
const remakeGapMs = 600_000;

/** After a failure of the edgepoint rather than of the release. */
const retryMs = 1000;
const retriesMax = 30;

/** Preparations at once; more would make each other's cold boots look slow. */
const preparationsMax = 1;

/**
 * Makes each app what the conduit wants: one wish of an app at a time, the newest next; what was wished in between is skipped, and
 * a preparation that nobody wants any more is broken off.
 */
export class Deployer {
  private readonly ports: DeployPorts;
  private readonly next = new Map<string, Wish>();
  /** Apps being worked on; aborting breaks the work off. */
  private readonly working = new Map<string, AbortController>();
  /** When another template was last asked for. */
  private readonly remade = new Map<string, number>();
  /** Also those of checks. */
  readonly preparations = new Slots(preparationsMax);
  /** Whether an artefact is still needed is asked, and acted upon, by one at a time: another app (a canary's) may be of the same. */
  private readonly artefacts = new Slots(1);
  private stopped = false;

  constructor(ports: DeployPorts) {
    this.ports = ports;
  }

  wish(order: ReleaseOrder, artefactBytes: number): void {
    this.ports.serving.want(order);
    this.enqueue({ owner: order.owner, order, artefactBytes });
  }

  /**
   * Another template of a release that serves, which is booted cold meanwhile. Nothing when one was made a short while ago, or when
   * a wish that waits will see to it.
   */
  remake(order: ReleaseOrder): void {
    const key = ownerKey(order.owner);
    const nowBootNs = this.ports.clock.bootNs();
    const before = this.remade.get(key) ?? -Infinity;
    if (this.next.has(key) || nowBootNs - before < remakeGapMs * nsPerMs) return;
    this.remade.set(key, nowBootNs);
    if (this.stopped) return;
    this.next.set(key, { owner: order.owner, order, artefactBytes: 0, again: true });
    if (!this.working.has(key)) void this.work(key);
  }

  wishGone(owner: Owner): void {
    this.enqueue({ owner, order: null, artefactBytes: 0 });
  }

  /**
   * A canary that serves is found unable to by what it answers: it gets no request any more, also not of a restarted head, until another
   * deploy asks for it.
   */
  async stopCanary(order: ReleaseOrder, reason: string, figures: Readonly<Record<string, number>>): Promise<void> {
    this.ports.serving.reject(order.owner, reason);
    stageTeller(order, this.ports)('failed', `Release ${order.release} gets no request here any more: ${reason}`, { code: 'canary-stopped', figures });
    const record = await this.ports.records.find(order.owner, order.release);
    if (record !== null) await this.ports.records.save(order, record.facts, reason);
  }

  /**
   * A release that serves is found unable to by what it answers: the one before serves again, also for a restarted head, until another
   * deploy. Nothing when something else is wished for already.
   */
  takeBack(order: ReleaseOrder, back: NonNullable<Wish['back']>): void {
    const key = ownerKey(order.owner);
    if (this.stopped || this.next.has(key)) return;
    this.next.set(key, { owner: order.owner, order, artefactBytes: 0, back });
    // What clears up behind its promotion ends first.
    if (!this.working.has(key)) void this.work(key);
  }

  /** Takes no further wish and breaks off what is under way; a restarted head begins it again. */
  stop(): void {
    this.stopped = true;
    this.next.clear();
    for (const work of this.working.values()) work.abort();
  }

  private enqueue(wish: Wish): void {
    if (this.stopped) return;
    const key = ownerKey(wish.owner);
    this.next.set(key, wish);
    const work = this.working.get(key);
    if (work === undefined) void this.work(key);
    else work.abort();
  }

  private async work(key: string): Promise<void> {
    for (let wish = this.next.get(key); wish !== undefined; wish = this.next.get(key)) {
      this.next.delete(key);
      const cancel = new AbortController();
      this.working.set(key, cancel);
      try {
        await this.fulfil(wish, cancel.signal);
      } catch (failure) {
        this.ports.warn('a wish of the conduit could not be fulfilled', { app: key, failure });
      }
    }
    this.working.delete(key);
  }

  private async fulfil(wish: Wish, cancelled: AbortSignal): Promise<void> {
    if (wish.order === null) {
      this.remade.delete(ownerKey(wish.owner));
      await removeApp(wish.owner, this.ports, this.artefacts);
      return this.ports.shared?.changed();
    }
    const { order } = wish;
    if (wish.again === true && this.ports.serving.servingRelease(order.owner) !== order.release) return;
    const tell = stageTeller(order, this.ports);
    if (wish.back !== undefined) return serveBefore(order, wish.back, this.ports, tell);
    for (let tries = 1; !cancelled.aborted; tries += 1) {
      try {
        return await this.deploy(order, wish, tell, cancelled);
      } catch (thrown) {
        if (cancelled.aborted) return;
        if ((!isPassing(thrown) || tries > retriesMax) && wish.again !== true) return await this.reject(order, tell, thrown);
        // It serves as it is; a preparation that does not succeed takes nothing from it.
        if (!isPassing(thrown) || tries > retriesMax) return this.ports.warn('another template could not be made', { app: ownerKey(order.owner), failure: thrown });
        this.ports.warn('a deploy waits and tries again', { app: ownerKey(order.owner), release: order.release, failure: thrown });
        await this.ports.sleepMs(retryMs);
      }
    }
  }

  private async reject(order: ReleaseOrder, tell: TellStage, thrown: unknown): Promise<void> {
    const reason = sentenceOf(thrown);
    await this.ports.records.save(order, null, reason);
    this.ports.serving.reject(order.owner, reason);
    tell('failed', `Release ${order.release} cannot serve: ${reason}`, { code: codeOf(thrown) });
  }

  private async deploy(order: ReleaseOrder, wish: Wish, tell: TellStage, cancelled: AbortSignal): Promise<void> {
    const { ports } = this;
    const { owner } = order;
    await ports.giveOwnAddress?.(order);
    const folder = ports.paths.artefact(order.artefactDigest);
    const record = await ports.records.find(owner, order.release);
    const servingRelease = ports.serving.servingRelease(owner);
    // Recorded first, so that an artefact that is here stays, whoever else leaves it.
    const unpacked = await this.artefacts.use(async () => {
      if (record === null) await ports.records.save(order, null, '');
      return (await isUnpacked(folder)) && (await isImageThere(order, folder));
    });
    const steps = planDeploy(order, {
      servingRelease,
      known: record !== null && record.rejected === '' && wish.again !== true ? record.facts : null,
      // The same release asked for again by a later deploy is tried again.
      rejected: record?.order.deployId === order.deployId ? record.rejected : '',
      unpacked,
      mustPause: writesAlone(order) && servingRelease !== null,
    });
    let facts = record?.facts ?? noFacts;
    if (steps.length === 0 && record !== null && record.facts !== null && record.order.deployId !== order.deployId) {
      await ports.records.save(order, facts, '');
      tellReady(order, facts, tell);
    }
    for (const step of steps) {
      if (cancelled.aborted) return;
      if (step.kind === 'fetch-and-unpack') {
        // Recorded first, so that whatever comes of it, its artefact is known to be somebody's.
        await ports.records.save(order, null, '');
        await bringArtefact(order, wish.artefactBytes, ports, tell);
      } else if (step.kind === 'pause') await ports.serving.pause(owner, step.reason);
      else if (step.kind === 'prepare') {
        facts = await this.preparations.use(async () => (await adoptTemplate(order, ports, tell, cancelled)) ?? prepareRelease(order, ports, tell, cancelled));
        await ports.records.save(order, facts, '');
      } else if (step.kind === 'promote') await promote(order, facts, ports, tell);
      else if (step.kind === 'retire-others') await retireOthers(order, servingRelease, ports, this.artefacts);
      else ports.serving.reject(owner, step.reason);
    }
    // Also when nothing was to be done: who else hosts it may have changed.
    ports.shared?.changed();
  }
}

const noFacts: ReleaseFacts = { wakeBy: 'cold', wakeReason: '', staysAwake: '', snapshotPath: '', templateBytes: 0, coldBootMs: null, restoreMs: null };

function stageTeller(order: ReleaseOrder, ports: DeployPorts): TellStage {
  return (stage, text, about = {}) =>
    ports.tell({ owner: order.owner, release: order.release, deployId: order.deployId, kind: 'deploy', stage, text, ...about });
}

export async function bringArtefact(order: ReleaseOrder, artefactBytes: number, ports: DeployPorts, tell: TellStage): Promise<void> {
  const file = `${ports.paths.downloads}/${order.artefactDigest.replace(/^sha256:/, '')}.tar.gz`;
  const fromBootNs = ports.clock.bootNs();
  const sinceMs = (): number => (ports.clock.bootNs() - fromBootNs) / nsPerMs;
  try {
    tell('fetch', `Fetches the artefact (${formatBytes(artefactBytes)}).`);
    const { bytes } = await fetchArtefact({ digest: order.artefactDigest, bytesMax: artefactBytes, file }, ports.openArtefact);
    const fetchedMs = sinceMs();
    tell('fetch', `${formatBytes(bytes)} fetched in ${formatMs(fetchedMs)}, and its digest agrees.`, { tookMs: fetchedMs, figures: { bytes } });
    await removeImage(order, ports);
    await unpackArtefact(file, ports.paths.artefact(order.artefactDigest));
    tell('unpack', `Unpacked in ${formatMs(sinceMs() - fetchedMs)}.`, { tookMs: sinceMs() - fetchedMs });
    await bringImage(order, ports, tell);
  } finally {
    await rm(file, { force: true });
  }
}

async function promote(order: ReleaseOrder, facts: ReleaseFacts, ports: DeployPorts, tell: TellStage): Promise<void> {
  await ports.records.setServing(order.owner, order.release);
  ports.serving.promote({ order, facts });
  tellReady(order, facts, tell);
}

function tellReady(order: ReleaseOrder, facts: ReleaseFacts, tell: TellStage): void {
  const awake = facts.staysAwake === '' ? 'No process of it is left.' : `It stays awake: ${facts.staysAwake}.`;
  tell('sleep', order.manifest.scale.min > 0 ? `At least ${order.manifest.scale.min} of it stay awake.` : awake);
  const how = facts.wakeBy === 'cold' ? `woken by a cold boot: ${facts.wakeReason}` : `woken in about ${formatMs(facts.restoreMs ?? 0)}`;
  tell('ready', `Release ${order.release} is ready; ${how}.`, {
    figures: { coldBootMs: facts.coldBootMs ?? 0, restoreMs: facts.restoreMs ?? 0, templateBytes: facts.templateBytes },
  });
}

/** The template of the release that served before stays, for a way back (or forward); others and their artefacts go. */
async function retireOthers(order: ReleaseOrder, servedBefore: number | null, ports: DeployPorts, artefacts: Slots): Promise<void> {
  const others = (await ports.records.list(order.owner)).filter((record) => record.order.release !== order.release).toSorted((a, b) => b.order.release - a.order.release);
  const usable = others.filter((record) => record.rejected === '' && record.facts !== null);
  const kept = usable.find((record) => record.order.release === servedBefore) ?? usable[0];
  for (const record of others) {
    if (record === kept) continue;
    await discardTemplate(record, ports);
    await ports.records.forget(order.owner, record.order.release);
    await artefacts.use(() => dropArtefact(record.order, ports));
  }
}

async function discardTemplate(record: ReleaseRecord, ports: DeployPorts): Promise<void> {
  const snapshotPath = record.facts?.snapshotPath ?? '';
  if (snapshotPath !== '') await ports.snapd.discard({ snapshotPath });
}

async function dropArtefact(order: ReleaseOrder, ports: DeployPorts): Promise<void> {
  if ((await ports.records.digestsInUse()).has(order.artefactDigest)) return;
  await removeImage(order, ports);
  await rm(ports.paths.artefact(order.artefactDigest), { recursive: true, force: true });
}

/** Nothing of the app is left: no instance, template, kept state, volume, artefact or record. */
async function removeApp(owner: Owner, ports: DeployPorts, artefacts: Slots): Promise<void> {
  await ports.serving.remove(owner);
  await ports.takeOwnAddress?.(owner);
  for (const record of await ports.records.list(owner)) {
    await discardTemplate(record, ports);
    await ports.records.forget(owner, record.order.release);
    await artefacts.use(() => dropArtefact(record.order, ports));
  }
  await ports.records.setServing(owner, null);
  await ports.snapd.discard({ snapshotPath: ports.paths.templatesOf(owner) });
  await rm(ports.paths.volumesOf(owner), { recursive: true, force: true });
}
