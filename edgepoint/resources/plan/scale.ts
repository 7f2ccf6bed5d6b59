import { earliest, isComing } from './view.ts';
import type { AppView, InstanceView, Plan, ServingView, Step } from './view.ts';

/**
 * How many instances of one app there should be, and whether one may sleep. Knows nothing of memory: `admit` judges the wakes.
 *
 * The rules are asked in turn for every change of an app; each adds steps or a note, and none looks at another's steps.
 */
export interface ScalePlan extends Plan {
  /** The one whose idle time is over, which leaves for the tier that `tier.ts` says; null when there is none. */
  readonly unused: { readonly instance: InstanceView; readonly idleNs: number } | null;
  /** Instances that should be started now; `steps` only holds those to end or put to sleep. */
  readonly wakes: readonly { readonly reason: string }[];
}

const nothing: ScalePlan = { steps: [], notes: [], wakes: [], unused: null, lookAgainBootNs: null };

/** Instances the load wants: enough for what waits and what is under way, or for `peak` requests, within the manifest's bounds. */
export function wantedInstances(view: AppView, serving: ServingView, peak = 0): number {
  const forLoad = Math.ceil(Math.max(loadOf(view), peak) / serving.concurrency);
  const most = serving.alone ? Math.min(1, serving.max) : serving.max;
  return Math.max(Math.min(forLoad, most), Math.min(serving.min, most));
}

/** Requests that wait or are under way. */
function loadOf(view: AppView): number {
  let load = view.waiting;
  for (const instance of view.instances) if (serves(instance) && instance.mode === 'warm') load += instance.outstanding;
  return load;
}

function serves(instance: InstanceView): boolean {
  return instance.purpose === 'serve';
}

/** Nothing under way. An upgraded connection sleeps with an app that keeps its state, and counts as under way elsewhere. */
function isUnused(instance: InstanceView, serving: ServingView): boolean {
  return instance.outstanding === 0 && (instance.tunnels === 0 || serving.state === 'keep');
}

function idleSince(instance: InstanceView): number {
  return Math.max(instance.lastActiveBootNs, instance.sinceBootNs);
}

export function planScale(view: AppView, nowBootNs: number): ScalePlan {
  const serving = view.serving;
  if (serving === null) return nothing;
  if (view.waiting === 0 && view.instances.length === 0 && serving.min === 0) return nothing;

  const { ours, warm, coming, frozen, leaving, oldWarm } = groupsOf(view, serving);
  const wanted = wantedInstances(view, serving);
  const have = warm.length + coming.length;
  // Most of those that run are just what is wanted.
  if (have === wanted && view.paused === '' && frozen.length === 0 && oldWarm.length === 0) return nothing;

  const steps: Step[] = [];
  const notes: string[] = [];
  const wakes: { reason: string }[] = [];
  let lookAgainBootNs: number | null = null;

  if (view.paused !== '') {
    const notYet = nowBootNs < view.noSleepBeforeBootNs && ours.some(rests);
    if (notYet) return { ...nothing, notes: [`${view.app}: ${view.paused}`], lookAgainBootNs: view.noSleepBeforeBootNs };
    const regardless = view.leaveByBootNs !== undefined && nowBootNs >= view.leaveByBootNs ? { regardless: true as const } : {};
    for (const instance of ours) {
      if (rests(instance)) steps.push({ kind: 'sleep', app: view.app, instance: instance.id, reason: view.paused, ...regardless });
    }
    return { ...nothing, steps, notes: [`${view.app}: ${view.paused}`] };
  }

  const replace = planReplace({ view, serving, oldWarm, warm, coming });
  steps.push(...replace.steps);
  const allMissing = Math.max(wanted, replace.wanted) - have;
  /* One that stands still is back before anything could be read from the disk; it needs no memory that is not promised to it. */
  const thawed = frozen.slice(0, Math.max(0, allMissing));
  const thawReason = wakeReason({ view, serving, have, wanted, replace: replace.reason });
  for (const instance of thawed) steps.push({ kind: 'thaw', app: view.app, instance: instance.id, reason: thawReason });
  const missing = allMissing - thawed.length;

  if (missing > 0) {
    const obstacle = obstacleToWake({ view, serving, ours, nowBootNs });
    if (obstacle === null) {
      const reason = wakeReason({ view, serving, have, wanted, replace: replace.reason });
      for (let count = 0; count < missing; count += 1) wakes.push({ reason });
    } else {
      notes.push(`${view.app}: wants ${missing} more, but ${obstacle.reason}`);
      lookAgainBootNs = earliest(lookAgainBootNs, obstacle.untilBootNs);
    }
  }

  const sleep = planSleep({ view, serving, warm, have, wanted, leaving: leaving.length, nowBootNs });
  steps.push(...sleep.steps);
  notes.push(...sleep.notes);
  const [longestFrozen] = frozen.slice(thawed.length).toReversed();
  const unused = sleep.unused ?? (longestFrozen === undefined || leaving.length > 0 ? null : { instance: longestFrozen, idleNs: nowBootNs - longestFrozen.lastActiveBootNs });
  return { steps, notes, wakes, unused, lookAgainBootNs: earliest(lookAgainBootNs, sleep.lookAgainBootNs) };
}

/** Instances that serve, by what they can do for the release that serves; in one pass, for this is asked at every change of an app. */
interface Groups {
  readonly ours: readonly InstanceView[];
  readonly warm: readonly InstanceView[];
  readonly coming: readonly InstanceView[];
  /** The one used last first. */
  readonly frozen: readonly InstanceView[];
  readonly leaving: readonly InstanceView[];
  /** At rest, and of another release. */
  readonly oldWarm: readonly InstanceView[];
}

