import { nsPerSecond } from '../kit/units.ts';
import { planEdgepoint } from '../edgepoint/resources/plan/plan.ts';
import { planScale } from '../edgepoint/resources/plan/scale.ts';
import type { AppView, InstanceView } from '../edgepoint/resources/plan/view.ts';
import type { Report } from './report.ts';
import { median, percentile, rounded } from './statistics.ts';

const apps = 10_000;
const awake = 50;
const nowBootNs = 1000 * nsPerSecond;

/** How long the planner thinks about an edgepoint with 10,000 apps of which 50 are awake: a request waits for it. */
export function run({ quick }: { quick: boolean }): Promise<Report> {
  const views = Array.from({ length: apps }, (_, index) => viewOf(index, index % (apps / awake) === 0));
  const allAwake = Array.from({ length: apps }, (_, index) => viewOf(index, true));
  const edgepoint = { nowBootNs, capacityBytes: 2 ** 40, frozenRoom: { zramBytes: null, pagerBytes: null }, apps: views };
  const rounds = quick ? 100 : 1000;
  const timed = (work: () => unknown): number[] =>
    Array.from({ length: rounds }, () => {
      const begunMs = performance.now();
      work();
      return performance.now() - begunMs;
    });
  const scaleAll = (list: readonly AppView[]): number => list.reduce((steps, view) => steps + planScale(view, nowBootNs).steps.length, 0);
  const cases = [
    { name: 'planScale, one after the other, 50 awake', ms: timed(() => scaleAll(views)) },
    { name: 'planScale, one after the other, all awake', ms: timed(() => scaleAll(allAwake)) },
    { name: 'planEdgepoint, 50 awake', ms: timed(() => planEdgepoint(edgepoint)) },
  ];
  const [scale, scaleAwake, whole] = cases.map(({ ms }) => median(ms));
  return Promise.resolve({
    bench: 'decide',
    ratios: {},
    figures: { apps, n: rounds, planScaleMsP50: rounded(scale ?? 0, 3), planScaleAllAwakeMsP50: rounded(scaleAwake ?? 0, 3), planEdgepointMsP50: rounded(whole ?? 0, 3) },
    rows: cases.map(({ name, ms }) => ({ [`${apps} apps`]: name, 'p50 ms': rounded(median(ms), 3), 'p99 ms': rounded(percentile(ms, 0.99), 3) })),
    notes: [],
  });
}

function viewOf(index: number, isAwake: boolean): AppView {
  const instance: InstanceView = {
    id: `i-${index}`,
    release: 1,
    mode: 'warm',
    purpose: 'serve',
    sinceBootNs: nowBootNs - 60 * nsPerSecond,
    outstanding: index % 20,
    tunnels: 0,
    lastActiveBootNs: nowBootNs - (index % 30) * nsPerSecond,
    memoryBytes: 2 ** 29,
    freezing: false,
    cannotFreeze: false,
  };
  return {
    app: `provider-${index % 100}.main.app-${index}`,
    serving: { release: 1, wakeBy: 'template', state: 'template', alone: false, min: 0, max: 8, concurrency: 16, idleNs: 15 * nsPerSecond, memoryBytes: 2 ** 29, wakeMs: 20, imageBytes: 11e6, staysAwake: '' },
    waiting: isAwake ? index % 3 : 0,
    waitingSinceBootNs: isAwake && index % 3 > 0 ? nowBootNs - nsPerSecond : null,
    paused: '',
    surplusSinceBootNs: null,
    notBeforeBootNs: 0,
    notBeforeReason: '',
    noSleepBeforeBootNs: 0,
    gapsNs: [],
    instances: isAwake ? [instance] : [],
  };
}
