import { nsPerSecond } from '../../kit/units.ts';
import { seenWithinNs } from '../model/background.ts';
import { offeringOf, runsAlone } from '../model/orders.ts';
import { leaveByBootNs } from './caps.ts';
import { idleInstances } from './plan/plan.ts';
import { wantedInstances } from './plan/scale.ts';
import { holdsMemory, isComing } from './plan/view.ts';
import type { AppView, EdgepointView, IdleView, InstanceView, RoomView, ServingView } from './plan/view.ts';
import type { AppEntry, EdgepointEntry, InstanceEntry } from './state.ts';

/** What the planner is shown of the state. */

function viewInstance(entry: InstanceEntry, backgroundNs: number): InstanceView {
  return {
    id: entry.facts.id,
    release: entry.facts.release,
    mode: entry.facts.mode,
    purpose: entry.purpose,
    sinceBootNs: entry.facts.sinceBootNs,
    // However many accesses are open they ask for no second instance.
    outstanding: Math.max(entry.outstanding, Number(entry.accessed)),
    tunnels: entry.tunnels,
    // Its own work is use, but not for ever.
    lastActiveBootNs: Math.max(entry.lastActiveBootNs, Math.min(entry.workedBootNs, entry.lastActiveBootNs + backgroundNs)),
    memoryBytes: entry.memoryBytes,
    freezing: entry.freezing,
    cannotFreeze: entry.cannotFreeze,
  };
}

/** On an edgepoint that is drained an instance unused for so long goes to sleep: long enough for a client that asks again at once. */
const leaveAfterNs = nsPerSecond;

export function viewServing(app: AppEntry, draining: boolean): ServingView | null {
  const serving = app.serving;
  if (serving === null) return null;
  const { scale, state } = serving.order.manifest;
  return {
    release: serving.order.release,
    wakeBy: serving.facts.wakeBy,
    state,
    alone: runsAlone(serving.order),
    // Nobody is sent to it any more.
    min: app.stopped === '' && !draining ? scale.min : 0,
    max: scale.max,
    concurrency: scale.concurrency,
    idleNs: Math.max(Math.min(scale.idleSeconds * nsPerSecond, draining ? leaveAfterNs : Infinity), (scale.backgroundSeconds ?? 0) > 0 ? seenWithinNs : 0),
    memoryBytes: offeringOf(serving.order).memoryBytes,
    wakeMs: serving.facts.wakeBy === 'cold' ? serving.facts.coldBootMs : serving.facts.restoreMs,
    imageBytes: Math.max(serving.facts.imageBytes ?? serving.facts.templateBytes, app.kept?.imageBytes ?? app.kept?.bytes ?? 0),
    staysAwake: serving.facts.staysAwake,
    leaves: draining,
  };
}

/** Where the template of the release that serves lies; empty when there is none. */
export function templateAt(app: AppEntry, stored: ReadonlyMap<string, string>): '' | 'disk' | 'store' | 'both' {
  const facts = app.serving?.facts;
  if (facts === undefined || facts.snapshotPath === '') return '';
  if (facts.offDisk === true) return 'store';
  return stored.has(facts.snapshotPath.split('/').at(-1) ?? '') ? 'both' : 'disk';
}

export function viewApp(app: AppEntry, draining = false): AppView {
  const backoff = app.backoff;
  const refusal = app.refusal;
  const backgroundNs = backgroundNsOf(app);
  const refusedLonger = (refusal?.untilBootNs ?? 0) > (backoff?.untilBootNs ?? 0);
  return {
    app: app.key,
    serving: viewServing(app, draining),
    waiting: Math.max(app.waiting, Number(app.accessWaits)),
    waitingSinceBootNs: app.waitingSinceBootNs,
    paused: app.paused || app.held || (app.capStop?.reason ?? ''),
    ...(app.capStop === null ? {} : { leaveByBootNs: leaveByBootNs(app.capStop) }),
    surplusSinceBootNs: app.surplusSinceBootNs,
    notBeforeBootNs: Math.max(backoff?.untilBootNs ?? 0, refusal?.untilBootNs ?? 0),
    notBeforeReason: (refusedLonger ? refusal?.reason : backoff?.reason) ?? '',
    noSleepBeforeBootNs: app.noSleepBeforeBootNs,
    gapsNs: app.gapsNs,
    instances: [...app.instances.values()].map((entry) => viewInstance(entry, backgroundNs)),
  };
}

export function viewEdgepoint(state: EdgepointEntry, nowBootNs: number): EdgepointView {
  return { nowBootNs, capacityBytes: state.capacityBytes, frozenRoom: state.frozenRoom(), apps: [...state.apps.values()].map((app) => viewApp(app, state.draining)) };
}

/** As `roomOf` of the plan, but looks only at the apps that have instances. */
export function viewRoom(state: EdgepointEntry, nowBootNs: number): RoomView {
  let leavingBytes = 0;
  const idle: IdleView[] = [];
  for (const app of state.active) {
    for (const entry of app.instances.values()) if (entry.facts.mode === 'draining') leavingBytes += entry.memoryBytes;
    idle.push(...idleInstances(viewApp(app, state.draining), nowBootNs));
  }
  return { capacityBytes: state.capacityBytes, usedBytes: usedBytesOf(state), leavingBytes, frozenRoom: state.frozenRoom(), idle };
}

export function usedBytesOf(state: EdgepointEntry): number {
  let usedBytes = 0;
  for (const app of state.active) {
    for (const entry of app.instances.values()) if (holdsMemory(entry.facts.mode)) usedBytes += entry.memoryBytes;
  }
  return usedBytes;
}

/**
 * Keeps the time since when an app has had more instances than its load wants: than it wanted at any moment, for a crowd that comes and goes
 * between two tellings would have one put to sleep and woken again. One that still works, and may, is none too many.
 */
export function noteSurplus(app: AppEntry, nowBootNs: number, draining = false): void {
  const view = viewApp(app, draining);
  const peak = app.peak;
  app.peak = 0;
  if (view.serving === null) return;
  const have = view.instances.filter(
    (instance) => instance.purpose === 'serve' && (instance.mode === 'warm' || isComing(instance.mode)),
  ).length;
  if (have <= Math.max(wantedInstances(view, view.serving, peak), working(app, nowBootNs))) app.surplusSinceBootNs = null;
  else app.surplusSinceBootNs ??= nowBootNs;
}

function working(app: AppEntry, nowBootNs: number): number {
  const backgroundNs = backgroundNsOf(app);
  let count = 0;
  for (const { purpose, work, lastActiveBootNs, facts } of app.instances.values()) {
    if (purpose === 'serve' && facts.mode === 'warm' && work !== '' && nowBootNs < lastActiveBootNs + backgroundNs) count += 1;
  }
  return count;
}

/** Orders that were stored before there was such a word have none. */
const backgroundNsOf = ({ serving }: AppEntry): number => (serving?.order.manifest.scale.backgroundSeconds ?? 0) * nsPerSecond;
