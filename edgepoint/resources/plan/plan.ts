import { planAdmit } from './admit.ts';
import { planScale } from './scale.ts';
import type { ScalePlan } from './scale.ts';
import { planTier } from './tier.ts';
import { earliest, holdsMemory } from './view.ts';
import type { AppView, EdgepointView, IdleView, InstanceView, Plan, RoomView, Step } from './view.ts';

/** So long requests are held for memory that others use, who may be done soon; whoever asks later is told at once. */
const patienceNs = 10_000_000_000;
/** How long a refused app answers 503 before its next request is tried again. */
const refusalNs = 1_000_000_000;

const nothing: Plan = { steps: [], notes: [], lookAgainBootNs: null };

/**
 * The plan for one app: what it should have, and what of that the edgepoint can give. `room` is asked only when something is to
 * be started, for it looks at the other apps.
 */
export function planApp(view: AppView, nowBootNs: number, room: () => RoomView): Plan {
  const scale = withTier(view, planScale(view, nowBootNs), nowBootNs, room);
  if (scale.wakes.length === 0) {
    return scale.steps.length === 0 && scale.notes.length === 0 && scale.lookAgainBootNs === null ? nothing : scale;
  }
  const serving = view.serving;
  if (serving === null) return nothing;
  const steps: Step[] = [...scale.steps];
  const notes: string[] = [...scale.notes];
  let lookAgainBootNs = scale.lookAgainBootNs;
  let wantsRoom = false;
  const leaving = new Set(scale.steps.map((step) => (step.kind === 'sleep' || step.kind === 'end' ? step.instance : '')));
  let left = withLeaving(room(), view, leaving);
  const served = view.instances.some((instance) => instance.purpose === 'serve' && holdsMemory(instance.mode) && instance.mode !== 'draining' && !leaving.has(instance.id));
  for (const [index, wake] of scale.wakes.entries()) {
    const admission = planAdmit(left, view.app, serving.memoryBytes);
    if (admission.verdict === 'start') {
      steps.push({ kind: 'wake', app: view.app, module: admission.module, by: serving.wakeBy, reason: wake.reason });
      left = { ...left, usedBytes: left.usedBytes + serving.memoryBytes };
      continue;
    }
    notes.push(`${view.app}: ${admission.reason}`);
    wantsRoom = true;
    const patientUntilNs = view.waitingSinceBootNs === null ? 0 : view.waitingSinceBootNs + patienceNs;
    if (admission.verdict === 'wait') {
      for (const victim of admission.evict) {
        steps.push({ kind: 'sleep', app: victim.app, instance: victim.id, reason: `its memory is wanted for ${view.app}` });
      }
    } else if (index === 0 && !served && nowBootNs < patientUntilNs) {
      lookAgainBootNs = earliest(lookAgainBootNs, patientUntilNs);
    } else if (index === 0 && !served) {
      steps.push({ kind: 'refuse', app: view.app, untilBootNs: nowBootNs + refusalNs, reason: admission.reason });
      lookAgainBootNs = earliest(lookAgainBootNs, nowBootNs + refusalNs);
    }
    break;
  }
  return { steps, notes, lookAgainBootNs, ...(wantsRoom ? { wantsRoom } : {}) };
}

/** Where the one goes whose idle time is over. Several need not be held: of those that are, one is frozen at most. */
function withTier(view: AppView, scale: ScalePlan, nowBootNs: number, room: () => RoomView): ScalePlan {
  const { unused } = scale;
  const { serving } = view;
  if (unused === null || serving === null) return scale;
  if (nowBootNs < view.noSleepBeforeBootNs) return { ...scale, lookAgainBootNs: earliest(scale.lookAgainBootNs, view.noSleepBeforeBootNs) };
  const { instance, idleNs } = unused;
  if (serving.leaves === true) return { ...scale, steps: [...scale.steps, { kind: 'sleep', app: view.app, instance: instance.id, reason: 'the edgepoint is drained' }] };
  const frozen = instance.mode === 'frozen';
  const others = view.instances.some((other) => other.id !== instance.id && other.purpose === 'serve' && holdsMemory(other.mode));
  const { capacityBytes, usedBytes, frozenRoom } = room();
  const choice = planTier({
    idleNs,
    idleNsAllowed: serving.idleNs,
    wakeBy: serving.wakeBy,
    wakeMs: serving.wakeMs,
    imageBytes: serving.imageBytes,
    memoryBytes: instance.memoryBytes,
    gapsNs: view.gapsNs,
    load: usedBytes / capacityBytes,
    frozenRoom,
    others,
    frozen,
    cannotFreeze: instance.cannotFreeze,
  });
  const about = { app: view.app, instance: instance.id, reason: choice.reason };
  const lookAgainBootNs = choice.forNs === null ? scale.lookAgainBootNs : earliest(scale.lookAgainBootNs, nowBootNs + Math.max(1, choice.forNs));
  if (choice.tier === 'asleep') return { ...scale, steps: [...scale.steps, { kind: 'sleep', ...about }] };
  if (frozen) return { ...scale, notes: [...scale.notes, `${view.app}: ${instance.id} stays frozen: ${choice.reason}`], lookAgainBootNs };
  if (choice.tier === 'frozen') return { ...scale, steps: [...scale.steps, { kind: 'freeze', ...about }], lookAgainBootNs };
  return { ...scale, lookAgainBootNs };
}

