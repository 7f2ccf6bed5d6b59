import { isCanary, ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { nsPerSecond } from '../../kit/units.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { AnswerCounts, Demand } from '../model/calls.ts';
import { judgeCanary, rules } from './judge.ts';

/** A release that has served for so long, and answered enough, has proved itself. */
export const provesItselfNs = 60 * nsPerSecond;
/** After so long it is nobody's first moments any more, however little it was asked. */
export const watchedNsMax = 600 * nsPerSecond;
/** More are not watched at once: the one watched longest is given up. */
const watchedMax = 1000;

export interface NewReleaseWatchPorts {
  readonly bootNs: () => number;
  /** The release before is to serve again; `reason` is a sentence. Called once for a deploy. */
  stop(order: ReleaseOrder, reason: string, figures: Readonly<Record<string, number>>): void;
}

interface Watched {
  readonly order: ReleaseOrder;
  epoch: string;
  /** Totals when it was first told of in that epoch, and now. */
  first: AnswerCounts | null;
  latest: AnswerCounts | null;
  serving: Serving | null;
}

interface Serving {
  readonly sinceBootNs: number;
  /** Totals at its beginning; null until they have been told. */
  from: AnswerCounts | null;
  /** What the release before answered. */
  before: AnswerCounts;
}

/** Only that may be taken back which left nothing behind that the release before might not understand: no kept state and no volume. */
export const leavesNothing = ({ state, volume }: ReleaseOrder['manifest']): boolean => state === 'template' && volume.length === 0;

/**
 * Counts what a release answers in its first minute and, by the rule for canaries (`judge.ts`), says whether it is to be taken back. It has
 * nobody beside it: it is compared with what the one before answered since the deploy began, or, where that was too little, since the
 * dispatcher counts. A way back is watched by nobody, and a head that is restarted forgets what it watched.
 */
export class NewReleaseWatch {
  private readonly watched = new Map<string, Watched>();
  private readonly ports: NewReleaseWatchPorts;

  constructor(ports: NewReleaseWatchPorts) {
    this.ports = ports;
  }

  /** The conduit's wish; `servingRelease`: the one that serves meanwhile, null when there is none. */
  wanted(order: ReleaseOrder, servingRelease: number | null): void {
    if (isCanary(order.owner)) return;
    const key = ownerKey(order.owner);
    if (this.watched.get(key)?.order.deployId === order.deployId) return;
    this.watched.delete(key);
    // Orders that were stored before there was such a word say nothing.
    const watches = servingRelease !== null && order.release > servingRelease && order.manifest.takeBack !== false && leavesNothing(order.manifest);
    if (!watches) return;
    for (const longest of this.watched.keys()) if (this.watched.size >= watchedMax) this.watched.delete(longest);
    this.watched.set(key, { order, epoch: '', first: null, latest: null, serving: null });
  }

  /** It serves from now on. */
  serves(order: ReleaseOrder): void {
    const watched = this.watched.get(ownerKey(order.owner));
    if (watched === undefined || watched.serving !== null || watched.order.deployId !== order.deployId) return;
    watched.serving = { sinceBootNs: this.ports.bootNs(), from: watched.latest, before: countsBefore(watched) };
  }

  removed(owner: Owner): void {
    this.watched.delete(ownerKey(owner));
  }

  /** What the local dispatcher tells of an app. */
  note({ owner, epoch, answers }: Demand): void {
    const watched = this.watched.size === 0 || answers === undefined ? undefined : this.watched.get(ownerKey(owner));
    if (watched === undefined || answers === undefined) return;
    const { serving } = watched;
    if (watched.epoch !== epoch) {
      // Another dispatcher counts from nothing; what it counts while the release serves is all of it.
      if (serving !== null && watched.epoch !== '') serving.from = { answered: 0, failed: 0 };
      watched.epoch = epoch;
      watched.first = answers;
    }
    watched.latest = answers;
    if (serving === null) return;
    if (serving.from === null) {
      serving.from = answers;
      serving.before = answers;
    }
    this.look(watched, serving, less(answers, serving.from));
  }

  private look({ order }: Watched, { sinceBootNs, before }: Serving, counted: AnswerCounts): void {
    const servedNs = this.ports.bootNs() - sinceBootNs;
    const { stop, reason } = judgeCanary({ canary: counted, serving: before }, 'the release before');
    if (servedNs > watchedNsMax) return this.removed(order.owner);
    if (stop) {
      this.removed(order.owner);
      this.ports.stop(order, reason, { ...counted, beforeAnswered: before.answered, beforeFailed: before.failed });
    } else if (servedNs >= provesItselfNs && counted.answered >= rules.answersMin) this.removed(order.owner);
  }
}

function countsBefore({ first, latest }: Watched): AnswerCounts {
  if (first === null || latest === null) return { answered: 0, failed: 0 };
  const since = less(latest, first);
  return since.answered >= rules.answersMin ? since : latest;
}

const less = (counts: AnswerCounts, from: AnswerCounts): AnswerCounts => ({ answered: counts.answered - from.answered, failed: counts.failed - from.failed });
