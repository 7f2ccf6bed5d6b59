import { mkdir, readdir } from 'node:fs/promises';
import { codeOf } from '../../kit/errors.ts';
import type { BuildOrder } from '../../kit/wire/check.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { SnapdCalls } from '../model/calls.ts';
import { checkPaths } from '../model/paths.ts';
import type { DataPaths } from '../model/paths.ts';
import type { DeployPorts } from './ports.ts';
import { isPassing, prepareRelease, sentenceOf } from './prepare.ts';
import type { TellStage } from './prepare.ts';
import { bringArtefact } from './run.ts';
import type { Slots } from './slots.ts';

/** A release to prepare and forget. */
export interface CheckWish {
  readonly checkId: string;
  /** `deployId` is the check's id. */
  readonly order: ReleaseOrder;
  readonly artefactBytes: number;
  /** The artefact's name in the edgepoint's object store. */
  readonly object: string;
  /** It is a source folder that shall be built, and not prepared. */
  readonly build?: BuildOrder;
}

/** What checks act through. */
export interface CheckPorts {
  /** The folder of all checks; each has one of its own in it. */
  readonly folder: string;
  readonly snapd: SnapdCalls;
  /** Shared with the deploys: two preparations at once would make each other's cold boot look slow. */
  readonly preparations: Slots;
  /** What a deploy acts through, with these paths, for instances that belong to no app of the edgepoint. */
  portsOf(wish: CheckWish, paths: DataPaths): DeployPorts;
  /** Builds what is unpacked in `artefact`, tells what came of it, and returns when nobody waits for that any more. */
  build(wish: CheckWish & { readonly build: BuildOrder }, about: { artefact: string; folder: string; ports: DeployPorts; tell: TellStage; cancelled: AbortSignal }): Promise<void>;
  /** A name nobody has had: a check that is begun again must not meet what is being removed of its first beginning. */
  newFolderName(): string;
  warn(text: string, fields: Record<string, unknown>): void;
  sleepMs(ms: number): Promise<void>;
}

/** After a failure of the edgepoint rather than of the release. */
const retryMs = 1000;
const retriesMax = 30;
/** snapd, which removes what is root's, may be away for a while. */
const removalsMax = 120;

/**
 * Checks what a deploy would find: boots, probes, warms, snapshots and restores a release in a folder of its own, tells it stage by
 * stage, and takes everything away again, however it ends. One check at a time in a place; another wish for the place, or none, breaks
 * off the one under way. What a killed head left is removed by the next one (`sweep`).
 */
export class Checker {
  private readonly ports: CheckPorts;
  private readonly next = new Map<string, CheckWish | null>();
  private readonly working = new Map<string, { readonly checkId: string; readonly cancel: AbortController }>();
  /** The last check of each place that has ended: its key stays until the conduit has heard of the end. */
  private readonly ended = new Map<string, string>();
  /** Names of the folders of checks under way. */
  private readonly folders = new Set<string>();
  private stopped = false;

  constructor(ports: CheckPorts) {
    this.ports = ports;
  }

  /** `place`: the key under which the wish stands; null: nobody waits for its check any more. */
  wish(place: string, wish: CheckWish | null): void {
    if (this.stopped) return;
    const work = this.working.get(place);
    if (wish !== null && (work?.checkId === wish.checkId || this.ended.get(place) === wish.checkId)) return;
    this.next.set(place, wish);
    if (work === undefined) void this.work(place);
    else work.cancel.abort();
  }

  stop(): void {
    this.stopped = true;
    this.next.clear();
    for (const { cancel } of this.working.values()) cancel.abort();
  }

  /**
   * Removes what belongs to no check under way: what an earlier head left. To be called at the start and a while later, for a snapshot
   * that was under way when that head died is finished all the same.
   */
  async sweep(): Promise<void> {
    const { folder, warn } = this.ports;
    try {
      const left = (await readdir(folder)).filter((name) => !this.folders.has(name));
      await Promise.all(left.map((name) => this.remove(`${folder}/${name}`)));
    } catch (failure) {
      if (codeOf(failure) !== 'ENOENT') warn('what earlier checks left cannot be seen', { failure });
    }
  }

  private async work(place: string): Promise<void> {
    for (let wish = this.next.get(place); wish !== undefined; wish = this.next.get(place)) {
      this.next.delete(place);
      this.ended.delete(place);
      if (wish === null) continue;
      const cancel = new AbortController();
      this.working.set(place, { checkId: wish.checkId, cancel });
      await this.check(wish, cancel.signal);
      this.working.delete(place);
      this.ended.set(place, wish.checkId);
    }
  }

  private async check(wish: CheckWish, cancelled: AbortSignal): Promise<void> {
    const { order } = wish;
    const name = this.ports.newFolderName();
    const folder = `${this.ports.folder}/${name}`;
    this.folders.add(name);
    const ports = this.ports.portsOf(wish, checkPaths(folder));
    const tell: TellStage = (stage, text, about = {}) =>
      ports.tell({ owner: order.owner, release: order.release, deployId: wish.checkId, kind: 'check', stage, text, ...about });
    try {
      await mkdir(folder, { recursive: true, mode: 0o755 });
      await this.prepare(wish, folder, ports, tell, cancelled);
    } catch (thrown) {
      if (!cancelled.aborted) tell('failed', `It could not ${wish.build === undefined ? 'serve' : 'be built'}: ${sentenceOf(thrown)}`, { code: codeOf(thrown) });
    } finally {
      this.folders.delete(name);
      await this.sweep();
    }
  }

  private async prepare(wish: CheckWish, folder: string, ports: DeployPorts, tell: TellStage, cancelled: AbortSignal): Promise<void> {
    for (let tries = 1; !cancelled.aborted; tries += 1) {
      try {
        await bringArtefact(wish.order, wish.artefactBytes, ports, tell);
        if (wish.build !== undefined) return await this.ports.build({ ...wish, build: wish.build }, { artefact: ports.paths.artefact(wish.order.artefactDigest), folder, ports, tell, cancelled });
        await this.ports.preparations.use(() => prepareRelease(wish.order, ports, tell, cancelled));
        return;
      } catch (thrown) {
        if (cancelled.aborted || !isPassing(thrown) || tries > retriesMax) throw thrown;
        this.ports.warn('a check waits and tries again', { checkId: wish.checkId, failure: thrown });
        await this.ports.sleepMs(retryMs);
      }
    }
  }

  /** By snapd, for much in it is root's. */
  private async remove(folder: string): Promise<void> {
    for (let tries = 1; !this.stopped; tries += 1) {
      try {
        return await this.ports.snapd.discard({ snapshotPath: folder });
      } catch (failure) {
        if (tries >= removalsMax) return this.ports.warn('what a check left is removed at the next start', { folder, failure });
        await this.ports.sleepMs(retryMs);
      }
    }
  }
}
