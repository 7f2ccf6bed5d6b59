import type { AppView, InstanceView, ServingView } from '../../edgepoint/resources/plan/view.ts';

/** Small views for tables: what a row does not say is an app that sleeps, with room for 8 instances of 16 requests each. */
export const second = 1_000_000_000;
export const nowBootNs = 1000 * second;

export function serving(about: Partial<ServingView> = {}): ServingView {
  return {
    release: 1,
    wakeBy: 'template',
    state: 'template',
    alone: false,
    min: 0,
    max: 8,
    concurrency: 16,
    idleNs: 15 * second,
    memoryBytes: 512,
    wakeMs: 20,
    imageBytes: 512,
    staysAwake: '',
    ...about,
  };
}

export function instance(id: string, about: Partial<InstanceView> = {}): InstanceView {
  return {
    id,
    release: 1,
    mode: 'warm',
    purpose: 'serve',
    sinceBootNs: nowBootNs - 5 * second,
    outstanding: 0,
    tunnels: 0,
    lastActiveBootNs: nowBootNs - second,
    memoryBytes: 512,
    freezing: false,
    cannotFreeze: false,
    ...about,
  };
}

export function app(about: Partial<AppView> = {}): AppView {
  return {
    app: 'p.main.shop',
    serving: serving(),
    waiting: 0,
    waitingSinceBootNs: null,
    paused: '',
    surplusSinceBootNs: null,
    notBeforeBootNs: 0,
    notBeforeReason: '',
    noSleepBeforeBootNs: 0,
    gapsNs: [],
    instances: [],
    ...about,
  };
}

/** `wake template: why`, one line for each step and note. */
export function printPlan(plan: { steps: readonly { kind: string; reason: string; by?: string; instance?: string; regardless?: true }[]; notes: readonly string[]; lookAgainBootNs: number | null }): string {
  const lines = plan.steps.map((step) => `${[step.kind, step.by, step.instance].filter((word) => word !== undefined).join(' ')}${step.regardless === true ? ', whatever is under way' : ''}: ${step.reason}`);
  for (const note of plan.notes) lines.push(`note: ${note}`);
  if (plan.lookAgainBootNs !== null) lines.push(`look again in ${(plan.lookAgainBootNs - nowBootNs) / second} s`);
  return lines.join('\n');
}