function groupsOf(view: AppView, serving: ServingView): Groups {
  const ours: InstanceView[] = [];
  const warm: InstanceView[] = [];
  const coming: InstanceView[] = [];
  const frozen: InstanceView[] = [];
  const leaving: InstanceView[] = [];
  const oldWarm: InstanceView[] = [];
  for (const instance of view.instances) {
    if (!serves(instance)) continue;
    ours.push(instance);
    const isCurrent = instance.release === serving.release;
    if (instance.mode === 'draining') leaving.push(instance);
    else if (!isCurrent && rests(instance)) oldWarm.push(instance);
    else if (isCurrent && instance.mode === 'warm') warm.push(instance);
    else if (isCurrent && instance.mode === 'frozen') frozen.push(instance);
    else if (isCurrent && isComing(instance.mode)) coming.push(instance);
  }
  if (frozen.length > 1) frozen.sort((a, b) => idleSince(b) - idleSince(a) || compareIds(a, b));
  return { ours, warm, coming, frozen, leaving, oldWarm };
}

/** Running with nobody's help, or standing still: it can be told to go. */
function rests(instance: InstanceView): boolean {
  return instance.mode === 'warm' || instance.mode === 'frozen';
}

/** An old release's instances serve until one of the new is warm; those that nobody uses end at once. */
function planReplace(about: {
  view: AppView;
  serving: ServingView;
  oldWarm: readonly InstanceView[];
  warm: readonly InstanceView[];
  coming: readonly InstanceView[];
}): { steps: Step[]; wanted: number; reason: string } {
  const { view, serving, oldWarm, warm } = about;
  const steps: Step[] = [];
  let wanted = 0;
  let reason = '';
  for (const old of oldWarm) {
    if (warm.length > 0 || serving.alone || isUnused(old, serving)) {
      steps.push({ kind: 'end', app: view.app, instance: old.id, reason: `release ${serving.release} has replaced release ${old.release}` });
    } else {
      wanted = 1;
      reason = `release ${serving.release} takes over from release ${old.release}`;
    }
  }
  return { steps, wanted, reason };
}

function obstacleToWake(about: {
  view: AppView;
  serving: ServingView;
  ours: readonly InstanceView[];
  nowBootNs: number;
}): { reason: string; untilBootNs: number | null } | null {
  const { view, serving, ours, nowBootNs } = about;
  const freezing = ours.find((instance) => instance.mode === 'draining' && instance.freezing);
  if (freezing !== undefined) return { reason: `${freezing.id} is just being frozen, and is back sooner than another`, untilBootNs: null };
  if (nowBootNs < view.notBeforeBootNs) return { reason: view.notBeforeReason, untilBootNs: view.notBeforeBootNs };
  // Also one that has ended counts until its box is gone: its volume is mounted there, its address is taken.
  const busy = serving.alone ? ours[0] : undefined;
  if (busy !== undefined) return { reason: `it runs one at a time and ${busy.id} is ${busy.mode}`, untilBootNs: null };
  return null;
}

function wakeReason(about: { view: AppView; serving: ServingView; have: number; wanted: number; replace: string }): string {
  const { view, serving, have, wanted, replace } = about;
  if (have === 0 && view.waiting > 0) return `${view.waiting} waiting and none warm`;
  if (replace !== '') return replace;
  if (have < serving.min) return `its manifest wants at least ${serving.min}`;
  return `${loadOf(view)} waiting or under way want ${wanted} instances of ${serving.concurrency} each, and there are ${have}`;
}

/** One at a time, the one that has been unused longest, when its idle time is over or there have been too many for as long. */
function planSleep(about: {
  view: AppView;
  serving: ServingView;
  warm: readonly InstanceView[];
  have: number;
  wanted: number;
  leaving: number;
  nowBootNs: number;
}): Plan & Pick<ScalePlan, 'unused'> {
  const { view, serving, warm, have, wanted, leaving, nowBootNs } = about;
  if (have <= wanted || warm.length === 0) return nothing;
  if (serving.staysAwake !== '') return { ...nothing, notes: [`${view.app}: stays awake: ${serving.staysAwake}`] };
  if (leaving > 0) return { ...nothing, notes: [`${view.app}: one goes to sleep already; one by one`] };
  const [longest] = warm.filter((instance) => isUnused(instance, serving)).toSorted((a, b) => idleSince(a) - idleSince(b) || compareIds(a, b));
  if (longest === undefined) return nothing;
  const unusedDueNs = idleSince(longest) + serving.idleNs;
  const surplusDueNs = view.surplusSinceBootNs === null ? Infinity : view.surplusSinceBootNs + serving.idleNs;
  const dueNs = Math.max(Math.min(unusedDueNs, surplusDueNs), view.noSleepBeforeBootNs);
  if (dueNs > nowBootNs) return { ...nothing, lookAgainBootNs: dueNs };
  /* The last one is no surplus of others: where it belongs is for `tier.ts` to say, as for any that is unused. */
  if (unusedDueNs <= nowBootNs || have === 1) return { ...nothing, unused: { instance: longest, idleNs: nowBootNs - Math.min(idleSince(longest), view.surplusSinceBootNs ?? nowBootNs) } };
  const reason = `${have} there and ${wanted} wanted for ${seconds(nowBootNs - (view.surplusSinceBootNs ?? nowBootNs))}`;
  return { ...nothing, steps: [{ kind: 'sleep', app: view.app, instance: longest.id, reason }] };
}

function compareIds(one: InstanceView, other: InstanceView): number {
  return one.id < other.id ? -1 : Number(one.id > other.id);
}

function seconds(ns: number): string {
  return `${(ns / 1_000_000_000).toFixed(1)} s`;
}