/** The room once this plan's own steps have begun. */
function withLeaving(room: RoomView, view: AppView, leaving: ReadonlySet<string>): RoomView {
  let leavingBytes = room.leavingBytes;
  for (const instance of view.instances) if (leaving.has(instance.id)) leavingBytes += instance.memoryBytes;
  return { ...room, leavingBytes };
}

/** Instances of an app that may be put to sleep in favour of another's request. */
export function idleInstances(view: AppView, nowBootNs: number): IdleView[] {
  const serving = view.serving;
  if (serving === null || serving.staysAwake !== '' || view.waiting > 0 || nowBootNs < view.noSleepBeforeBootNs) return [];
  const isFrozen = (instance: InstanceView): boolean => instance.mode === 'frozen';
  const there = view.instances.filter((instance) => instance.purpose === 'serve' && (instance.mode === 'warm' || isFrozen(instance)));
  return there
    .filter((instance) => instance.outstanding === 0 && (instance.tunnels === 0 || serving.state === 'keep'))
    .toSorted((a, b) => Number(isFrozen(b)) - Number(isFrozen(a)) || a.lastActiveBootNs - b.lastActiveBootNs || (a.id < b.id ? -1 : 1))
    .slice(0, Math.max(0, there.length - serving.min))
    .map((instance) => ({ app: view.app, id: instance.id, memoryBytes: instance.memoryBytes, lastActiveBootNs: instance.lastActiveBootNs, frozen: isFrozen(instance) }));
}

export function roomOf(edgepoint: EdgepointView): RoomView {
  let usedBytes = 0;
  let leavingBytes = 0;
  const idle: IdleView[] = [];
  for (const view of edgepoint.apps) {
    if (view.instances.length === 0) continue;
    for (const instance of view.instances) {
      if (holdsMemory(instance.mode)) usedBytes += instance.memoryBytes;
      if (instance.mode === 'draining') leavingBytes += instance.memoryBytes;
    }
    idle.push(...idleInstances(view, edgepoint.nowBootNs));
  }
  return { capacityBytes: edgepoint.capacityBytes, usedBytes, leavingBytes, frozenRoom: edgepoint.frozenRoom, idle };
}

/**
 * Every app's plan in turn, each on the state that the ones before have left, for `explain`. The daemon asks `planApp` for the
 * apps that changed, and begins the steps of each before it looks at the next.
 */
export function planEdgepoint(edgepoint: EdgepointView): Plan {
  /** Only those that steps have changed: most apps sleep, and a look at one of them must cost next to nothing. */
  const changed = new Map<string, AppView>();
  const now = (view: AppView): AppView => (changed.size === 0 ? view : (changed.get(view.app) ?? view));
  let byName: Map<string, AppView> | null = null;
  let room: RoomView | null = null;
  const steps: Step[] = [];
  const notes: string[] = [];
  let lookAgainBootNs: number | null = null;
  for (const view of edgepoint.apps) {
    const plan = planApp(now(view), edgepoint.nowBootNs, () => (room ??= roomOf({ ...edgepoint, apps: edgepoint.apps.map(now) })));
    if (plan === nothing) continue;
    for (const step of plan.steps) {
      byName ??= new Map(edgepoint.apps.map((one) => [one.app, one]));
      const before = changed.get(step.app) ?? byName.get(step.app);
      if (before !== undefined) changed.set(step.app, afterStep(before, step, edgepoint.nowBootNs, `new-${steps.length}`));
      steps.push(step);
      room = null;
    }
    notes.push(...plan.notes);
    lookAgainBootNs = earliest(lookAgainBootNs, plan.lookAgainBootNs);
  }
  return { steps, notes, lookAgainBootNs };
}

/**
 * The state right after a plan's steps have begun: what the executor's first, synchronous half does. The properties are proved
 * against it, and `explain` shows it.
 */
export function afterPlan(edgepoint: EdgepointView, plan: Plan, newId: (index: number) => string): EdgepointView {
  const apps = new Map(edgepoint.apps.map((view) => [view.app, view]));
  for (const [index, step] of plan.steps.entries()) {
    const view = apps.get(step.app);
    if (view === undefined) continue;
    apps.set(step.app, afterStep(view, step, edgepoint.nowBootNs, newId(index)));
  }
  return { ...edgepoint, apps: [...apps.values()] };
}

function afterStep(view: AppView, step: Step, nowBootNs: number, id: string): AppView {
  if (step.kind === 'refuse') return { ...view, waiting: 0, waitingSinceBootNs: null, notBeforeBootNs: step.untilBootNs, notBeforeReason: step.reason };
  if (step.kind !== 'wake') {
    const mode = step.kind === 'thaw' ? ('restoring' as const) : ('draining' as const);
    const instances = view.instances.map((instance) =>
      instance.id === step.instance ? { ...instance, mode, sinceBootNs: nowBootNs, freezing: step.kind === 'freeze' } : instance,
    );
    return { ...view, instances };
  }
  const started: InstanceView = {
    id,
    release: view.serving?.release ?? 0,
    mode: step.by === 'cold' ? 'booting' : 'restoring',
    purpose: 'serve',
    sinceBootNs: nowBootNs,
    outstanding: 0,
    tunnels: 0,
    lastActiveBootNs: nowBootNs,
    memoryBytes: view.serving?.memoryBytes ?? 0,
    freezing: false,
    cannotFreeze: false,
  };
  return { ...view, instances: [...view.instances, started] };
}
