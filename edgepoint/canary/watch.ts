import { canaryOf, isCanary, ownerKey, servedBy } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { nsPerSecond } from '../../kit/units.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { AnswerCounts, Demand } from '../model/calls.ts';
import { judgeCanary, rules } from './judge.ts';

/** A canary is judged by one to two of these, so that a long good time does not outweigh a bad end. */
const windowNs = 60 * nsPerSecond;

export interface CanaryWatchPorts {
  readonly bootNs: () => number;
  /** It is to get no request any more; `reason` is a sentence. Called once for a deploy of a canary. */
  stop(canary: Owner, reason: string, figures: Readonly<Record<string, number>>): void;
}

type Side = 'canary' | 'serving';
type Totals = Record<Side, AnswerCounts>;

interface Watched {
  readonly deployId: string;
  epoch: string;
  /** Totals of that epoch; null until they have been told. */
  latest: Record<Side, AnswerCounts | null>;
  /** Totals at the beginning of the window before, and of this one; null: both sides have not been told yet. */
  before: Totals | null;
  current: Totals | null;
  currentBootNs: number;
}

/** Counts what canaries and the releases beside them answer, and says which are to be stopped. Remembers only apps with a canary. */
export class CanaryWatch {
  private readonly watched = new Map<string, Watched>();
  private readonly ports: CanaryWatchPorts;

  constructor(ports: CanaryWatchPorts) {
    this.ports = ports;
  }

  /** A release serves from now on; of a canary it is counted, again from nothing for another deploy. */
  serves({ owner, deployId }: ReleaseOrder): void {
    if (!isCanary(owner)) return;
    const key = ownerKey(servedBy(owner));
    if (this.watched.get(key)?.deployId === deployId) return;
    this.watched.set(key, { deployId, epoch: '', latest: { canary: null, serving: null }, before: null, current: null, currentBootNs: 0 });
  }

  removed(owner: Owner): void {
    if (isCanary(owner)) this.watched.delete(ownerKey(servedBy(owner)));
  }

  /** What the local dispatcher tells of an app. */
  note({ owner, epoch, answers }: Demand): void {
    if (this.watched.size === 0 || answers === undefined) return;
    const side = isCanary(owner) ? 'canary' : 'serving';
    const watched = this.watched.get(ownerKey(side === 'canary' ? servedBy(owner) : owner));
    if (watched === undefined) return;
    // Another dispatcher counts from nothing.
    if (watched.epoch !== epoch) Object.assign(watched, { epoch, latest: { canary: null, serving: null }, before: null, current: null });
    watched.latest[side] = answers;
    const { canary, serving } = watched.latest;
    if (canary !== null && serving !== null) this.look(canaryOf(owner), watched, { canary, serving });
  }

  private look(canary: Owner, watched: Watched, latest: Totals): void {
    const nowBootNs = this.ports.bootNs();
    const { current } = watched;
    if (current === null) {
      watched.before = watched.current = latest;
      watched.currentBootNs = nowBootNs;
      return;
    }
    const since = (from: Totals): Totals => ({ canary: less(latest.canary, from.canary), serving: less(latest.serving, from.serving) });
    const counted = since(watched.before ?? current);
    const { stop, reason } = judgeCanary(counted);
    if (stop) {
      const { answered, failed } = counted.canary;
      this.watched.delete(ownerKey(servedBy(canary)));
      this.ports.stop(canary, reason, { answered, failed, servingAnswered: counted.serving.answered, servingFailed: counted.serving.failed });
      return;
    }
    if (nowBootNs - watched.currentBootNs < windowNs || since(current).canary.answered < rules.answersMin) return;
    watched.before = current;
    watched.current = latest;
    watched.currentBootNs = nowBootNs;
  }
}

const less = (counts: AnswerCounts, from: AnswerCounts): AnswerCounts => ({ answered: counts.answered - from.answered, failed: counts.failed - from.failed });
